/**
 * What is to be told of alarms, until it was told: recorded with the turn of the alarm, so that no crash loses it.
 *
 * Invariant: a target hears of turns in the order in which they came.
 */
import type { Selectable } from 'kysely';
import type { Database } from './database.ts';
import type { AlarmNoticesTable } from './schema.ts';

export type NoticeRow = Selectable<AlarmNoticesTable>;

export async function addNotice(
  db: Database,
  notice: Pick<NoticeRow, 'target' | 'body' | 'created_ms'>,
): Promise<void> {
  await db
    .insertInto('alarm_notices')
    .values({ ...notice, attempts: 0, next_ms: notice.created_ms })
    .execute();
}

/** The oldest of a target. */
export async function firstNotice(db: Database, target: string): Promise<NoticeRow | undefined> {
  return db
    .selectFrom('alarm_notices')
    .selectAll()
    .where('target', '=', target)
    .orderBy('sequence')
    .limit(1)
    .executeTakeFirst();
}

export async function putNoticeOff(db: Database, notice: NoticeRow, nextMs: number): Promise<void> {
  await db
    .updateTable('alarm_notices')
    .set({ attempts: notice.attempts + 1, next_ms: nextMs })
    .where('sequence', '=', notice.sequence)
    .execute();
}

export async function dropNotice(db: Database, sequence: number): Promise<void> {
  await db.deleteFrom('alarm_notices').where('sequence', '=', sequence).execute();
}

/** Of targets that are configured no more. */
export async function dropOtherNotices(db: Database, targets: readonly string[]): Promise<void> {
  let query = db.deleteFrom('alarm_notices');
  if (targets.length > 0) query = query.where('target', 'not in', targets);
  await query.execute();
}

export async function countNotices(db: Database, target: string): Promise<number> {
  const row = await db
    .selectFrom('alarm_notices')
    .select((select) => select.fn.countAll<number>().as('count'))
    .where('target', '=', target)
    .executeTakeFirst();
  return Number(row?.count ?? 0);
}
