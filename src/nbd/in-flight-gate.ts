/**
 * A bound by count and bytes on what is under way; who comes later waits in order.
 *
 * An item longer than the whole bound is let in alone, so that it is slow and not stuck.
 */
import { strict as assert } from 'node:assert';
import { Failure } from '#/lib/failure.ts';

type Waiter = { bytes: number; enter: () => void; fail: (reason: unknown) => void };

export class InFlightGate {
  readonly #countMax: number;
  readonly #bytesMax: number;
  readonly #waitingMax: number;
  readonly #waiting = new Set<Waiter>();
  #count = 0;
  #bytes = 0;
  #waitingBytes = 0;

  constructor(limits: { count: number; bytes: number; waiting: number }) {
    this.#countMax = limits.count;
    this.#bytesMax = limits.bytes;
    this.#waitingMax = limits.waiting;
  }

  /** Bytes under way and waiting. */
  get loadBytes(): number {
    return this.#bytes + this.#waitingBytes;
  }

  get count(): number {
    return this.#count;
  }

  /** Enters now and returns undefined, or returns a promise of having entered. `limit_exceeded` when too many wait. */
  enter(bytes: number, signal?: AbortSignal): Promise<void> | undefined {
    signal?.throwIfAborted();
    if (this.#waiting.size === 0 && this.#fits(bytes)) {
      this.#admit(bytes);
      return undefined;
    }
    if (this.#waiting.size >= this.#waitingMax) {
      throw new Failure('limit_exceeded', `queue an NBD request behind ${this.#waiting.size} others`);
    }
    return new Promise((resolve, reject) => {
      const settle = (): void => {
        this.#waiting.delete(waiter);
        this.#waitingBytes -= bytes;
        signal?.removeEventListener('abort', abort);
      };
      const waiter: Waiter = {
        bytes,
        enter: () => (settle(), resolve()),
        fail: (reason) => (settle(), reject(reason as Error)),
      };
      const abort = (): void => {
        waiter.fail(signal?.reason);
        this.#next();
      };
      this.#waiting.add(waiter);
      this.#waitingBytes += bytes;
      signal?.addEventListener('abort', abort, { once: true });
    });
  }

  leave(bytes: number): void {
    this.#count -= 1;
    this.#bytes -= bytes;
    assert(this.#count >= 0 && this.#bytes >= 0, 'left more often than entered');
    this.#next();
  }

  /** Fails everyone who waits. */
  fail(reason: Failure): void {
    for (const waiter of this.#waiting) waiter.fail(reason);
  }

  #next(): void {
    for (const waiter of this.#waiting) {
      if (!this.#fits(waiter.bytes)) return;
      this.#admit(waiter.bytes);
      waiter.enter();
    }
  }

  #fits(bytes: number): boolean {
    if (this.#count === 0) return true;
    return this.#count < this.#countMax && this.#bytes + bytes <= this.#bytesMax;
  }

  #admit(bytes: number): void {
    this.#count += 1;
    this.#bytes += bytes;
  }
}
