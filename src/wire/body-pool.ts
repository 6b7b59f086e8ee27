/**
 * Memory for the bodies of long frames, used again: a first copy would otherwise leave a gigabyte of garbage for each
 * gigabyte received, and collecting it costs more than receiving. It is such that blocks are digested where they lie.
 *
 * Invariant: bytes are lent to one frame at a time, from `take` to `give`. Who never gives back costs nothing but the
 * reuse. Pure.
 */
import assert from 'node:assert/strict';
import { digestMemory } from '#/disk/digest-memory.ts';
import { BLOCK_BYTES } from '#/disk/disk.ts';
import { BODY_BYTES_POOLED_MAX, BODY_BYTES_POOLED_MIN, BODIES_POOLED_MAX } from './limits.ts';

const SLOT_BYTES: number = Math.ceil(BODY_BYTES_POOLED_MAX / BLOCK_BYTES) * BLOCK_BYTES;

export class BodyPool {
  #memory: Uint8Array | undefined;
  /** Where slots that are free begin in the memory. */
  readonly #free: number[] = [];

  /** Memory for a body, with whatever was in it before. */
  take(length: number): Uint8Array {
    const isPooled = length >= BODY_BYTES_POOLED_MIN && length <= BODY_BYTES_POOLED_MAX;
    const slot = isPooled ? this.#takeSlot() : undefined;
    // Every byte is overwritten before a frame is handed out; clearing it first would only cost time.
    if (slot === undefined) return Buffer.allocUnsafeSlow(length);
    // A segment ends with whole blocks, if with any: they lie best where a block begins.
    const end = slot + SLOT_BYTES;
    return this.#memory!.subarray(end - length, end);
  }

  /** Takes the memory of a body back, given any part of it. Nobody may look at it from now on. */
  give(part: Uint8Array): void {
    const memory = this.#memory;
    if (memory === undefined || part.buffer !== memory.buffer) return;
    const at = part.byteOffset - memory.byteOffset;
    const slot = at - (at % SLOT_BYTES);
    assert(!this.#free.includes(slot), 'body given back twice');
    this.#free.push(slot);
  }

  #takeSlot(): number | undefined {
    // All of it is address space at first, and memory only where a body was.
    if (this.#memory === undefined) {
      this.#memory = digestMemory(BODIES_POOLED_MAX * SLOT_BYTES);
      for (let index = BODIES_POOLED_MAX - 1; index >= 0; index--) this.#free.push(index * SLOT_BYTES);
    }
    return this.#free.pop();
  }
}
