/**
 * A disk whose reads share a rate in bytes per second.
 *
 * Every read takes its place on one time line and waits until its bytes' time has passed, so that many readers
 * together keep to the rate. A read that is aborted gives its time back.
 */
import { strict as assert } from 'node:assert';
import type { Clock } from '#/lib/clock.ts';
import { checkRange } from './check-range.ts';
import type { Disk, Extent } from './disk.ts';

export class ThrottledDisk implements Disk {
  readonly #inner: Disk;
  readonly #clock: Clock;
  readonly #bytesPerSecond: number;
  /** When the bytes that were let in so far are through. */
  #busyUntilMs = -Infinity;

  constructor(inner: Disk, { bytesPerSecond, clock }: { bytesPerSecond: number; clock: Clock }) {
    assert(bytesPerSecond > 0);
    this.#inner = inner;
    this.#clock = clock;
    this.#bytesPerSecond = bytesPerSecond;
  }

  get bytes(): number {
    return this.#inner.bytes;
  }

  async read(offset: number, target: Uint8Array, signal?: AbortSignal): Promise<void> {
    checkRange(this, offset, target.length);
    signal?.throwIfAborted();
    const costMs = (target.length / this.#bytesPerSecond) * 1000;
    const nowMs = this.#clock.monotonicMs();
    this.#busyUntilMs = Math.max(this.#busyUntilMs, nowMs) + costMs;
    try {
      await this.#clock.sleep(Math.ceil(this.#busyUntilMs - nowMs), signal);
    } catch (error) {
      this.#busyUntilMs -= costMs;
      throw error;
    }
    await this.#inner.read(offset, target, signal);
  }

  extents(offset: number, length: number, signal?: AbortSignal): Promise<Extent[]> {
    return this.#inner.extents(offset, length, signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#inner[Symbol.asyncDispose]();
  }
}
