/** A disk that counts what is asked of it: for progress, for figures, and for tests that bound the work. */
import type { Disk, Extent } from './disk.ts';

export class CountedDisk implements Disk {
  readonly #inner: Disk;
  /** Reads that were asked for, failed ones included. */
  readCount = 0;
  /** Bytes of reads that succeeded. */
  readBytes = 0;
  extentsCount = 0;
  /** Reads under way. */
  inFlightCount = 0;
  /** Most reads that were ever under way together. */
  inFlightPeak = 0;

  constructor(inner: Disk) {
    this.#inner = inner;
  }

  get bytes(): number {
    return this.#inner.bytes;
  }

  async read(offset: number, target: Uint8Array, signal?: AbortSignal): Promise<void> {
    this.readCount += 1;
    this.inFlightCount += 1;
    this.inFlightPeak = Math.max(this.inFlightPeak, this.inFlightCount);
    try {
      await this.#inner.read(offset, target, signal);
      this.readBytes += target.length;
    } finally {
      this.inFlightCount -= 1;
    }
  }

  extents(offset: number, length: number, signal?: AbortSignal): Promise<Extent[]> {
    this.extentsCount += 1;
    return this.#inner.extents(offset, length, signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#inner[Symbol.asyncDispose]();
  }
}
