/** What of a guest's files says how its network is configured; read in full before anything is decided. */
import { NAMES_MAX, refused, type FileKind, type GuestTree } from './guest-tree.ts';

export const INTERFACES = '/etc/network/interfaces';
export const NETPLAN_DIRECTORY = '/etc/netplan';
export const RESOLVER = '/etc/resolv.conf';

export type GuestFacts = {
  /** Texts by their paths: those that are read by the tools that the guest has. */
  netplan: ReadonlyMap<string, string>;
  interfaces: ReadonlyMap<string, string>;
  /** Rules of udev and of systemd that name interfaces. */
  names: ReadonlyMap<string, string>;
  hosts: string | undefined;
  hasNetplan: boolean;
  hasIfupdown: boolean;
  hasNetworkManager: boolean;
  hasCloudInit: boolean;
  resolver: FileKind;
};

const PROGRAMS = ['/usr/sbin', '/sbin', '/usr/bin', '/bin'];

export async function readFacts(tree: GuestTree): Promise<GuestFacts> {
  const interfaces = await textsIn(tree, `${INTERFACES}.d`, /^[\w.-]+$/);
  if ((await tree.kind(INTERFACES)) !== 'none') interfaces.set(INTERFACES, await tree.read(INTERFACES));
  const rules = await textsIn(tree, '/etc/udev/rules.d', /net.*\.rules$/);
  const links = await textsIn(tree, '/etc/systemd/network', /\.link$/);
  return {
    netplan: await textsIn(tree, NETPLAN_DIRECTORY, /\.yaml$/),
    interfaces,
    names: new Map([...rules, ...links].slice(0, NAMES_MAX)),
    hosts: (await tree.kind('/etc/hosts')) === 'file' ? await tree.read('/etc/hosts') : undefined,
    hasNetplan: await hasProgram(tree, 'netplan'),
    hasIfupdown: await hasProgram(tree, 'ifup'),
    hasNetworkManager: await hasProgram(tree, 'NetworkManager'),
    hasCloudInit: (await tree.kind('/etc/cloud/cloud.cfg')) === 'file',
    resolver: await tree.kind(RESOLVER),
  };
}

async function textsIn(tree: GuestTree, directory: string, wanted: RegExp): Promise<Map<string, string>> {
  const texts = new Map<string, string>();
  for (const name of await tree.list(directory)) {
    if (!wanted.test(name)) continue;
    const path = `${directory}/${name}`;
    // What is linked from elsewhere would be replaced by a file, and the other place would not know.
    if ((await tree.kind(path)) === 'link') {
      if (directory.startsWith('/etc/udev') || directory.startsWith('/etc/systemd')) continue;
      throw refused(`${path} is a link`, 'Make it a file in the guest.');
    }
    texts.set(path, await tree.read(path));
  }
  return texts;
}

async function hasProgram(tree: GuestTree, name: string): Promise<boolean> {
  for (const directory of PROGRAMS) if ((await tree.kind(`${directory}/${name}`)) !== 'none') return true;
  return false;
}
