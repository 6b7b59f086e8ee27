/** RPO violations that have begun and not ended, so a manager that starts again ends what it began. */
import type { Database } from './database.ts';

export async function listViolations(db: Database): Promise<Map<string, number>> {
  const rows = await db.selectFrom('violations').selectAll().execute();
  return new Map(rows.map((row) => [row.replica_id, row.began_ms]));
}

export async function addViolation(db: Database, replicaId: string, beganMs: number): Promise<void> {
  await db
    .insertInto('violations')
    .values({ replica_id: replicaId, began_ms: beganMs })
    .onConflict((conflict) => conflict.column('replica_id').doNothing())
    .execute();
}

export async function dropViolation(db: Database, replicaId: string): Promise<void> {
  await db.deleteFrom('violations').where('replica_id', '=', replicaId).execute();
}
