/** Where a replica's files are, and what they are opened by. Pure. */
import type { FileSystem } from '#/disk/file-system.ts';
import { pathIn } from './files.ts';
import type { HandlePool } from './handle-pool.ts';

export type StorePlace = {
  files: FileSystem;
  /** The replica's directory; empty when it is the file system's root. */
  directory: string;
  tag: Uint8Array;
  digestKey: string;
  pool: HandlePool;
};

export type BaseFile = 'base' | 'base.digests' | 'base.tree' | 'base.marks';

export function diskDirectory(directory: string, diskId: number): string {
  return pathIn(pathIn(directory, 'disks'), String(diskId));
}

export function basePath(directory: string, diskId: number, name: BaseFile): string {
  return pathIn(diskDirectory(directory, diskId), name);
}

/** The files of a disk; marks only while a first copy is being made. */
export const BASE_FILES: readonly BaseFile[] = ['base', 'base.digests', 'base.tree'];
export const FIRST_COPY_FILES: readonly BaseFile[] = [...BASE_FILES, 'base.marks'];

/** Makes the directory and files of a disk of zeroes, durably. What is there already stays. */
export async function createBase(
  { files, directory }: StorePlace,
  diskId: number,
  names: readonly BaseFile[],
): Promise<void> {
  const own = diskDirectory(directory, diskId);
  await files.makeDirectory(own);
  for (const name of names) {
    await using _ = await files.open(pathIn(own, name), 'create');
  }
  await files.syncDirectory(own);
  await files.syncDirectory(pathIn(directory, 'disks'));
}
