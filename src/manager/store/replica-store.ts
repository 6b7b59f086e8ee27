/** The replicas kept at this site: everything a recovery needs to know when the protected site is gone. */
import type { Selectable, Updateable } from 'kysely';
import type { Retention } from '#/api/common.ts';
import type { Bookmark } from '#/control/orders.ts';
import type { Database } from './database.ts';
import type { ReplicasTable } from './schema.ts';

type Row = Selectable<ReplicasTable>;
/** `need_bytes` is what the first copy was said to take. */
export type ReplicaDisk = { key: string; bytes: number; need_bytes: number };
export type ReplicaRecord = Omit<Row, 'disks' | 'retention' | 'bookmarks'> & {
  disks: ReplicaDisk[];
  retention: Retention;
  bookmarks: Bookmark[];
};

export async function addReplica(db: Database, replica: ReplicaRecord): Promise<void> {
  await db.insertInto('replicas').values(encode(replica)).execute();
}

export async function updateReplica(db: Database, id: string, change: Partial<ReplicaRecord>): Promise<void> {
  await db.updateTable('replicas').set(encode(change)).where('id', '=', id).execute();
}

/** Changes the replica while it is in that state. True when it was. */
export async function moveReplica(
  db: Database,
  replica: { id: string; from: Row['state'] },
  change: Partial<ReplicaRecord>,
): Promise<boolean> {
  const { numUpdatedRows } = await db
    .updateTable('replicas')
    .set(encode(change))
    .where('id', '=', replica.id)
    .where('state', '=', replica.from)
    .executeTakeFirst();
  return numUpdatedRows === 1n;
}

/** Takes what its site says of the protection, if nothing of it was taken since the revision `from`. True when so. */
export async function reviseReplica(
  db: Database,
  replica: { id: string; from: number },
  change: Pick<ReplicaRecord, 'revision' | 'rpo_ms' | 'retention'> & { disks?: ReplicaDisk[] },
): Promise<boolean> {
  const { numUpdatedRows } = await db
    .updateTable('replicas')
    .set(encode(change))
    .where('id', '=', replica.id)
    .where('revision', '=', replica.from)
    .where('state', 'in', ['active', 'seeding'])
    .executeTakeFirst();
  return numUpdatedRows === 1n;
}

/** Puts other bookmarks in the place of those that the caller knows. False when they are others by now. */
export async function putBookmarks(
  db: Database,
  replica: Pick<ReplicaRecord, 'id' | 'bookmarks'>,
  bookmarks: readonly Bookmark[],
): Promise<boolean> {
  const { numUpdatedRows } = await db
    .updateTable('replicas')
    .set({ bookmarks: JSON.stringify(bookmarks) })
    .where('id', '=', replica.id)
    .where('bookmarks', '=', JSON.stringify(replica.bookmarks))
    .executeTakeFirst();
  return numUpdatedRows === 1n;
}

export async function dropReplica(db: Database, id: string): Promise<void> {
  await db.deleteFrom('vm_facts').where('replica_id', '=', id).execute();
  await db.deleteFrom('replicas').where('id', '=', id).execute();
}

export async function listReplicas(db: Database): Promise<ReplicaRecord[]> {
  const rows = await db.selectFrom('replicas').selectAll().orderBy('created_ms').orderBy('id').execute();
  return rows.map(decode);
}

export async function replicasInState(db: Database, state: Row['state']): Promise<ReplicaRecord[]> {
  const rows = await db.selectFrom('replicas').selectAll().where('state', '=', state).execute();
  return rows.map(decode);
}

function decode(row: Row): ReplicaRecord {
  return {
    ...row,
    disks: JSON.parse(row.disks) as ReplicaDisk[],
    retention: JSON.parse(row.retention) as Retention,
    bookmarks: JSON.parse(row.bookmarks) as Bookmark[],
  };
}

function encode<Change extends Partial<ReplicaRecord>>(change: Change) {
  const row: Record<string, unknown> = { ...change };
  for (const name of ['disks', 'retention', 'bookmarks']) {
    if (row[name] !== undefined) row[name] = JSON.stringify(row[name]);
  }
  return row as { [Name in keyof Change]: Name extends keyof Row ? Row[Name] : never } & Updateable<Row>;
}
