/** Backups by hand, on a manager's own machine and by its own configuration; the manager may run or not. */
import { readFile } from 'node:fs/promises';
import { Failure } from '#/lib/failure.ts';
import { makeBackup, type BackupMade } from '#/manager/backup/backup.ts';
import { restoreBackup, type Restored } from '#/manager/backup/restore.ts';
import { readManagerConfig } from '#/manager/manager-config.ts';

export type BackupOptions = { config: string; passphraseFile: string; path: string };

export async function backUp(options: BackupOptions): Promise<BackupMade> {
  const config = await readManagerConfig(options.config);
  const passphrase = await readPassphrase(options.passphraseFile);
  return makeBackup(config, { path: options.path, passphrase, nowMs: Date.now() });
}

export async function restore(options: BackupOptions): Promise<Restored> {
  const config = await readManagerConfig(options.config);
  const passphrase = await readPassphrase(options.passphraseFile);
  return restoreBackup(config, { path: options.path, passphrase, nowMs: Date.now() });
}

/** The first line. */
async function readPassphrase(path: string): Promise<string> {
  try {
    return (await readFile(path, 'utf8')).split('\n')[0]!.trim();
  } catch (error) {
    throw new Failure('usage_invalid', `read the passphrase in ${path}`, { cause: error });
  }
}
