/**
 * Counts wrong tokens and passwords by address, so that guessing is slow. Bounded: the address seen longest ago is
 * forgotten.
 */
import type { Clock } from '#/lib/clock.ts';
import { Failure } from '#/lib/failure.ts';
import { ADDRESSES_MAX, WRONG_TOKENS_MAX, WRONG_TOKENS_WINDOW_MS } from './limits.ts';

export class WrongTokens {
  readonly #byAddress = new Map<string, { count: number; sinceMs: number }>();
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Throws limit_exceeded while the address has to wait. */
  check(address: string): void {
    const entry = this.#current(address);
    if (entry === undefined || entry.count < WRONG_TOKENS_MAX) return;
    const waitMs = entry.sinceMs + WRONG_TOKENS_WINDOW_MS - this.#clock.monotonicMs();
    throw new Failure('limit_exceeded', `${entry.count} wrong tokens or passwords came from ${address}`, {
      hint: `Try again in ${Math.ceil(waitMs / 1000)} s.`,
    });
  }

  count(address: string): void {
    const entry = this.#current(address) ?? { count: 0, sinceMs: this.#clock.monotonicMs() };
    entry.count++;
    this.#byAddress.delete(address);
    this.#byAddress.set(address, entry);
    if (this.#byAddress.size <= ADDRESSES_MAX) return;
    const oldest = this.#byAddress.keys().next().value;
    if (oldest !== undefined) this.#byAddress.delete(oldest);
  }

  #current(address: string): { count: number; sinceMs: number } | undefined {
    const entry = this.#byAddress.get(address);
    if (entry === undefined) return undefined;
    if (this.#clock.monotonicMs() - entry.sinceMs < WRONG_TOKENS_WINDOW_MS) return entry;
    this.#byAddress.delete(address);
    return undefined;
  }
}
