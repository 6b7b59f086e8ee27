/**
 * Events that are still to be reported, bounded while the manager is away.
 *
 * Invariant: an event leaves only when a report with it was accepted, or when the buffer is full and it is the oldest.
 * Its id is drawn once, so that a report sent twice is one event.
 */
import type { Clock } from '#/lib/clock.ts';
import { type Random, randomHex } from '#/lib/random.ts';
import type { EventReport } from './reports.ts';

export type NewEvent = Omit<EventReport, 'id' | 'at_ms'>;

const EVENTS_MAX = 1000;
const MESSAGE_LENGTH_MAX = 4096;

export class EventBuffer {
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #added: () => void;
  #events: EventReport[] = [];

  constructor(clock: Clock, random: Random, added: () => void = () => {}) {
    this.#clock = clock;
    this.#random = random;
    this.#added = added;
  }

  /** `atMs` is when it happened, when that is not now. */
  add(event: NewEvent, atMs: number = this.#clock.now()): void {
    if (this.#events.length >= EVENTS_MAX) this.#events.shift();
    const message = event.message.slice(0, MESSAGE_LENGTH_MAX);
    this.#events.push({ ...event, message, id: randomHex(this.#random, 16), at_ms: atMs });
    this.#added();
  }

  pending(): EventReport[] {
    return [...this.#events];
  }

  /** A report with these was accepted. */
  accepted(events: readonly EventReport[]): void {
    const ids = new Set(events.map((event) => event.id));
    this.#events = this.#events.filter((event) => !ids.has(event.id));
  }
}
