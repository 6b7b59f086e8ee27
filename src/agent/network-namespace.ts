/**
 * Network namespaces of ours on this host, joined to bridges by veth pairs. Found by their names after a crash; each
 * step may have been done before. Their ends at the bridges are ports and nothing else: no address of the host.
 */
import { runTool } from './run-tool.ts';

export type BridgePort = {
  bridge: string;
  /** Name of the veth end at the bridge; the other end has it too, in the namespace. At most 15 bytes. */
  device: string;
};

const DIRECTORY = '/run/netns';
/** Duplicate address detection would lose the first packets, and nobody else has these addresses. */
const NO_DETECTION = 'ipv6/conf/default/accept_dad=0';

export async function ensureNamespace(name: string): Promise<void> {
  if (!(await namespaces()).includes(name)) await runTool('ip', ['netns', 'add', name]);
  await setInNamespace(name, NO_DETECTION);
  await inNamespace(name, ['ip', 'link', 'set', 'lo', 'up']);
}

/** The veth pairs go with their ends in the namespace. Nothing happens when it is gone already. */
export async function removeNamespace(name: string): Promise<void> {
  if ((await namespaces()).includes(name)) await runTool('ip', ['netns', 'delete', name]);
}

export async function attachNamespace(name: string, { bridge, device }: BridgePort): Promise<void> {
  const links = JSON.parse(await runTool('ip', ['-j', 'link', 'show'])) as { ifname: string }[];
  if (!links.some(({ ifname }) => ifname === device)) {
    await runTool('ip', ['link', 'add', device, 'type', 'veth', 'peer', 'name', device, 'netns', name]);
  }
  await runTool('ip', ['link', 'set', device, 'addrgenmode', 'none']);
  await runTool('ip', ['link', 'set', device, 'master', bridge, 'up']);
  await inNamespace(name, ['ip', 'link', 'set', device, 'up']);
}

/** Address with prefix length. */
export async function giveAddress(name: string, device: string, address: string): Promise<void> {
  await inNamespace(name, ['ip', 'address', 'replace', address, 'dev', device]);
}

/** A path below /proc/sys/net and its value; what this kernel has not is left. */
export async function setInNamespace(name: string, setting: string): Promise<void> {
  const [path, value] = setting.split('=');
  const file = `/proc/sys/net/${path}`;
  await inNamespace(name, ['sh', '-c', `[ ! -e ${file} ] || echo ${value} >${file}`]);
}

export async function namespaces(): Promise<string[]> {
  const listed = await runTool('ip', ['netns', 'list']);
  return listed
    .split('\n')
    .map((line) => line.split(' ')[0] ?? '')
    .filter((name) => name !== '');
}

/** Its standard output. */
export function inNamespace(name: string, argv: readonly string[], signal?: AbortSignal): Promise<string> {
  return runTool('nsenter', [`--net=${DIRECTORY}/${name}`, '--', ...argv], signal);
}
