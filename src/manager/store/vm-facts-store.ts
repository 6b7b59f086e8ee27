/** What the protected site last told of each VM that has a replica here: it may be gone when it is needed. */
import type { VmFacts } from '#/api/peer.ts';
import type { Database } from './database.ts';

export async function putVmFacts(
  db: Database,
  replicaId: string,
  told: { facts: VmFacts; nowMs: number },
): Promise<void> {
  const row = { facts: JSON.stringify(told.facts), told_ms: told.nowMs };
  await db
    .insertInto('vm_facts')
    .values({ replica_id: replicaId, ...row })
    .onConflict((conflict) => conflict.column('replica_id').doUpdateSet(row))
    .execute();
}

export async function vmFactsOf(db: Database, replicaId: string): Promise<VmFacts | undefined> {
  const row = await db
    .selectFrom('vm_facts')
    .select('facts')
    .where('replica_id', '=', replicaId)
    .executeTakeFirst();
  return row === undefined ? undefined : (JSON.parse(row.facts) as VmFacts);
}

/** By the replica's id. */
export async function listVmFacts(db: Database): Promise<Map<string, VmFacts>> {
  const rows = await db.selectFrom('vm_facts').selectAll().execute();
  return new Map(rows.map((row) => [row.replica_id, JSON.parse(row.facts) as VmFacts]));
}
