/**
 * Alarms: those that stand, and the last of those that are over.
 *
 * Invariant: of a kind and a subject one alarm stands at most, whichever of a site's managers raised it.
 */
import type { Selectable } from 'kysely';
import type { Database } from './database.ts';
import type { AlarmsTable } from './schema.ts';

export type AlarmRow = Selectable<AlarmsTable>;

/** About a year of a busy site; the oldest go first, and never one that stands. */
const CLEARED_MAX = 10_000;

export async function standingAlarms(db: Database): Promise<AlarmRow[]> {
  return db.selectFrom('alarms').selectAll().where('standing_key', 'is not', null).execute();
}

/** Those that stand first, then the newest. */
export async function listAlarms(db: Database, limit: number): Promise<AlarmRow[]> {
  const standing = (await standingAlarms(db)).toSorted((a, b) => b.raised_ms - a.raised_ms);
  const over = await db
    .selectFrom('alarms')
    .selectAll()
    .where('standing_key', 'is', null)
    .orderBy('cleared_ms', 'desc')
    .limit(Math.max(0, limit - standing.length))
    .execute();
  return [...standing, ...over].slice(0, limit);
}

/** False when one of that kind and subject stands already. */
export async function raiseAlarm(db: Database, row: AlarmRow): Promise<boolean> {
  const added = await db
    .insertInto('alarms')
    .values(row)
    .onConflict((conflict) => conflict.column('standing_key').doNothing())
    .returning('id')
    .executeTakeFirst();
  return added !== undefined;
}

export async function rewordAlarm(
  db: Database,
  id: string,
  words: Pick<AlarmRow, 'severity' | 'message' | 'hint'>,
): Promise<void> {
  await db.updateTable('alarms').set(words).where('id', '=', id).execute();
}

/** False when it is over already. */
export async function clearAlarm(db: Database, id: string, nowMs: number): Promise<boolean> {
  const cleared = await db
    .updateTable('alarms')
    .set({ standing_key: null, cleared_ms: nowMs })
    .where('id', '=', id)
    .where('standing_key', 'is not', null)
    .returning('id')
    .executeTakeFirst();
  if (cleared === undefined) return false;
  const oldest = await db
    .selectFrom('alarms')
    .select('cleared_ms')
    .where('standing_key', 'is', null)
    .orderBy('cleared_ms', 'desc')
    .offset(CLEARED_MAX)
    .limit(1)
    .executeTakeFirst();
  const untilMs = oldest?.cleared_ms;
  if (untilMs !== undefined && untilMs !== null) {
    await db.deleteFrom('alarms').where('cleared_ms', '<=', untilMs).execute();
  }
  return true;
}

/** The alarm as it is then; undefined for one that does not stand. */
export async function acknowledgeAlarm(
  db: Database,
  id: string,
  by: { atMs: number; name: string; note: string | null },
): Promise<AlarmRow | undefined> {
  return db
    .updateTable('alarms')
    .set({ acknowledged_ms: by.atMs, acknowledged_by: by.name, note: by.note })
    .where('id', '=', id)
    .where('standing_key', 'is not', null)
    .returningAll()
    .executeTakeFirst();
}
