/**
 * What happened, in the order it was recorded. Bounded.
 *
 * Invariant: an event that a reporter repeats, because an answer was lost, is recorded once.
 */
import type { Selectable } from 'kysely';
import type { Database } from './database.ts';
import type { EventsTable } from './schema.ts';

export type EventRow = Selectable<EventsTable>;
export type NewEvent = Omit<EventRow, 'sequence'>;

/** About a year of a busy site; the oldest go first. */
const EVENTS_MAX = 100_000;
const PRUNE_EVERY = 1000;

/** The sequence given to the event; undefined when it was recorded before. */
export async function addEvent(db: Database, event: NewEvent): Promise<number | undefined> {
  const row = await db
    .insertInto('events')
    .values(event)
    .onConflict((conflict) => conflict.columns(['reporter', 'reporter_event_id']).doNothing())
    .returning('sequence')
    .executeTakeFirst();
  if (row !== undefined && row.sequence % PRUNE_EVERY === 0) {
    await db
      .deleteFrom('events')
      .where('sequence', '<=', row.sequence - EVENTS_MAX)
      .execute();
  }
  return row?.sequence;
}

/** Ascending from the one after `after`. */
export async function eventsAfter(db: Database, after: number, limit: number): Promise<EventRow[]> {
  return db
    .selectFrom('events')
    .selectAll()
    .where('sequence', '>', after)
    .orderBy('sequence')
    .limit(limit)
    .execute();
}

/** Ascending, the newest `limit` of all, or of those about one subject. */
export async function newestEvents(db: Database, limit: number, subject?: string): Promise<EventRow[]> {
  const all = db.selectFrom('events').selectAll().orderBy('sequence', 'desc').limit(limit);
  const rows = await (subject === undefined ? all : all.where('subject_id', '=', subject)).execute();
  return rows.toReversed();
}

export async function newestSequence(db: Database): Promise<number> {
  const row = await db
    .selectFrom('events')
    .select((select) => select.fn.max('sequence').as('newest'))
    .executeTakeFirst();
  return row?.newest ?? 0;
}
