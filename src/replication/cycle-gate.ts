/**
 * How many cycles of one agent run at the same time, and whose turn is next.
 *
 * Cycles that make a delta go before those that read everything, in the order of their deadlines; one place is never
 * given to the latter, so that a first copy never starves deltas. Pure.
 */
import assert from 'node:assert/strict';

export type CycleKind = 'delta' | 'whole';

type Waiting = { kind: CycleKind; deadlineMs: number; admit: () => void };

export class CycleGate {
  readonly #places: number;
  readonly #waiting: Waiting[] = [];
  #deltas = 0;
  #wholes = 0;

  /** At least two places: one is for deltas alone. */
  constructor(places: number) {
    assert(places >= 2);
    this.#places = places;
  }

  get waitingCount(): number {
    return this.#waiting.length;
  }

  /** Resolves with a place, to be disposed. Rejects with the signal's reason. */
  async enter(kind: CycleKind, deadlineMs: number, signal: AbortSignal): Promise<Disposable> {
    signal.throwIfAborted();
    await new Promise<void>((resolve, reject) => {
      const stop = (): void => {
        const at = this.#waiting.indexOf(waiting);
        if (at >= 0) this.#waiting.splice(at, 1);
        reject(signal.reason as Error);
      };
      const admit = (): void => {
        signal.removeEventListener('abort', stop);
        resolve();
      };
      const waiting: Waiting = { kind, deadlineMs, admit };
      signal.addEventListener('abort', stop, { once: true });
      this.#waiting.push(waiting);
      this.#admit();
    });
    let isLeft = false;
    return {
      [Symbol.dispose]: () => {
        if (isLeft) return;
        isLeft = true;
        if (kind === 'delta') this.#deltas--;
        else this.#wholes--;
        this.#admit();
      },
    };
  }

  #admit(): void {
    this.#waiting.sort((a, b) => rank(a.kind) - rank(b.kind) || a.deadlineMs - b.deadlineMs);
    for (let at = 0; at < this.#waiting.length;) {
      const { kind, admit } = this.#waiting[at]!;
      const isFree = this.#deltas + this.#wholes < this.#places;
      if (!isFree || (kind === 'whole' && this.#wholes >= this.#places - 1)) {
        at++;
        continue;
      }
      this.#waiting.splice(at, 1);
      if (kind === 'delta') this.#deltas++;
      else this.#wholes++;
      admit();
    }
  }
}

function rank(kind: CycleKind): number {
  return kind === 'delta' ? 0 : 1;
}
