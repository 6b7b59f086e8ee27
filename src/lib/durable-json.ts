/**
 * A JSON file that is replaced as a whole and survives power loss, readable by its owner alone.
 *
 * Invariant: after a crash at any step the file holds the old value or the new one.
 */
import { open, readFile, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { Failure } from './failure.ts';

/** Writes beside, syncs, renames, syncs the directory. One writer at a time for a path. */
export async function writeDurableJson(path: string, value: unknown): Promise<void> {
  const beside = `${path}.new`;
  try {
    // A file that a crash has left may have any mode; the new one is for its owner alone.
    await rm(beside, { force: true });
    await using file = await open(beside, 'wx', 0o600);
    await file.writeFile(`${JSON.stringify(value)}\n`);
    await file.datasync();
    await rename(beside, path);
    await using directory = await open(dirname(path), 'r');
    await directory.sync();
  } catch (error) {
    const isFull = (error as NodeJS.ErrnoException).code === 'ENOSPC';
    throw new Failure(isFull ? 'storage_full' : 'storage_io', `write ${path}`, { cause: error });
  }
}

/** The value in the file; undefined when there is no file. Throws storage_corrupt when it is no JSON. */
export async function readDurableJson(path: string): Promise<unknown> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new Failure('storage_io', `read ${path}`, { cause: error });
  }
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Failure('storage_corrupt', `read ${path}: it is not JSON`, { cause: error });
  }
}
