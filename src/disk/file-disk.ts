/**
 * A raw image file as a Disk.
 *
 * Node cannot ask a file for its holes, so everything is `data` unless the owner knows better (an index, a digest
 * array) and says so through `extents`. A length that is no whole number of sectors is rounded up; what lies beyond
 * the file's end reads as zeroes.
 */
import { checkRange } from './check-range.ts';
import { EXTENTS_MAX, type Disk, type Extent } from './disk.ts';
import type { File } from './file-system.ts';

const SECTOR_BYTES = 512;

/** Extents of a range that is on the disk and not empty; the same promises as `Disk.extents`. */
export type ExtentSource = (offset: number, length: number, signal?: AbortSignal) => Promise<Extent[]>;

export class FileDisk implements Disk {
  readonly bytes: number;
  readonly #file: File;
  readonly #extents: ExtentSource;

  /** Takes `file` over and closes it. */
  static async open(file: File, extents: ExtentSource = allData): Promise<FileDisk> {
    return new FileDisk(file, { bytes: await file.bytes(), extents });
  }

  private constructor(file: File, { bytes, extents }: { bytes: number; extents: ExtentSource }) {
    this.#file = file;
    this.#extents = extents;
    this.bytes = Math.ceil(bytes / SECTOR_BYTES) * SECTOR_BYTES;
  }

  async read(offset: number, target: Uint8Array, signal?: AbortSignal): Promise<void> {
    checkRange(this, offset, target.length);
    signal?.throwIfAborted();
    const count = await this.#file.read(offset, target);
    target.fill(0, count);
  }

  async extents(offset: number, length: number, signal?: AbortSignal): Promise<Extent[]> {
    checkRange(this, offset, length);
    signal?.throwIfAborted();
    if (length === 0) return [];
    return (await this.#extents(offset, length, signal)).slice(0, EXTENTS_MAX);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file[Symbol.asyncDispose]();
  }
}

const allData: ExtentSource = (offset, length) => Promise.resolve([{ offset, length, kind: 'data' }]);
