/**
 * The rows of the audit log, and the archives that old ones went to.
 *
 * Invariant: whoever adds a row holds the one row of `audit_chain` until that is committed, so that the rows of several
 * managers on one database follow each other in one chain without a gap.
 */
import { AuditChain, auditHash, GENESIS, type AuditRow } from '#/api/audit.ts';
import { sql, type Kysely } from 'kysely';
import type { Database } from './database.ts';
import type { Schema } from './schema.ts';

const CHAIN = 'audit';
const AT_ONCE = 1000;

export type NewAuditRow = Omit<AuditRow, 'sequence' | 'hash'>;
export type AuditHead = { sequence: number; hash: string };

/** The number of the row. */
export async function appendAudit(db: Database, entry: NewAuditRow): Promise<number> {
  return db.transaction().execute(async (at) => {
    const head = await at
      .updateTable('audit_chain')
      .set((set) => ({ sequence: set('sequence', '+', 1) }))
      .where('name', '=', CHAIN)
      .returning(['sequence', 'hash'])
      .executeTakeFirstOrThrow();
    const row = { ...entry, sequence: head.sequence };
    const hash = auditHash(head.hash, row);
    await at
      .insertInto('audit')
      .values({ ...row, hash })
      .execute();
    await at.updateTable('audit_chain').set({ hash }).where('name', '=', CHAIN).execute();
    return head.sequence;
  });
}

export async function auditHead(db: Database): Promise<AuditHead> {
  return db
    .selectFrom('audit_chain')
    .select(['sequence', 'hash'])
    .where('name', '=', CHAIN)
    .executeTakeFirstOrThrow();
}

/** Newest first, older than the row `before`; beginnings only of what has no outcome yet. */
export async function listAudit(db: Database, limit: number, before: number): Promise<AuditRow[]> {
  return db
    .selectFrom('audit')
    .selectAll()
    .where('sequence', '<', before)
    .where((where) =>
      where.not(
        where.exists(
          where
            .selectFrom('audit as ended')
            .select('ended.sequence')
            .whereRef('ended.begun', '=', 'audit.sequence'),
        ),
      ),
    )
    .orderBy('sequence', 'desc')
    .limit(limit)
    .execute();
}

/** All rows, ascending. */
export async function auditAfter(db: Database, after: number, limit: number): Promise<AuditRow[]> {
  return db
    .selectFrom('audit')
    .selectAll()
    .where('sequence', '>', after)
    .orderBy('sequence')
    .limit(limit)
    .execute();
}

export type AuditArchive = {
  first_sequence: number;
  last_sequence: number;
  last_hash: string;
  file: string;
  sha256: string;
  manager_id: string;
  archived_ms: number;
};

export async function listAuditArchives(db: Database): Promise<AuditArchive[]> {
  return db.selectFrom('audit_archives').selectAll().orderBy('first_sequence').limit(10_000).execute();
}

/** Takes the rows of an archive out of the database. False when another manager archived them meanwhile. */
export async function replaceByArchive(db: Database, archive: AuditArchive): Promise<boolean> {
  return db.transaction().execute(async (at) => {
    const hold = at.updateTable('audit_chain').set((set) => ({ sequence: set.ref('sequence') }));
    await hold.where('name', '=', CHAIN).execute();
    const first = await at
      .selectFrom('audit')
      .select((select) => select.fn.min('sequence').as('sequence'))
      .executeTakeFirst();
    if (first?.sequence !== archive.first_sequence) return false;
    await at.insertInto('audit_archives').values(archive).execute();
    await at.deleteFrom('audit').where('sequence', '<=', archive.last_sequence).execute();
    return true;
  });
}

/** For the migration: rows of before the chain are chained as they stand. */
export async function chainOldRows(db: Kysely<unknown>): Promise<void> {
  const typed = db as Kysely<Schema>;
  const chain = new AuditChain({ sequence: 0, hash: GENESIS });
  let number = 0;
  for (let after = 0; ;) {
    const rows = await auditAfter(typed, after, AT_ONCE);
    if (rows.length === 0) break;
    for (const row of rows) {
      after = row.sequence;
      const numbered = { ...row, sequence: ++number };
      const hash = auditHash(chain.hash!, numbered);
      chain.next({ ...numbered, hash });
      // Numbers of before may have gaps; each becomes one that no later row has yet.
      await sql`update audit set sequence = ${number}, hash = ${hash} where sequence = ${row.sequence}`.execute(
        db,
      );
    }
  }
  await typed
    .insertInto('audit_chain')
    .values({ name: CHAIN, sequence: number, hash: chain.hash! })
    .execute();
}
