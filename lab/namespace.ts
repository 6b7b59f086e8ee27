/**
 * A site's own network and mounts: a named network namespace, and a process that holds a private mount
 * namespace.
 *
 * /run and libvirt's directories are bound over in it, so two libvirtd on one machine share nothing but the
 * kernel, and neither finds the machine's services. Every other path is the same inside and outside. Mounts
 * made inside never reach the machine; they end with the holder and the last process of the site.
 */
import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from './command.ts';
import { startDaemon } from './daemon.ts';
import { type ProcessIdentity } from './processes.ts';

/** Directory of the site that is bound, and where. */
const PRIVATE = [
  ['run', '/run'],
  ['etc', '/etc/libvirt'],
  ['lib', '/var/lib/libvirt'],
  ['log', '/var/log/libvirt'],
  ['cache', '/var/cache/libvirt'],
] as const;

/** The new sysfs shows the namespace's own network devices, which is where libvirt looks for its bridges. */
const HOLD = `set -e
mount -t sysfs sysfs /sys
while [ $# -gt 0 ]; do mount --bind "$1" "$2"; shift 2; done
ip link set lo up
: >"$READY"
exec sleep infinity`;

export function networkPath(name: string): string {
  return `/run/netns/${name}`;
}

export async function createNetwork(name: string): Promise<void> {
  if (!existsSync(networkPath(name))) await run(['ip', 'netns', 'add', name]);
}

/**
 * What libvirt left behind, as a machine that starts again forgets it: bridges, taps, rules. Links to sites
 * stay.
 */
export async function forgetInterfaces(name: string): Promise<void> {
  const enter = ['nsenter', `--net=${networkPath(name)}`, '--'];
  const { stdout } = await run([...enter, 'ip', '-j', 'link', 'show']);
  for (const { ifname } of JSON.parse(stdout) as { ifname: string }[]) {
    if (ifname !== 'lo' && !ifname.startsWith('wan-')) await run([...enter, 'ip', 'link', 'delete', ifname]);
  }
  await run([...enter, 'nft', 'flush', 'ruleset']);
}

/** Its interfaces go with it, and so do the other ends of its links. */
export async function deleteNetwork(name: string): Promise<void> {
  if (existsSync(networkPath(name))) await run(['ip', 'netns', 'delete', name]);
}

/** Names of the network namespaces that begin with `prefix`. */
export async function listNetworks(prefix: string): Promise<string[]> {
  const { stdout } = await run(['ip', 'netns', 'list']);
  const names = stdout.split('\n').map((line) => line.split(' ')[0] ?? '');
  return names.filter((name) => name.startsWith(prefix));
}

/** Starts the holder and returns when all mounts are in place. `directory` is the site's. */
export async function holdMounts(name: string, directory: string): Promise<ProcessIdentity> {
  for (const name of ['libvirt', 'antipode', 'lock']) {
    await mkdir(join(directory, 'run', name), { recursive: true });
  }
  const pairs: string[] = [];
  for (const [own, path] of PRIVATE) {
    await mkdir(join(directory, own), { recursive: true });
    await mkdir(path, { recursive: true });
    pairs.push(join(directory, own), path);
  }
  const ready = join(directory, 'holder.ready');
  const unshare = ['unshare', '--mount', '--propagation', 'slave', '--', 'sh', '-c', HOLD, 'sh', ...pairs];
  return startDaemon({
    argv: ['nsenter', `--net=${networkPath(name)}`, '--', ...unshare],
    log: join(directory, 'logs', 'holder.log'),
    env: { READY: ready },
    readyFile: ready,
  });
}

/** The words that put a command inside the site. */
export function enterSite(name: string, holder: ProcessIdentity): string[] {
  return ['nsenter', `--net=${networkPath(name)}`, `--mount=/proc/${holder.pid}/ns/mnt`, '--'];
}
