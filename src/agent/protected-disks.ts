/** Which disks of a VM take part in a moment, by what was ordered and what can be. */
import { stat } from 'node:fs/promises';
import type { DiskDefinition } from '#/libvirt/domain-disk-xml.ts';
import type { DomainDefinition } from '#/libvirt/domain-xml.ts';
import { Failure } from '#/lib/failure.ts';
import type { Qcow2Header } from './qcow2-header.ts';
import { headerOfFile } from './qcow2-headers.ts';
import { diskRefusal, isSkipped } from './refusals.ts';

export type ProtectedDisk = {
  key: string;
  path: string;
  bytes: number;
  /** The place of the image: its path, and which file is there. */
  imageId: string;
};

/** `wanted` keys, or all that can be replicated when it is empty. Throws vm_unsupported with the sentence. */
export async function protectedDisks(
  definition: DomainDefinition,
  wanted: readonly string[],
): Promise<ProtectedDisk[]> {
  const vm = `VM ${definition.name}`;
  const missing = wanted.find((key) => !definition.disks.some((disk) => disk.target === key));
  if (missing !== undefined) throw new Failure('vm_unsupported', `${vm} has no disk ${missing}.`);
  const disks: ProtectedDisk[] = [];
  for (const disk of definition.disks) {
    if (isSkipped(disk) || (wanted.length > 0 && !wanted.includes(disk.target))) continue;
    const header = await headerOf(disk);
    const refusal = diskRefusal(disk, header);
    if (refusal !== undefined) throw new Failure('vm_unsupported', `${vm}: ${refusal}`);
    if (header === undefined || !('path' in disk.source)) continue;
    const { path } = disk.source;
    disks.push({ key: disk.target, path, bytes: header.diskBytes, imageId: await imageIdOf(path) });
  }
  if (disks.length === 0) throw new Failure('vm_unsupported', `${vm} has no disk to replicate.`);
  return disks;
}

/** Undefined when there is no image to read, or none of qcow2. */
export async function headerOf(disk: DiskDefinition): Promise<Qcow2Header | undefined> {
  if (disk.source.kind !== 'file' && disk.source.kind !== 'block') return undefined;
  try {
    return await headerOfFile(disk.source.path, await stat(disk.source.path));
  } catch (error) {
    if (error instanceof Failure || (error instanceof Error && 'code' in error)) return undefined;
    throw error;
  }
}

async function imageIdOf(path: string): Promise<string> {
  try {
    const { dev, ino, rdev } = await stat(path);
    return `${path} ${dev}:${ino}:${rdev}`;
  } catch (error) {
    throw new Failure('storage_io', `look at the image ${path}`, { cause: error });
  }
}
