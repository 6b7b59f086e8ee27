/**
 * One disk of a recovery point, read-only: the base, overlaid by the delta files up to the point.
 *
 * I1: every segment is checked when it is read; the base below it does not change for blocks that are not overlaid,
 * because the point is pinned, or because `confirm` finds out when it is not. Pure.
 */
import assert from 'node:assert/strict';
import { DIGEST_BYTES } from '#/disk/digest.ts';
import { checkRange } from '#/disk/check-range.ts';
import { BLOCK_BYTES, EXTENTS_MAX, type Disk, type Extent } from '#/disk/disk.ts';
import { isZeroPage } from './base-arrays.ts';
import { toHex } from './bytes.ts';
import type { DeltaFile } from './delta-file.ts';
import { withBaseFile, type DiskState } from './disk-state.ts';
import { fillSparse } from './files.ts';
import { EXTENT_PAGES_MAX, NODE_BLOCKS } from './limits.ts';
import { Overlay, type BlockSource } from './overlay.ts';
import { SegmentCache } from './segment-cache.ts';

export type ViewDiskParts = {
  state: DiskState;
  /** In order; slot n of the overlay is the delta file at n - 1. */
  deltas: DeltaFile[];
  cache: SegmentCache;
  /** Throws point_expired when what was read may not be the point's any more. */
  confirm: () => Promise<void>;
};

export class ViewDisk implements Disk {
  readonly bytes: number;
  readonly #parts: ViewDiskParts;
  readonly #overlay = new Overlay();

  static async open(parts: ViewDiskParts): Promise<ViewDisk> {
    const disk = new ViewDisk(parts);
    for (const [index, delta] of parts.deltas.entries()) {
      const place = delta.placeOf(parts.state.disk.id);
      if (place < 0) continue;
      disk.#overlay.lay(index + 1, await delta.locations(place), await delta.zeros(place));
    }
    return disk;
  }

  private constructor(parts: ViewDiskParts) {
    this.#parts = parts;
    this.bytes = parts.state.disk.bytes;
  }

