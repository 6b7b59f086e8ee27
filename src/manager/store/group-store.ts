/** Protection groups as they were written. */
import type { Selectable } from 'kysely';
import type { GroupDocument } from '#/api/plans.ts';
import type { Database } from './database.ts';
import type { ProtectionGroupsTable } from './schema.ts';

export type GroupRecord = Omit<Selectable<ProtectionGroupsTable>, 'document'> & { document: GroupDocument };

export async function addGroup(db: Database, group: GroupRecord): Promise<void> {
  await db
    .insertInto('protection_groups')
    .values({ ...group, document: JSON.stringify(group.document) })
    .execute();
}

/** True when there was such a group. */
export async function replaceGroup(
  db: Database,
  id: string,
  change: { document: GroupDocument; nowMs: number },
): Promise<boolean> {
  const { document, nowMs } = change;
  const { numUpdatedRows } = await db
    .updateTable('protection_groups')
    .set({ name: document.name, document: JSON.stringify(document), updated_ms: nowMs })
    .where('id', '=', id)
    .executeTakeFirst();
  return numUpdatedRows === 1n;
}

export async function dropGroup(db: Database, id: string): Promise<void> {
  await db.deleteFrom('protection_groups').where('id', '=', id).execute();
}

export async function listGroups(db: Database): Promise<GroupRecord[]> {
  const rows = await db.selectFrom('protection_groups').selectAll().orderBy('name').execute();
  return rows.map((row) => ({ ...row, document: JSON.parse(row.document) as GroupDocument }));
}
