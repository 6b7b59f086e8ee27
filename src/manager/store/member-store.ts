/** The programs that joined this site, with the last report of each, and the revision of the orders they were given. */
import type { Selectable } from 'kysely';
import type { Database } from './database.ts';
import type { MembersTable } from './schema.ts';

export type MemberRow = Selectable<MembersTable>;

export async function addMember(
  db: Database,
  member: Pick<MemberRow, 'id' | 'kind' | 'name' | 'joined_ms' | 'certificate_expires_ms'>,
): Promise<void> {
  await db
    .insertInto('members')
    .values({ ...member, removed_ms: null, report: null, report_ms: null })
    .execute();
}

/** Those that were not removed, in the order they joined. */
export async function listMembers(db: Database): Promise<MemberRow[]> {
  return db.selectFrom('members').selectAll().where('removed_ms', 'is', null).orderBy('joined_ms').execute();
}

export async function removeMember(db: Database, id: string, nowMs: number): Promise<void> {
  await db.updateTable('members').set({ removed_ms: nowMs }).where('id', '=', id).execute();
}

/** Also one that was removed. */
export async function findMember(db: Database, id: string): Promise<MemberRow | undefined> {
  return db.selectFrom('members').selectAll().where('id', '=', id).executeTakeFirst();
}

export async function renameMember(db: Database, id: string, name: string): Promise<void> {
  await db.updateTable('members').set({ name }).where('id', '=', id).execute();
}

/** The next orders of the member have the number after this one. */
export async function setRevision(db: Database, memberId: string, revision: number): Promise<void> {
  await db
    .insertInto('order_revisions')
    .values({ member_id: memberId, revision, sha256: '' })
    .onConflict((conflict) => conflict.column('member_id').doUpdateSet({ revision, sha256: '' }))
    .execute();
}

export async function setCertificateExpiry(db: Database, id: string, expiresMs: number): Promise<void> {
  await db.updateTable('members').set({ certificate_expires_ms: expiresMs }).where('id', '=', id).execute();
}

export async function keepReport(
  db: Database,
  id: string,
  report: { text: string; atMs: number },
): Promise<void> {
  await db
    .updateTable('members')
    .set({ report: report.text, report_ms: report.atMs })
    .where('id', '=', id)
    .execute();
}

/** The revision of orders with this hash: the last one, or the next when the hash is another. */
export async function orderRevision(db: Database, memberId: string, sha256: string): Promise<number> {
  const row = await db
    .selectFrom('order_revisions')
    .selectAll()
    .where('member_id', '=', memberId)
    .executeTakeFirst();
  if (row?.sha256 === sha256) return row.revision;
  const revision = (row?.revision ?? 0) + 1;
  await db
    .insertInto('order_revisions')
    .values({ member_id: memberId, revision, sha256 })
    .onConflict((conflict) => conflict.column('member_id').doUpdateSet({ revision, sha256 }))
    .execute();
  return revision;
}
