/** Leases: which of the managers on one database does what only one may do at a time. */
import type { Database } from './database.ts';

/** When the lease is free, or a former holder's that is not waited for, takes it. Resolves with its new number. */
export async function takeLease(
  db: Database,
  lease: { name: string; holder: string; nowMs: number; untilMs: number },
  isMine: (holder: string) => boolean,
): Promise<number | undefined> {
  const { name, holder, nowMs, untilMs } = lease;
  await db
    .insertInto('leases')
    .values({ name, holder, number: 0, until_ms: 0 })
    .onConflict((conflict) => conflict.column('name').doNothing())
    .execute();
  const known = await db.selectFrom('leases').selectAll().where('name', '=', name).executeTakeFirstOrThrow();
  if (known.until_ms > nowMs && !isMine(known.holder)) return undefined;
  const { numUpdatedRows } = await db
    .updateTable('leases')
    .set({ holder, number: known.number + 1, until_ms: untilMs })
    .where('name', '=', name)
    .where('number', '=', known.number)
    .where('until_ms', '=', known.until_ms)
    .executeTakeFirst();
  return numUpdatedRows === 1n ? known.number + 1 : undefined;
}

/** True while the lease has that number: nobody else took it. Inside a transaction it stays so until that ends. */
export async function extendLease(
  db: Database,
  lease: { name: string; number: number; untilMs: number },
): Promise<boolean> {
  const { numUpdatedRows } = await db
    .updateTable('leases')
    .set({ until_ms: lease.untilMs })
    .where('name', '=', lease.name)
    .where('number', '=', lease.number)
    .executeTakeFirst();
  return numUpdatedRows === 1n;
}
