/**
 * A queue between one who puts and one who takes, bounded by count and by bytes.
 *
 * Invariant: it never holds more than its bounds, but that a single item which alone is longer fits an empty queue.
 */
import assert from 'node:assert/strict';

export type QueueBounds<T> = { countMax: number; bytesMax?: number; bytesOf?: (item: T) => number };

type Waiter = { wake: () => void };

export class BoundedQueue<T> {
  readonly #bounds: QueueBounds<T>;
  readonly #items: T[] = [];
  readonly #takers: Waiter[] = [];
  readonly #putters: Waiter[] = [];
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

  /** Puts the item when there is room; false when there is none, or nobody takes any more. */
  tryPut(item: T): boolean {
    if (this.#isEnded || this.#failure !== undefined || !this.#hasRoom(item)) return false;
    this.#items.push(item);
    this.#bytes += this.#bytesOf(item);
    this.#takers.shift()?.wake();
    return true;
  }

  /** Waits for room. Rejects with the queue's failure, or with the signal's reason. */
  async put(item: T, signal?: AbortSignal): Promise<void> {
    while (!this.tryPut(item)) {
      if (this.#failure !== undefined) throw this.#failure.error;
      assert(!this.#isEnded, 'put into an ended queue');
      await wait(this.#putters, signal);
    }
  }

  /** The next item; undefined once the queue has ended and is empty. Rejects with the queue's failure. */
  async take(signal?: AbortSignal): Promise<T | undefined> {
    for (;;) {
      if (this.#failure !== undefined) throw this.#failure.error;
      if (this.count > 0) return this.#shift();
      if (this.#isEnded) return undefined;
      await wait(this.#takers, signal);
    }
  }

  /** Nothing more will be put; what is here can still be taken. */
  end(): void {
    this.#isEnded = true;
    this.#wakeAll();
  }

  /** Drops what is here; whoever puts or takes gets `error`. */
  fail(error: unknown): void {
    this.#failure ??= { error };
    this.#items.length = 0;
    this.#first = 0;
    this.#bytes = 0;
    this.#wakeAll();
  }

  #shift(): T {
    const item = this.#items[this.#first] as T;
    this.#items[this.#first++] = undefined as T;
    if (this.#first * 2 > this.#items.length) {
      this.#items.splice(0, this.#first);
      this.#first = 0;
    }
    this.#bytes -= this.#bytesOf(item);
    this.#putters.shift()?.wake();
    return item;
  }

  #hasRoom(item: T): boolean {
    if (this.count === 0) return true;
    const bytesMax = this.#bounds.bytesMax ?? Number.MAX_SAFE_INTEGER;
    return this.count < this.#bounds.countMax && this.#bytes + this.#bytesOf(item) <= bytesMax;
  }

  #bytesOf(item: T): number {
    return this.#bounds.bytesOf?.(item) ?? 0;
  }

  #wakeAll(): void {
    for (const waiter of [...this.#takers.splice(0), ...this.#putters.splice(0)]) waiter.wake();
  }
}

function wait(waiters: Waiter[], signal: AbortSignal | undefined): Promise<void> {
  if (signal?.aborted === true) return Promise.reject(signal.reason as Error);
  return new Promise((resolve, reject) => {
    const waiter: Waiter = {
      wake: () => {
        signal?.removeEventListener('abort', abort);
        resolve();
      },
    };
    const abort = (): void => {
      const at = waiters.indexOf(waiter);
      // A waiter that was woken already must go on: its wake-up would otherwise be lost to the others.
      if (at < 0) return;
      waiters.splice(at, 1);
      reject(signal?.reason as Error);
    };
    signal?.addEventListener('abort', abort, { once: true });
    waiters.push(waiter);
  });
}
