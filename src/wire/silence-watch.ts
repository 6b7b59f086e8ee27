/**
 * Ends a session whose other end has gone silent, and keeps this end from being silent
 * (docs/wire-protocol.md, section 7).
 *
 * Each end says `alive` when it has sent nothing else for a while, whatever it hears: an answer would have to queue
 * behind megabytes of segments on a slow link. Invariant: a half-open link ends within `silenceMaxMs` and one tick.
 * Pure.
 */
import type { Clock } from '#/lib/clock.ts';
import { Failure } from '#/lib/failure.ts';
import { ALIVE_EVERY_MS, SILENCE_MAX_MS } from './limits.ts';

export type SilenceLimits = { aliveEveryMs: number; silenceMaxMs: number };
export const SILENCE_DEFAULT: SilenceLimits = { aliveEveryMs: ALIVE_EVERY_MS, silenceMaxMs: SILENCE_MAX_MS };

export class SilenceWatch {
  readonly #clock: Clock;
  readonly #limits: SilenceLimits;
  #heardMs: number;
  #saidMs: number;

  constructor(clock: Clock, limits: SilenceLimits) {
    this.#clock = clock;
    this.#limits = limits;
    this.#heardMs = this.#saidMs = clock.monotonicMs();
  }

  heard(): void {
    this.#heardMs = this.#clock.monotonicMs();
  }

  said(): void {
    this.#saidMs = this.#clock.monotonicMs();
  }

  /** Calls `sayAlive` when it is time; throws Failure timeout after too long a silence, or the signal's reason. */
  async run(sayAlive: () => void, signal: AbortSignal): Promise<never> {
    const { aliveEveryMs, silenceMaxMs } = this.#limits;
    for (;;) {
      const nowMs = this.#clock.monotonicMs();
      const silentMs = nowMs - this.#heardMs;
      if (silentMs >= silenceMaxMs) {
        throw new Failure('timeout', `wait for the other end: silent for ${Math.round(silentMs)} ms`);
      }
      if (nowMs - this.#saidMs >= aliveEveryMs) {
        this.#saidMs = nowMs;
        sayAlive();
      }
      const sleepMs = Math.max(
        1,
        Math.min(this.#saidMs + aliveEveryMs, this.#heardMs + silenceMaxMs) - nowMs,
      );
      await this.#clock.sleep(sleepMs, signal);
      // A process that was stopped for a while has not listened: what arrived meanwhile is still to be read.
      const lateMs = this.#clock.monotonicMs() - nowMs - sleepMs;
      if (lateMs > aliveEveryMs) this.heard();
    }
  }
}
