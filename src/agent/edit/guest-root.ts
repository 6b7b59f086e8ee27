/** Which of a VM's file systems its guest starts from. What cannot be opened is named. */
import { Failure } from '#/lib/failure.ts';
import type { Appliance } from './appliance.ts';
import { MountedTree, refused, type GuestTree } from './guest-tree.ts';

const OPENED = new Set(['ext2', 'ext3', 'ext4', 'xfs']);
const FILE_SYSTEMS_MAX = 32;
/** One of these is in every root of Linux. */
const MARKS = ['/etc/os-release', '/usr/lib/os-release', '/etc/debian_version', '/etc/fstab'];

export type FileSystem = { device: string; type: string };
export type GuestRoot = FileSystem & { tree: GuestTree };

/** Those on all disks of the appliance, by its names. */
export async function listFileSystems(appliance: Appliance): Promise<FileSystem[]> {
  return (await appliance.run('list-filesystems'))
    .split('\n')
    .map((line) => /^(\/dev\/[^\s:]+): (\S+)$/.exec(line))
    .filter((found) => found !== null)
    .map(([, device, type]) => ({ device: device!, type: type! }));
}

/** The one that is a root, mounted. Throws vm_unsupported when none is, or more than one. */
export async function mountRoot(appliance: Appliance, all: readonly FileSystem[]): Promise<GuestRoot> {
  if (all.length > FILE_SYSTEMS_MAX) {
    throw refused(`the VM has ${all.length} file systems, more than ${FILE_SYSTEMS_MAX}`);
  }
  const roots: FileSystem[] = [];
  const unopened: string[] = [];
  for (const { device, type } of all) {
    if (!OPENED.has(type)) {
      if (type !== 'swap') unopened.push(`${device}: ${type}`);
      continue;
    }
    try {
      if (await isRoot(appliance, device)) roots.push({ device, type });
    } catch (error) {
      if (!(error instanceof Failure) || error.code !== 'tool_failed') throw error;
      unopened.push(`${device}: ${error.message}`);
    }
  }
  const [root, another] = roots;
  if (root === undefined) throw refused(`no Linux was found on an ext4 or xfs of the VM`, hintOf(unopened));
  if (another !== undefined) {
    const devices = roots
      .map(({ device }) => device)
      .toSorted()
      .join(', ');
    throw refused(`the VM has more than one Linux: on ${devices}`, 'Set customize_by: agent.');
  }
  await appliance.run('mount', root.device, '/');
  return { ...root, tree: new MountedTree(appliance) };
}

async function isRoot(appliance: Appliance, device: string): Promise<boolean> {
  await appliance.run('mount', device, '/');
  const tree = new MountedTree(appliance);
  let found = false;
  for (const mark of MARKS) found ||= (await tree.kind(mark)) !== 'none';
  found &&= (await tree.kind('/etc')) === 'directory';
  await appliance.run('umount-all');
  return found;
}

function hintOf(unopened: readonly string[]): string {
  if (unopened.length === 0) return 'Its disks have no file system that is known here.';
  return `Not opened: ${unopened.join('; ').slice(0, 800)}. Set customize_by: agent for such a guest.`;
}
