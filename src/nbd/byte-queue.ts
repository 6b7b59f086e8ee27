/**
 * Bytes that arrived and were not asked for yet, read by exact counts: the way both sides negotiate.
 *
 * Bound: holds at most `capacity` bytes beyond what a pending read needs; `push` tells when it is over, so that a
 * stream can be paused or a peer that sends unasked be refused. One reader at a time.
 */
import { strict as assert } from 'node:assert';
import type { Failure } from '#/lib/failure.ts';

type Reader = { count: number; resolve: (bytes: Uint8Array) => void; reject: (reason: Failure) => void };

export class ByteQueue {
  readonly #capacity: number;
  #chunks: Uint8Array[] = [];
  #length = 0;
  #reader: Reader | undefined;
  #ended: Failure | undefined;
  /** Called when the queue has become short enough for more. */
  onDrain: (() => void) | undefined;

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  get length(): number {
    return this.#length;
  }

  /** Takes `bytes` over (the caller does not change them). False when the queue is over its capacity. */
  push(bytes: Uint8Array): boolean {
    if (bytes.length > 0) this.#chunks.push(bytes);
    this.#length += bytes.length;
    this.#serve();
    return this.#length <= this.#capacity;
  }

  /** No more bytes come: what is queued can still be read, anything more fails with `reason`. */
  end(reason: Failure): void {
    this.#ended ??= reason;
    this.#serve();
  }

  /** Exactly `count` bytes. */
  read(count: number): Promise<Uint8Array> {
    assert(this.#reader === undefined, 'one reader at a time');
    return new Promise((resolve, reject) => {
      this.#reader = { count, resolve, reject };
      this.#serve();
    });
  }

  /** Passes over `count` bytes without holding them. */
  async skip(count: number): Promise<void> {
    for (let left = count; left > 0;) {
      const part = Math.min(left, 64 * 1024);
      await this.read(part);
      left -= part;
    }
  }

  /** All that is queued, without waiting. */
  drain(): Uint8Array {
    return this.#take(this.#length);
  }

  #serve(): void {
    const reader = this.#reader;
    if (reader === undefined) return;
    if (this.#length >= reader.count) {
      this.#reader = undefined;
      reader.resolve(this.#take(reader.count));
      if (this.#length <= this.#capacity) this.onDrain?.();
    } else if (this.#ended !== undefined) {
      this.#reader = undefined;
      reader.reject(this.#ended);
    } else if (reader.count > this.#capacity) {
      this.onDrain?.();
    }
  }

  #take(count: number): Uint8Array {
    this.#length -= count;
    const first = this.#chunks[0];
    if (first !== undefined && first.length > count) {
      this.#chunks[0] = first.subarray(count);
      return first.subarray(0, count);
    }
    const out = new Uint8Array(count);
    let used = 0;
    let at = 0;
    while (at < count) {
      const chunk = this.#chunks[used]!;
      const part = Math.min(chunk.length, count - at);
      out.set(part === chunk.length ? chunk : chunk.subarray(0, part), at);
      at += part;
      if (part === chunk.length) used++;
      else this.#chunks[used] = chunk.subarray(part);
    }
    this.#chunks.splice(0, used);
    return out;
  }
}
