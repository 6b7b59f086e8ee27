/**
 * The definition of a pull backup: a server on a Unix socket that exports each disk as it was at one moment, while
 * the guest's writes push the old bytes to scratch files.
 */
import { Failure } from '#/lib/failure.ts';
import { appendElement, attributeOf, childOf, childrenOf, createXml, parseXml, serializeXml } from './xml.ts';

/** A disk that takes part. Names of exports and bitmaps are the caller's, as its NBD client will ask for them. */
export type PullDisk = {
  /** `vda`. */
  target: string;
  exportName: string;
  /** The name of the dirty bitmap in the export's `qemu:dirty-bitmap:` context; only with `incremental`. */
  exportBitmap?: string;
  /** A file that libvirt creates and removes, or with the flag `reuseExternal` an existing qcow2. */
  scratchPath: string;
  /** The checkpoint since which changes are told; without it the whole disk counts as changed. */
  incremental?: string;
};

export type PullBackup = {
  socketPath: string;
  disks: readonly PullDisk[];
  /** Targets of the domain's other disks: each is named as left out, for libvirt takes part of all it is not told. */
  excluded?: readonly string[];
};

export function buildPullBackupXml(backup: PullBackup): string {
  if (backup.disks.length === 0) throw new Failure('usage_invalid', 'define a backup of no disk');
  const root = createXml('domainbackup');
  root.setAttribute('mode', 'pull');
  appendElement(root, 'server', { transport: 'unix', socket: backup.socketPath });
  const disks = appendElement(root, 'disks');
  for (const disk of backup.disks) {
    const element = appendElement(disks, 'disk', {
      name: disk.target,
      backup: 'yes',
      type: 'file',
      backupmode: disk.incremental === undefined ? 'full' : 'incremental',
      incremental: disk.incremental,
      exportname: disk.exportName,
      exportbitmap: disk.exportBitmap,
    });
    appendElement(element, 'driver', { type: 'qcow2' });
    appendElement(element, 'scratch', { file: disk.scratchPath });
  }
  for (const target of backup.excluded ?? []) appendElement(disks, 'disk', { name: target, backup: 'no' });
  return serializeXml(root);
}

export type RunningBackup = {
  mode: string;
  socketPath: string | undefined;
  disks: {
    target: string;
    exportName: string | undefined;
    scratchPath: string | undefined;
    incremental: string | undefined;
  }[];
};

/** What libvirt tells of a backup that is under way; disks that are left out are left out here. */
export function readBackupXml(xml: string): RunningBackup {
  const root = parseXml(xml, 'the definition of a backup', 'domainbackup');
  const disks = childOf(root, 'disks');
  const taken =
    disks === undefined ? [] : childrenOf(disks, 'disk').filter((d) => attributeOf(d, 'backup') !== 'no');
  return {
    mode: attributeOf(root, 'mode') ?? 'push',
    socketPath: attributeOf(childOf(root, 'server'), 'socket'),
    disks: taken.map((disk) => ({
      target: attributeOf(disk, 'name') ?? '',
      exportName: attributeOf(disk, 'exportname'),
      scratchPath: attributeOf(childOf(disk, 'scratch'), 'file'),
      incremental: attributeOf(disk, 'incremental'),
    })),
  };
}
