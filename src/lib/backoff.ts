/** Growing pauses between tries of the same operation, spread so that many programs do not try at once. Pure. */
import type { Random } from './random.ts';

export type BackoffLimits = { firstMs: number; maxMs: number };

export class Backoff {
  readonly #limits: BackoffLimits;
  readonly #random: Random;
  #triesFailed = 0;

  constructor(limits: BackoffLimits, random: Random) {
    this.#limits = limits;
    this.#random = random;
  }

  /** The pause before the next try: doubled with every failure in a row, then between half of that and all of it. */
  nextMs(): number {
    const { firstMs, maxMs } = this.#limits;
    const fullMs = Math.min(maxMs, firstMs * 2 ** Math.min(this.#triesFailed, 30));
    this.#triesFailed++;
    return Math.round(fullMs * (0.5 + this.#random.next() / 2));
  }

  /** A try has succeeded. */
  reset(): void {
    this.#triesFailed = 0;
  }
}
