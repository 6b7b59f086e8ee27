/**
 * What arrives faster than it is read: a queue with a bound, an end, and one consumer.
 *
 * Invariant: what was accepted is delivered in order before the end or the failure is.
 */
import type { Failure } from '#/lib/failure.ts';

type Waiter<T> = {
  resolve: (result: IteratorResult<T, undefined>) => void;
  reject: (reason: Failure) => void;
};

export class BoundedQueue<T> {
  readonly #weightMax: number;
  #items: { item: T; weight: number }[] = [];
  #weight = 0;
  #waiters: Waiter<T>[] = [];
  #end: { failure: Failure | undefined } | undefined;

  constructor(weightMax: number) {
    this.#weightMax = weightMax;
  }

  get isEnded(): boolean {
    return this.#end !== undefined;
  }

  /** False when the item does not fit; the caller decides what that means. Nothing is accepted after the end. */
  push(item: T, weight = 1): boolean {
    if (this.#end !== undefined) return true;
    const waiter = this.#waiters.shift();
    if (waiter !== undefined) {
      waiter.resolve({ done: false, value: item });
      return true;
    }
    if (this.#weight + weight > this.#weightMax) return false;
    this.#items.push({ item, weight });
    this.#weight += weight;
    return true;
  }

  /** The first end counts. With a failure, the consumer gets it after the items that were accepted. */
  end(failure?: Failure): void {
    if (this.#end !== undefined) return;
    this.#end = { failure };
    for (const waiter of this.#waiters.splice(0)) this.#finish(waiter);
  }

  /** Drops what is queued: nobody will read it. */
  discard(): void {
    this.#items = [];
    this.#weight = 0;
  }

  next(): Promise<IteratorResult<T, undefined>> {
    const first = this.#items.shift();
    if (first !== undefined) {
      this.#weight -= first.weight;
      return Promise.resolve({ done: false, value: first.item });
    }
    return new Promise((resolve, reject) => {
      const waiter = { resolve, reject };
      if (this.#end === undefined) this.#waiters.push(waiter);
      else this.#finish(waiter);
    });
  }

  #finish(waiter: Waiter<T>): void {
    const failure = this.#end?.failure;
    if (failure === undefined) {
      waiter.resolve({ done: true, value: undefined });
      return;
    }
    // A failure is told once; whoever asks again finds the end.
    this.#end = { failure: undefined };
    waiter.reject(failure);
  }
}