  async read(offset: number, target: Uint8Array, signal?: AbortSignal): Promise<void> {
    checkRange(this, offset, target.length);
    signal?.throwIfAborted();
    const end = offset + target.length;
    const reads: Promise<void>[] = [];
    let hasBase = false;
    for (let at = offset; at < end;) {
      const source = this.#overlay.source(Math.floor(at / BLOCK_BYTES));
      const stop = this.#sameUntil(at, end, source);
      const piece = target.subarray(at - offset, stop - offset);
      if (source.kind === 'zero' || (source.kind === 'base' && this.#isZeroIn(at, stop))) piece.fill(0);
      else if (source.kind === 'base') {
        hasBase = true;
        reads.push(this.#readBase(at, piece));
      } else reads.push(this.#readSegment(source, at % BLOCK_BYTES, piece));
      at = stop;
    }
    await settleAll(reads);
    if (hasBase) await this.#parts.confirm();
  }

  async extents(offset: number, length: number, signal?: AbortSignal): Promise<Extent[]> {
    checkRange(this, offset, length);
    signal?.throwIfAborted();
    const extents: Extent[] = [];
    const end = offset + length;
    let pagesRead = 0;
    for (let at = offset; at < end;) {
      const node = Math.floor(at / (NODE_BLOCKS * BLOCK_BYTES));
      const stop = Math.min(end, (node + 1) * NODE_BLOCKS * BLOCK_BYTES);
      if (this.#parts.state.tree.isZero(node)) {
        if (!add(extents, { offset: at, length: stop - at, kind: 'zero' })) break;
      } else {
        if (pagesRead === EXTENT_PAGES_MAX) break;
        pagesRead++;
        if (!addPage(extents, await this.#parts.state.page(node), { at, stop })) break;
      }
      at = stop;
    }
    await this.#parts.confirm();
    return extents;
  }

  async [Symbol.asyncDispose](): Promise<void> {}

  /** Tells this disk from one that had the same key before it. */
  get identity(): string {
    return String(this.#parts.state.disk.id);
  }

  /** The page of digests of a node, checked against the tree. */
  page(node: number): Promise<Uint8Array> {
    return this.#parts.state.page(node);
  }

  /** All blocks below a node are zero. */
  isZeroNode(node: number): boolean {
    return this.#parts.state.tree.isZero(node);
  }

  /** Throws point_expired when what was read may not be the point's any more. */
  confirm(): Promise<void> {
    return this.#parts.confirm();
  }

  /** Equal only where the blocks below a node are the same bytes in the same files; undefined where all are zero. */
  fingerprint(node: number): string | undefined {
    if (this.#parts.state.tree.isZero(node)) return undefined;
    const digest = this.#parts.state.tree.node(node);
    const sources = this.#overlay.fingerprint(node, (slot) => this.#parts.deltas[slot - 1]!.entry.number);
    return `${toHex(digest)}:${sources}`;
  }

  /** How far the bytes from `at` on come from the same place, contiguously. */
  #sameUntil(at: number, end: number, source: BlockSource): number {
    let block = Math.floor(at / BLOCK_BYTES) + 1;
    for (let next = 1; block * BLOCK_BYTES < end; block++, next++) {
      const other = this.#overlay.source(block);
      if (other.kind !== source.kind) break;
      if (other.kind === 'segment' && source.kind === 'segment') {
        if (other.slot !== source.slot || other.offset !== source.offset) break;
        if (other.place !== source.place + next) break;
      }
    }
    return Math.min(end, block * BLOCK_BYTES);
  }

  /** Whether the digest tree knows a range as zero: then the base need not be asked. */
  #isZeroIn(at: number, stop: number): boolean {
    const span = NODE_BLOCKS * BLOCK_BYTES;
    for (let node = Math.floor(at / span); node * span < stop; node++) {
      if (!this.#parts.state.tree.isZero(node)) return false;
    }
    return true;
  }

  #readBase(offset: number, target: Uint8Array): Promise<void> {
    const { state } = this.#parts;
    return withBaseFile(state.place, state.disk.id, 'base', (file) => fillSparse(file, offset, target));
  }

  async #readSegment(
    source: BlockSource & { kind: 'segment' },
    inBlock: number,
    target: Uint8Array,
  ): Promise<void> {
    const delta = this.#parts.deltas[source.slot - 1];
    assert(delta, 'slot without a delta file');
    const payload = await this.#parts.cache.payload(delta, source.offset);
    const from = source.place * BLOCK_BYTES + inBlock;
    target.set(payload.subarray(from, from + target.length));
  }
}

/** Waits for all before it throws the first error, so that nobody writes into the target after that. */
async function settleAll(reads: Promise<void>[]): Promise<void> {
  for (const result of await Promise.allSettled(reads)) {
    if (result.status === 'rejected') throw result.reason;
  }
}

/** Adds an extent, joined with the last one of its kind; false when there is no room for it. */
function add(extents: Extent[], extent: Extent): boolean {
  const last = extents.at(-1);
  if (last?.kind === extent.kind) last.length += extent.length;
  else if (extents.length === EXTENTS_MAX) return false;
  else extents.push(extent);
  return true;
}

/** Adds the extents of bytes `at` to `stop`, which lie below one node with this page of digests. */
function addPage(extents: Extent[], page: Uint8Array, { at, stop }: { at: number; stop: number }): boolean {
  if (isZeroPage(page)) return add(extents, { offset: at, length: stop - at, kind: 'zero' });
  const view = new DataView(page.buffer, page.byteOffset, page.byteLength);
  for (let from = at; from < stop;) {
    const block = Math.floor(from / BLOCK_BYTES);
    const end = Math.min(stop, (block + 1) * BLOCK_BYTES);
    const digestAt = (block % NODE_BLOCKS) * DIGEST_BYTES;
    const isZero =
      view.getUint32(digestAt) === 0 &&
      view.getUint32(digestAt + 4) === 0 &&
      view.getUint32(digestAt + 8) === 0 &&
      view.getUint32(digestAt + 12) === 0;
    if (!add(extents, { offset: from, length: end - from, kind: isZero ? 'zero' : 'data' })) return false;
    from = end;
  }
  return true;
}
