/**
 * Keeps of each replica what its retention wants, in the background, one bounded piece at a time.
 *
 * Invariant: no replica is compacted that no orders speak of: what nobody wants to lose is not merged away.
 */
import type { Clock } from '#/lib/clock.ts';
import { failureIn } from '#/lib/failure.ts';
import { failureFields, type Log } from '#/lib/log.ts';
import type { OrderBook } from './order-book.ts';
import type { ReplicaStore } from './replica-store.ts';

const ROUND_EVERY_MS = 5_000;
/** Pieces of one replica before the next one has its turn. */
const PIECES_MAX = 8;
/** A replica whose compaction failed is left alone for this long: a full disk does not empty faster by trying. */
const FAILED_PAUSE_MS = 60_000;

export class Compactor {
  readonly #store: ReplicaStore;
  readonly #orders: OrderBook;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #pausedUntilMs = new Map<string, number>();

  constructor(parts: { store: ReplicaStore; orders: OrderBook; clock: Clock; log: Log }) {
    this.#store = parts.store;
    this.#orders = parts.orders;
    this.#clock = parts.clock;
    this.#log = parts.log;
  }

  /** Runs until the signal aborts. Rejects only with what is no Failure, which is a bug. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const isMoreLeft = await this.round(signal);
      if (isMoreLeft) continue;
      try {
        await this.#clock.sleep(ROUND_EVERY_MS, signal);
      } catch (error) {
        if (!signal.aborted) throw error;
      }
    }
  }

  /** Some pieces of every replica; true when a replica has more to do. */
  async round(signal: AbortSignal): Promise<boolean> {
    let isMoreLeft = false;
    for (const replicaId of [...this.#store.entries()].map(([id]) => id)) {
      if (signal.aborted) return false;
      if ((this.#pausedUntilMs.get(replicaId) ?? 0) > this.#clock.monotonicMs()) continue;
      isMoreLeft = (await this.#compactOne(replicaId, signal)) || isMoreLeft;
    }
    return isMoreLeft;
  }

  async #compactOne(replicaId: string, signal: AbortSignal): Promise<boolean> {
    try {
      for (let piece = 0; piece < PIECES_MAX && !signal.aborted; piece++) {
        const nowMs = this.#clock.now();
        // Asked for each piece: a bookmark that comes meanwhile counts from the next one on.
        const policy = this.#orders.retention(replicaId, nowMs);
        if (policy === undefined) return false;
        const isMoreLeft = await this.#store.upkeep(replicaId, (replica) => replica.compact(policy, nowMs));
        if (!isMoreLeft) return false;
      }
      return true;
    } catch (error) {
      if (failureIn(error) === undefined) throw error;
      this.#pausedUntilMs.set(replicaId, this.#clock.monotonicMs() + FAILED_PAUSE_MS);
      this.#log.warning('compaction.fails', { replica: replicaId, ...failureFields(error) });
      return false;
    }
  }
}
