/**
 * Small files that only root may read, replaced as a whole: write beside, datasync, rename, sync the directory.
 * A crash leaves the old file or the new one.
 */
import { randomBytes } from 'node:crypto';
import { open, readFile, rename } from 'node:fs/promises';
import { dirname } from 'node:path';
import { Failure } from '#/lib/failure.ts';

export async function writeSecretFile(path: string, text: string): Promise<void> {
  const beside = `${path}.${randomBytes(4).toString('hex')}.new`;
  try {
    const file = await open(beside, 'wx', 0o600);
    try {
      await file.writeFile(text);
      await file.datasync();
    } finally {
      await file.close();
    }
    await rename(beside, path);
    const directory = await open(dirname(path), 'r');
    try {
      await directory.sync();
    } finally {
      await directory.close();
    }
  } catch (error) {
    throw new Failure('storage_io', `write ${path}`, { cause: error });
  }
}

export async function readFileIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new Failure('storage_io', `read ${path}`, { cause: error });
  }
}
