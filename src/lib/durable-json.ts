/**
 * A small JSON file that is either the old value or the new one, whatever kills us: write beside it, datasync, rename,
 * sync the directory.
 */
import { open, readFile, rename, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { Failure } from './failure.ts';

/** Nothing kept this way comes near; a larger file is not ours. */
const BYTES_MAX = 64 * 1024 * 1024;

/** Resolves when the value is durable. `mode` counts for a file that is made; secrets want 0o600, the default. */
export async function writeDurableJson(path: string, value: unknown, mode = 0o600): Promise<void> {
  const beside = `${path}.new`;
  try {
    const file = await open(beside, 'w', mode);
    try {
      await file.writeFile(`${JSON.stringify(value)}\n`);
      await file.datasync();
    } finally {
      await file.close();
    }
    await rename(beside, path);
    await syncDirectory(dirname(path));
  } catch (error) {
    const isFull = error instanceof Error && 'code' in error && error.code === 'ENOSPC';
    throw new Failure(isFull ? 'storage_full' : 'storage_io', `write ${path}`, { cause: error });
  }
}

/** The value, or undefined when there is no such file. Throws storage_corrupt when it is not JSON. */
export async function readDurableJson(path: string): Promise<unknown> {
  let text: string;
  try {
    const { size } = await stat(path);
    if (size > BYTES_MAX) throw new Failure('storage_corrupt', `read ${path}: it has ${size} bytes`);
    text = await readFile(path, 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw error instanceof Failure ? error : new Failure('storage_io', `read ${path}`, { cause: error });
  }
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    throw new Failure('storage_corrupt', `read ${path}: it is not JSON`, { cause: error });
  }
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
