/** What is protected here: one row per VM and recovery site, from the intent until the other site has let go of it. */
import type { Selectable, Updateable } from 'kysely';
import type { ServerEndpoint } from '#/control/orders.ts';
import type { Retention } from '#/api/common.ts';
import type { Database } from './database.ts';
import type { ProtectionsTable } from './schema.ts';

type Row = Selectable<ProtectionsTable>;
export type Protection = Omit<Row, 'disks' | 'retention' | 'server'> & {
  disks: string[];
  retention: Retention;
  server: ServerEndpoint | null;
};

export async function addProtection(db: Database, protection: Protection): Promise<void> {
  await db.insertInto('protections').values(encode(protection)).execute();
}

/** Changes the row while it is in one of the states `from`. True when it was. */
export async function updateProtection(
  db: Database,
  protection: { id: string; from: readonly Row['state'][] },
  change: Partial<Protection>,
): Promise<boolean> {
  const { numUpdatedRows } = await db
    .updateTable('protections')
    .set(encode(change))
    .where('id', '=', protection.id)
    .where('state', 'in', protection.from)
    .executeTakeFirst();
  return numUpdatedRows === 1n;
}

export const REVISED_IN = ['requested', 'seeding', 'active'] as const satisfies readonly Row['state'][];

/** Changes what is protected, from the revision `from`, as long as it is protected. True when it was so. */
export async function reviseProtection(
  db: Database,
  protection: { id: string; from: number },
  change: Partial<Protection>,
): Promise<boolean> {
  const { numUpdatedRows } = await db
    .updateTable('protections')
    .set(encode(change))
    .where('id', '=', protection.id)
    .where('revision', '=', protection.from)
    .where('state', 'in', REVISED_IN)
    .executeTakeFirst();
  return numUpdatedRows === 1n;
}

export async function dropProtection(db: Database, id: string): Promise<void> {
  await db.deleteFrom('protections').where('id', '=', id).execute();
}

export async function listProtections(db: Database): Promise<Protection[]> {
  const rows = await db.selectFrom('protections').selectAll().orderBy('created_ms').orderBy('id').execute();
  return rows.map((row) => ({
    ...row,
    disks: JSON.parse(row.disks) as string[],
    retention: JSON.parse(row.retention) as Retention,
    server: row.server === null ? null : (JSON.parse(row.server) as ServerEndpoint),
  }));
}

function encode<Change extends Partial<Protection>>(change: Change) {
  const row: Record<string, unknown> = { ...change };
  for (const name of ['disks', 'retention', 'server']) {
    if (row[name] !== undefined && row[name] !== null) row[name] = JSON.stringify(row[name]);
  }
  return row as { [Name in keyof Change]: Name extends keyof Row ? Row[Name] : never } & Updateable<Row>;
}
