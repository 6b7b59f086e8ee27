/**
 * Memory for the bodies of long frames, used again: a first copy would otherwise leave a gigabyte of garbage for each
 * gigabyte received, and collecting it costs more than receiving.
 *
 * Invariant: bytes are lent to one frame at a time, from `take` to `give`. Who never gives back costs nothing but the
 * reuse. Pure.
 */
import assert from 'node:assert/strict';
import { BODY_BYTES_POOLED_MAX, BODY_BYTES_POOLED_MIN, BODIES_POOLED_MAX } from './limits.ts';

export class BodyPool {
  readonly #free: ArrayBuffer[] = [];

  /** Memory for a body, with whatever was in it before. */
  take(length: number): Uint8Array {
    if (length < BODY_BYTES_POOLED_MIN || length > BODY_BYTES_POOLED_MAX) {
      // Every byte is overwritten before a frame is handed out; clearing it first would only cost time.
      return Buffer.allocUnsafeSlow(length);
    }
    const buffer = this.#free.pop() ?? Buffer.allocUnsafeSlow(BODY_BYTES_POOLED_MAX).buffer;
    return new Uint8Array(buffer, 0, length);
  }

  /** Takes the memory of a body back, given any part of it. Nobody may look at it from now on. */
  give({ buffer }: Uint8Array): void {
    const isPooled = buffer instanceof ArrayBuffer && buffer.byteLength === BODY_BYTES_POOLED_MAX;
    if (!isPooled || this.#free.length >= BODIES_POOLED_MAX) return;
    assert(!this.#free.includes(buffer), 'body given back twice');
    this.#free.push(buffer);
  }
}
