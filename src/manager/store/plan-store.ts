/** Recovery plans as they were written. Their revision rises with every change: nobody undoes another's unseen. */
import type { Selectable } from 'kysely';
import type { PlanDocument } from '#/api/plans.ts';
import type { Database } from './database.ts';
import type { PlansTable } from './schema.ts';

type Row = Selectable<PlansTable>;
export type PlanRecord = Omit<Row, 'document'> & { document: PlanDocument };

export async function addPlan(db: Database, plan: PlanRecord): Promise<void> {
  await db
    .insertInto('plans')
    .values({ ...plan, document: JSON.stringify(plan.document) })
    .execute();
}

/** True when the plan still had the revision `from`; it has the next one then. */
export async function replacePlan(
  db: Database,
  id: string,
  change: { from: number; document: PlanDocument; nowMs: number },
): Promise<boolean> {
  const { document, from, nowMs } = change;
  const { numUpdatedRows } = await db
    .updateTable('plans')
    .set({ name: document.name, revision: from + 1, document: JSON.stringify(document), updated_ms: nowMs })
    .where('id', '=', id)
    .where('revision', '=', from)
    .executeTakeFirst();
  return numUpdatedRows === 1n;
}

export async function dropPlan(db: Database, id: string): Promise<void> {
  await db.deleteFrom('plans').where('id', '=', id).execute();
}

export async function listPlans(db: Database): Promise<PlanRecord[]> {
  return (await db.selectFrom('plans').selectAll().orderBy('name').execute()).map(decode);
}

function decode(row: Row): PlanRecord {
  return { ...row, document: JSON.parse(row.document) as PlanDocument };
}
