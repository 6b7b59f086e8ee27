/**
 * A queue between those who put and those who take, bounded by count and by bytes.
 *
 * Invariants: it never holds more than its bounds, but that a single item which alone is longer fits an empty queue;
 * who waits to put is served in the order of asking, as soon as there is room.
 */
import assert from 'node:assert/strict';

export type QueueBounds<T> = { countMax: number; bytesMax?: number; bytesOf?: (item: T) => number };

type Putter<T> = { item: T; resolve: () => void; reject: (error: unknown) => void };
type Taker = { wake: () => void };

export class BoundedQueue<T> {
  readonly #bounds: QueueBounds<T>;
  readonly #items: T[] = [];
  readonly #takers: Taker[] = [];
  readonly #putters: Putter<T>[] = [];
  #first = 0;
  #bytes = 0;
  #isEnded = false;
  #failure: { error: unknown } | undefined;

  constructor(bounds: QueueBounds<T>) {
    assert(bounds.countMax >= 1);
    this.#bounds = bounds;
  }

  get count(): number {
    return this.#items.length - this.#first;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Puts the item when there is room and nobody waits for it; false otherwise, and when nobody takes any more. */
  tryPut(item: T): boolean {
    if (this.#isEnded || this.#failure !== undefined) return false;
    if (this.#putters.length > 0 || !this.#hasRoom(item)) return false;
    this.#push(item);
    return true;
  }

  /** Waits for room. Rejects with the queue's failure, or with the signal's reason. */
  put(item: T, signal?: AbortSignal): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure.error);
    assert(!this.#isEnded, 'put into an ended queue');
    if (signal?.aborted === true) return Promise.reject(signal.reason as Error);
    if (this.tryPut(item)) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const settle =
        <A extends unknown[]>(finish: (...args: A) => void) =>
        (...args: A): void => {
          signal?.removeEventListener('abort', abort);
          finish(...args);
        };
      const putter: Putter<T> = { item, resolve: settle(resolve), reject: settle(reject) };
      const abort = (): void => {
        this.#putters.splice(this.#putters.indexOf(putter), 1);
        putter.reject(signal?.reason);
        // Whoever stood behind a long item may fit now.
        this.#admit();
      };
      signal?.addEventListener('abort', abort, { once: true });
      this.#putters.push(putter);
    });
  }

  /** The next item; undefined once the queue has ended and is empty. Rejects with the queue's failure. */
  async take(signal?: AbortSignal): Promise<T | undefined> {
    for (;;) {
      if (this.#failure !== undefined) throw this.#failure.error;
      if (this.count > 0) return this.#shift();
      if (this.#isEnded) return undefined;
      await this.#arrival(signal);
    }
  }

  /** Nothing more will be put; what is here can still be taken. */
  end(): void {
    assert(this.#putters.length === 0, 'ended a queue that others wait to put into');
    this.#isEnded = true;
    for (const taker of this.#takers.splice(0)) taker.wake();
  }

  /** Drops what is here; whoever puts or takes gets `error`. */
  fail(error: unknown): void {
    this.#failure ??= { error };
    this.#items.length = 0;
    this.#first = 0;
    this.#bytes = 0;
    for (const putter of this.#putters.splice(0)) putter.reject(this.#failure.error);
    for (const taker of this.#takers.splice(0)) taker.wake();
  }

  #push(item: T): void {
    this.#items.push(item);
    this.#bytes += this.#bytesOf(item);
    this.#takers.shift()?.wake();
  }

  #shift(): T {
    const item = this.#items[this.#first] as T;
    this.#items[this.#first++] = undefined as T;
    if (this.#first * 2 > this.#items.length) {
      this.#items.splice(0, this.#first);
      this.#first = 0;
    }
    this.#bytes -= this.#bytesOf(item);
    this.#admit();
    return item;
  }

  #admit(): void {
    while (this.#putters.length > 0 && this.#hasRoom(this.#putters[0]!.item)) {
      const putter = this.#putters.shift()!;
      this.#push(putter.item);
      putter.resolve();
    }
  }

  #hasRoom(item: T): boolean {
    if (this.count === 0) return true;
    const bytesMax = this.#bounds.bytesMax ?? Number.MAX_SAFE_INTEGER;
    return this.count < this.#bounds.countMax && this.#bytes + this.#bytesOf(item) <= bytesMax;
  }

  #bytesOf(item: T): number {
    return this.#bounds.bytesOf?.(item) ?? 0;
  }

  #arrival(signal: AbortSignal | undefined): Promise<void> {
    if (signal?.aborted === true) return Promise.reject(signal.reason as Error);
    return new Promise((resolve, reject) => {
      const taker: Taker = {
        wake: () => {
          signal?.removeEventListener('abort', abort);
          resolve();
        },
      };
      const abort = (): void => {
        this.#takers.splice(this.#takers.indexOf(taker), 1);
        reject(signal?.reason as Error);
      };
      signal?.addEventListener('abort', abort, { once: true });
      this.#takers.push(taker);
    });
  }
}
