/**
 * Whether this manager stands before a database that is not what its site once knew (docs/operate/rebuild.md).
 *
 * Invariant: while it does, no program gets orders, no other site an answer about its replicas, and nothing of the site
 * is changed but by the rebuild: an empty database would order programs to forget what only they still know.
 */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { Failure } from '#/lib/failure.ts';
import type { Log } from '#/lib/log.ts';
import type { Database } from '#/manager/store/database.ts';
import { readSetting, writeSetting } from '#/manager/store/settings-store.ts';

const SETTING = 'rebuild';

/**
 * none: as always. waiting: the database is new and the site is not; an administrator decides. open: members are let in
 * again, and what they and the paired sites know is gathered.
 */
export type RebuildState = 'none' | 'waiting' | 'open';
/**
 * `members`: those that were let in again since it is open. `isRestored`: the database is that of a backup: what it
 * says is older than what programs and paired sites say.
 */
export type RebuildRecord = { state: RebuildState; members: string[]; isRestored?: boolean };

export async function readRebuild(db: Database): Promise<RebuildRecord> {
  const text = await readSetting(db, SETTING);
  return text === undefined ? { state: 'none', members: [] } : (JSON.parse(text) as RebuildRecord);
}

export async function writeRebuild(db: Database, record: RebuildRecord): Promise<void> {
  await writeSetting(db, SETTING, JSON.stringify(record));
}

export async function isRebuilding(db: Database): Promise<boolean> {
  return (await readRebuild(db)).state !== 'none';
}

/**
 * Whether a manager has been here before: its keys are made once its database knows the site. Asked before they are.
 */
export async function wasHere(dataDirectory: string): Promise<boolean> {
  try {
    return (await stat(join(dataDirectory, 'manager-keys.json'))).isFile();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw new Failure('storage_io', `look at ${dataDirectory}`, { cause: error });
  }
}

/** A database that knows no site, under a manager that has been one's: whatever it held is lost. */
export async function noticeLoss(db: Database, dataDirectory: string, log: Log): Promise<void> {
  if ((await readSetting(db, 'site_id')) === undefined && (await wasHere(dataDirectory))) {
    await writeRebuild(db, { state: 'waiting', members: [] });
  }
  const { state } = await readRebuild(db);
  if (state !== 'none') log.warning('rebuild.waiting', { state, hint: 'antipode rebuild' });
}

/** What whoever must wait for the rebuild is told. */
export function rebuildingFailure(siteName: string): Failure {
  return new Failure('unreachable', `the database of site ${siteName} was lost and is not rebuilt yet`, {
    hint: `At ${siteName}, see what can be taken in again: antipode rebuild`,
  });
}
