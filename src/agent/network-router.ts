/**
 * A router between isolated networks: a network namespace with one end of a veth pair for each, which forwards between
 * them. It has no other interface, so nothing else can be reached through it, and the host has no address on it.
 */
import { runTool } from './run-tool.ts';

export type RouterPort = {
  bridge: string;
  /** The gateway's address with its prefix length, as the guests of that network know it. */
  address: string;
  /** Name of the veth end at the bridge; the other end has it too, in the namespace. */
  device: string;
};

const DIRECTORY = '/run/netns';

/** Each step may have been done before. */
export async function ensureRouter(name: string, ports: readonly RouterPort[]): Promise<void> {
  if (!(await namespaces()).includes(name)) await runTool('ip', ['netns', 'add', name]);
  // A tie between IPv6's duplicate address detection and a first packet would lose the packet.
  const settings = ['ipv4/ip_forward=1', 'ipv6/conf/all/forwarding=1', 'ipv6/conf/default/accept_dad=0'];
  for (const setting of settings) {
    const [path, value] = setting.split('=');
    await inNamespace(name, [
      'sh',
      '-c',
      `[ ! -e /proc/sys/net/${path} ] || echo ${value} >/proc/sys/net/${path}`,
    ]);
  }
  await inNamespace(name, ['ip', 'link', 'set', 'lo', 'up']);
  for (const port of ports) await ensurePort(name, port);
}

/** The veth pairs go with their ends in the namespace. */
export async function removeRouter(name: string): Promise<void> {
  if ((await namespaces()).includes(name)) await runTool('ip', ['netns', 'delete', name]);
}

async function ensurePort(name: string, { bridge, address, device }: RouterPort): Promise<void> {
  if (!(await hasDevice(device))) {
    await runTool('ip', ['link', 'add', device, 'type', 'veth', 'peer', 'name', device, 'netns', name]);
  }
  // The host's end is a port of the bridge and nothing else: no address of its own, not even a link-local one.
  await runTool('ip', ['link', 'set', device, 'addrgenmode', 'none']);
  await runTool('ip', ['link', 'set', device, 'master', bridge, 'up']);
  await inNamespace(name, ['ip', 'address', 'replace', address, 'dev', device]);
  await inNamespace(name, ['ip', 'link', 'set', device, 'up']);
}

async function hasDevice(device: string): Promise<boolean> {
  const links = JSON.parse(await runTool('ip', ['-j', 'link', 'show'])) as { ifname: string }[];
  return links.some(({ ifname }) => ifname === device);
}

async function namespaces(): Promise<string[]> {
  const listed = await runTool('ip', ['netns', 'list']);
  return listed.split('\n').map((line) => line.split(' ')[0] ?? '');
}

async function inNamespace(name: string, argv: readonly string[]): Promise<void> {
  await runTool('nsenter', [`--net=${DIRECTORY}/${name}`, '--', ...argv]);
}
