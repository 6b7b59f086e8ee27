/**
 * When calls are given up, by one timer for all of them: nearly all are answered within milliseconds, and a timer of
 * its own would cost each more than the call.
 *
 * Invariant: a call that was added and not taken back is reported late once, at its deadline or just after. The timer
 * runs on when the call that it was for is answered, so it is set about once for each time-out, not for each call.
 */
import type { Clock } from '#/lib/clock.ts';

/** The longest time that the system's timers take; a longer one would end at once. */
const SLEEP_MS_MAX = 2 ** 31 - 1;

export class CallDeadlines<Call> {
  readonly #clock: Clock;
  readonly #late: (call: Call) => void;
  readonly #deadlinesMs = new Map<Call, number>();
  #timer: { untilMs: number; stop: AbortController } | undefined;

  constructor(clock: Clock, late: (call: Call) => void) {
    this.#clock = clock;
    this.#late = late;
  }

  add(call: Call, timeoutMs: number): void {
    const deadlineMs = this.#clock.monotonicMs() + timeoutMs;
    this.#deadlinesMs.set(call, deadlineMs);
    if (this.#timer === undefined || deadlineMs < this.#timer.untilMs) this.#wakeAt(deadlineMs);
  }

  /** The call is settled. */
  delete(call: Call): void {
    this.#deadlinesMs.delete(call);
  }

  /** Nothing is reported any more. */
  close(): void {
    this.#deadlinesMs.clear();
    this.#timer?.stop.abort(STOPPED);
    this.#timer = undefined;
  }

  #wakeAt(untilMs: number): void {
    this.#timer?.stop.abort(STOPPED);
    const stop = new AbortController();
    this.#timer = { untilMs, stop };
    const waitMs = Math.min(Math.max(0, untilMs - this.#clock.monotonicMs()), SLEEP_MS_MAX);
    this.#clock.sleep(waitMs, stop.signal).then(
      () => this.#woken(),
      () => undefined,
    );
  }

  #woken(): void {
    this.#timer = undefined;
    const nowMs = this.#clock.monotonicMs();
    let nextMs = Infinity;
    for (const [call, deadlineMs] of this.#deadlinesMs) {
      if (deadlineMs > nowMs) {
        nextMs = Math.min(nextMs, deadlineMs);
        continue;
      }
      this.#deadlinesMs.delete(call);
      this.#late(call);
    }
    if (nextMs < Infinity && this.#timer === undefined) this.#wakeAt(nextMs);
  }
}

/** With a reason of its own: to make the default one, with its stack, costs more than a call. */
const STOPPED = 'stopped';
