/** Records what happens, once, and wakes the streams. */
import { randomHex, type Random } from '#/lib/random.ts';
import type { Clock } from '#/lib/clock.ts';
import type { EventReport } from '#/control/reports.ts';
import type { Changes } from './changes.ts';
import type { Database } from './store/database.ts';
import { addEvent } from './store/event-store.ts';

export type Happening = {
  kind: string;
  severity: 'info' | 'warning' | 'error';
  subject: { kind: string; id: string };
  message: string;
  /** When it happened, if that was not just now. */
  atMs?: number;
};

export class EventLog {
  readonly #managerId: string;
  readonly #changes: Changes;
  readonly #clock: Clock;
  readonly #random: Random;

  constructor(managerId: string, parts: { changes: Changes; clock: Clock; random: Random }) {
    this.#managerId = managerId;
    this.#changes = parts.changes;
    this.#clock = parts.clock;
    this.#random = parts.random;
  }

  /** `db` may be a transaction: readers wait for the one connection, so they see the event committed or not at all. */
  async record(db: Database, happening: Happening): Promise<void> {
    const id = randomHex(this.#random, 12);
    const { atMs, ...event } = happening;
    await this.take(db, this.#managerId, { ...event, id, at_ms: atMs ?? this.#clock.now() });
  }

  /** An event that a program reports; a repeated one changes nothing. */
  async take(db: Database, reporter: string, event: EventReport): Promise<void> {
    await addEvent(db, {
      at_ms: event.at_ms,
      kind: event.kind,
      severity: event.severity,
      subject_kind: event.subject.kind,
      subject_id: event.subject.id,
      message: event.message,
      reporter,
      reporter_event_id: event.id,
    });
    this.#changes.notify('events');
  }
}
