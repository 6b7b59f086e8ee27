/**
 * The row of digests of a disk of a recovery point, as a read-only disk: who compares with the point reads 4 KiB for
 * each MiB of it. Each page is checked against the point's tree when it is read. Pure.
 */
import { checkRange } from '#/disk/check-range.ts';
import { DIGEST_BYTES } from '#/disk/digest.ts';
import { blockCount, EXTENTS_MAX, type Disk, type Extent } from '#/disk/disk.ts';
import { PAGE_BYTES } from './limits.ts';
import type { ViewDisk } from './view-disk.ts';

const SECTOR_BYTES = 512;

export class DigestDisk implements Disk {
  readonly bytes: number;
  readonly #disk: ViewDisk;

  constructor(disk: ViewDisk) {
    this.#disk = disk;
    this.bytes = Math.ceil((blockCount(disk.bytes) * DIGEST_BYTES) / SECTOR_BYTES) * SECTOR_BYTES;
  }

  async read(offset: number, target: Uint8Array, signal?: AbortSignal): Promise<void> {
    checkRange(this, offset, target.length);
    const end = offset + target.length;
    for (let at = offset; at < end;) {
      signal?.throwIfAborted();
      const node = Math.floor(at / PAGE_BYTES);
      const stop = Math.min(end, (node + 1) * PAGE_BYTES);
      const piece = target.subarray(at - offset, stop - offset);
      if (this.#disk.isZeroNode(node)) {
        piece.fill(0);
      } else {
        const page = await this.#disk.page(node);
        piece.set(page.subarray(at - node * PAGE_BYTES, stop - node * PAGE_BYTES));
      }
      at = stop;
    }
    await this.#disk.confirm();
  }

  /** A page below which all blocks are zero is zero; no page is read for it. */
  async extents(offset: number, length: number, signal?: AbortSignal): Promise<Extent[]> {
    checkRange(this, offset, length);
    signal?.throwIfAborted();
    const extents: Extent[] = [];
    for (let at = offset; at < offset + length;) {
      const node = Math.floor(at / PAGE_BYTES);
      const stop = Math.min(offset + length, (node + 1) * PAGE_BYTES);
      const kind = this.#disk.isZeroNode(node) ? 'zero' : 'data';
      const last = extents.at(-1);
      if (last?.kind === kind) last.length += stop - at;
      else if (extents.length === EXTENTS_MAX) break;
      else extents.push({ offset: at, length: stop - at, kind });
      at = stop;
    }
    await this.#disk.confirm();
    return extents;
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}
