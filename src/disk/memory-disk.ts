/** A disk in memory, for tests and small things: every whole block of zeroes is an extent of kind `zero`. */
import { checkRange } from './check-range.ts';
import { BLOCK_BYTES, EXTENTS_MAX, type Disk, type Extent } from './disk.ts';
import { isZero } from './is-zero.ts';

export class MemoryDisk implements Disk {
  /** The content; changing it changes the disk. */
  readonly content: Uint8Array;

  constructor(content: Uint8Array) {
    this.content = content;
  }

  get bytes(): number {
    return this.content.length;
  }

  async read(offset: number, target: Uint8Array, signal?: AbortSignal): Promise<void> {
    checkRange(this, offset, target.length);
    signal?.throwIfAborted();
    target.set(this.content.subarray(offset, offset + target.length));
  }

  async extents(offset: number, length: number, signal?: AbortSignal): Promise<Extent[]> {
    checkRange(this, offset, length);
    signal?.throwIfAborted();
    const extents: Extent[] = [];
    const end = offset + length;
    for (let at = offset; at < end;) {
      const blockEnd = Math.min(end, at - (at % BLOCK_BYTES) + BLOCK_BYTES);
      const kind = isZero(this.content.subarray(at, blockEnd)) ? 'zero' : 'data';
      const last = extents.at(-1);
      if (last?.kind === kind) last.length += blockEnd - at;
      else if (extents.length === EXTENTS_MAX) break;
      else extents.push({ offset: at, length: blockEnd - at, kind });
      at = blockEnd;
    }
    return extents;
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}
