/** Decoded segments of one view, the last used ones, bounded by bytes. Each is checked when it is read. Pure. */
import { segmentPayload } from '#/wire/segment.ts';
import { corrupt } from './bytes.ts';
import type { DeltaFile } from './delta-file.ts';
import { VIEW_CACHE_BYTES } from './limits.ts';

type Entry = { payload: Promise<Uint8Array>; bytes: number };

export class SegmentCache {
  /** In order of last use. */
  readonly #entries = new Map<string, Entry>();
  #bytes = 0;

  /** The bytes of all blocks of the segment at an offset of a delta file. Not to be changed. */
  async payload(delta: DeltaFile, offset: number): Promise<Uint8Array> {
    const key = `${delta.entry.number}:${offset}`;
    const found = this.#entries.get(key);
    if (found !== undefined) {
      this.#entries.delete(key);
      this.#entries.set(key, found);
      return found.payload;
    }
    const entry: Entry = { payload: read(delta, offset), bytes: 0 };
    this.#entries.set(key, entry);
    try {
      const payload = await entry.payload;
      if (this.#entries.get(key) === entry) this.#count(entry, payload.length);
      return payload;
    } catch (error) {
      // A read that failed is no answer for the next one.
      if (this.#entries.get(key) === entry) this.#entries.delete(key);
      throw error;
    }
  }

  #count(entry: Entry, bytes: number): void {
    if (entry.bytes > 0) return;
    entry.bytes = bytes;
    this.#bytes += bytes;
    for (const [key, old] of this.#entries) {
      if (this.#bytes <= VIEW_CACHE_BYTES) return;
      if (old.bytes === 0 || old === entry) continue;
      this.#entries.delete(key);
      this.#bytes -= old.bytes;
    }
  }
}

async function read(delta: DeltaFile, offset: number): Promise<Uint8Array> {
  const segment = await delta.segment(offset, Number.MAX_SAFE_INTEGER);
  try {
    return segmentPayload(segment);
  } catch (error) {
    throw corrupt(delta.path, `payload of the segment at ${offset}`, error);
  }
}
