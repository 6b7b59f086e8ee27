/**
 * Virtual time: what happens next, in one order that the seed decides (docs/simulation.md).
 *
 * Invariant: of two things due at the same instant, the one that was scheduled first happens first, so that the
 * same seed gives the same run.
 */
import assert from 'node:assert/strict';

/** More pending events than this means that something schedules without bound. */
const EVENTS_MAX = 100_000;

type Event = { at: number; order: number; fire: (() => void) | undefined };

/** A binary heap of events, and the instant the run has reached. */
export class Timeline {
  #heap: Event[] = [];
  #order = 0;
  #nowMs = 0;
  #fired = 0;

  /** Milliseconds since the run began. May have a fraction: links and disks are faster than a millisecond. */
  get nowMs(): number {
    return this.#nowMs;
  }

  /** Events that happened so far. */
  get fired(): number {
    return this.#fired;
  }

  /** Calls `fire` after `ms`; the result takes it back. */
  after(ms: number, fire: () => void): () => void {
    assert(this.#heap.length < EVENTS_MAX, 'the timeline is overrun');
    const event: Event = { at: this.#nowMs + Math.max(0, ms), order: this.#order++, fire };
    this.#heap.push(event);
    this.#rise(this.#heap.length - 1);
    return () => {
      event.fire = undefined;
    };
  }

  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.after(ms, resolve);
    });
  }

  /** Lets the next event happen; false when nothing is pending. */
  step(): boolean {
    for (;;) {
      const event = this.#pop();
      if (!event) return false;
      if (!event.fire) continue;
      this.#nowMs = event.at;
      this.#fired++;
      event.fire();
      return true;
    }
  }

  #pop(): Event | undefined {
    const first = this.#heap[0];
    const last = this.#heap.pop();
    if (!first || !last || this.#heap.length === 0) return first;
    this.#heap[0] = last;
    this.#sink();
    return first;
  }

  #rise(from: number): void {
    let at = from;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!this.#isBefore(at, parent)) return;
      this.#swap(at, parent);
      at = parent;
    }
  }

  #sink(): void {
    let at = 0;
    for (;;) {
      const left = 2 * at + 1;
      const right = left + 1;
      let first = at;
      if (left < this.#heap.length && this.#isBefore(left, first)) first = left;
      if (right < this.#heap.length && this.#isBefore(right, first)) first = right;
      if (first === at) return;
      this.#swap(at, first);
      at = first;
    }
  }

  #isBefore(a: number, b: number): boolean {
    const x = this.#heap[a]!;
    const y = this.#heap[b]!;
    return x.at < y.at || (x.at === y.at && x.order < y.order);
  }

  #swap(a: number, b: number): void {
    const x = this.#heap[a]!;
    this.#heap[a] = this.#heap[b]!;
    this.#heap[b] = x;
  }
}
