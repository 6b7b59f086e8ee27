/** Small steps that several files of the replica are read and written by. Pure. */
import type { File, FileSystem, OpenMode } from '#/disk/file-system.ts';
import { hasCode } from '#/lib/failure.ts';

/** Joins a directory and a name in it; either may be empty: an empty directory is the file system's root. */
export function pathIn(directory: string, name: string): string {
  if (name === '') return directory;
  return directory === '' ? name : `${directory}/${name}`;
}

/** Opens, or says `undefined` when there is no such file. */
export async function openIfThere(
  files: FileSystem,
  path: string,
  mode: OpenMode,
): Promise<File | undefined> {
  try {
    return await files.open(path, mode);
  } catch (error) {
    if (hasCode(error, 'not_found')) return undefined;
    throw error;
  }
}

/** Removes a file that may be gone. */
export async function removeIfThere(files: FileSystem, path: string): Promise<void> {
  try {
    await files.remove(path);
  } catch (error) {
    if (!hasCode(error, 'not_found')) throw error;
  }
}

/** Names in a directory that may not be there. */
export async function listIfThere(files: FileSystem, path: string): Promise<string[]> {
  try {
    return await files.list(path);
  } catch (error) {
    if (hasCode(error, 'not_found')) return [];
    throw error;
  }
}

/** Reads exactly this range; what lies behind the end of a sparse file is zero. */
export async function readSparse(
  file: File | undefined,
  offset: number,
  length: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(length);
  await fillSparse(file, offset, bytes);
  return bytes;
}

/** Fills `target`; what lies behind the end of a sparse file is zero. */
export async function fillSparse(file: File | undefined, offset: number, target: Uint8Array): Promise<void> {
  const count = file === undefined ? 0 : await file.read(offset, target);
  if (count < target.length) target.fill(0, count);
}

/** Reads a whole file of at most `bytesMax` bytes; a longer one is cut there. */
export async function readWhole(file: File, bytesMax: number): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(Math.min(await file.bytes(), bytesMax));
  const count = await file.read(0, bytes);
  return bytes.subarray(0, count);
}

/** Makes a file that is whole or not there: written beside its name, synced, renamed, the directory synced. */
export async function writeFileDurably(
  files: FileSystem,
  where: { directory: string; name: string },
  bytes: Uint8Array,
): Promise<void> {
  const temporary = pathIn(where.directory, `${where.name}.new`);
  await removeIfThere(files, temporary);
  {
    await using file = await files.open(temporary, 'create-new');
    await file.write(0, bytes);
    await file.datasync();
  }
  await files.rename(temporary, pathIn(where.directory, where.name));
  await files.syncDirectory(where.directory);
}
