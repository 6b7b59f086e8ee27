/**
 * Where each block of a disk is at one recovery point: in the base, in a segment of a delta file, or nowhere because
 * it is zero. Two levels: pages of 256 blocks, made where something is not in the base; 2 KiB for each such MiB.
 *
 * A block's entry is two 32-bit numbers: the low half of its segment's offset; then 14 bits slot of the delta file,
 * 6 bits place in the segment, 12 bits high part of the offset. A slot without an offset is a zero block. Pure.
 */
import assert from 'node:assert/strict';
import { hash } from 'node:crypto';
import type { Locations, ZeroRuns } from './delta-format.ts';
import { NODE_BLOCKS } from './limits.ts';

const SLOT_SHIFT = 18;
const PLACE_SHIFT = 12;
const PLACE_MASK = 0x3f;
const HIGH_MASK = 0xfff;
const CHUNK_PAGES = 1024;
export const SLOTS_MAX = 2 ** 14;

type Page = { low: Uint32Array; rest: Uint32Array };

/** A page of zero blocks, shared by all that are nothing else. */
const ZERO_PAGE: Page = {
  low: new Uint32Array(NODE_BLOCKS),
  rest: new Uint32Array(NODE_BLOCKS).fill(1 << SLOT_SHIFT),
};

export type BlockSource =
  | { kind: 'base' }
  | { kind: 'zero' }
  | { kind: 'segment'; slot: number; offset: number; place: number };

const BASE: BlockSource = { kind: 'base' };
const ZERO: BlockSource = { kind: 'zero' };

export class Overlay {
  readonly #chunks: (Page | undefined)[][] = [];

  /** Lays a delta file over what is there; `slot` is from 1 to SLOTS_MAX - 1. */
  lay(slot: number, { blocks, offsets, places }: Locations, zeros: ZeroRuns): void {
    assert(slot >= 1 && slot < SLOTS_MAX);
    for (let i = 0; i < zeros.first.length; i++) this.#layZeros(slot, zeros.first[i]!, zeros.count[i]!);
    for (let i = 0; i < blocks.length; i++) {
      const block = blocks[i]!;
      const index = block % NODE_BLOCKS;
      const page = this.#ownPage((block - index) / NODE_BLOCKS);
      const offset = offsets[i]!;
      page.low[index] = offset >>> 0;
      page.rest[index] = (slot << SLOT_SHIFT) | (places[i]! << PLACE_SHIFT) | Math.floor(offset / 2 ** 32);
    }
  }

  source(block: number): BlockSource {
    const index = block % NODE_BLOCKS;
    const page = this.#page((block - index) / NODE_BLOCKS);
    const rest = page?.rest[index] ?? 0;
    if (page === undefined || rest === 0) return BASE;
    const offset = (rest & HIGH_MASK) * 2 ** 32 + page.low[index]!;
    if (offset === 0) return ZERO;
    return { kind: 'segment', slot: rest >>> SLOT_SHIFT, offset, place: (rest >>> PLACE_SHIFT) & PLACE_MASK };
  }

  /** Differs where a block of the node comes from another file or place. */
  fingerprint(node: number, numberOf: (slot: number) => number): string {
    const page = this.#page(node);
    if (page === undefined) return 'base';
    const parts = Array.from(page.rest, (rest, index) =>
      rest === 0 ? '' : `${numberOf(rest >>> SLOT_SHIFT)}.${rest & HIGH_MASK}.${page.low[index]}`,
    );
    return hash('sha256', parts.join());
  }

  /** Those parts of a run that are zero because a delta file says so. */
  *zerosIn(first: number, count: number): Generator<{ first: number; count: number }> {
    const end = first + count;
    for (let at = first; at < end;) {
      const node = Math.floor(at / NODE_BLOCKS);
      const stop = Math.min(end, (node + 1) * NODE_BLOCKS);
      if (this.#page(node) === ZERO_PAGE) {
        yield { first: at, count: stop - at };
        at = stop;
        continue;
      }
      let from = at;
      for (; at < stop; at++) {
        if (this.source(at).kind === 'zero') continue;
        if (at > from) yield { first: from, count: at - from };
        from = at + 1;
      }
      if (at > from) yield { first: from, count: at - from };
    }
  }

  #layZeros(slot: number, first: number, count: number): void {
    const end = first + count;
    for (let at = first; at < end;) {
      const node = Math.floor(at / NODE_BLOCKS);
      const stop = Math.min(end, (node + 1) * NODE_BLOCKS);
      if (stop - at === NODE_BLOCKS) this.#setPage(node, ZERO_PAGE);
      else {
        const page = this.#ownPage(node);
        page.low.fill(0, at - node * NODE_BLOCKS, stop - node * NODE_BLOCKS);
        page.rest.fill(slot << SLOT_SHIFT, at - node * NODE_BLOCKS, stop - node * NODE_BLOCKS);
      }
      at = stop;
    }
  }

  #page(node: number): Page | undefined {
    return this.#chunks[Math.floor(node / CHUNK_PAGES)]?.[node % CHUNK_PAGES];
  }

  #ownPage(node: number): Page {
    const page = this.#page(node);
    if (page !== undefined && page !== ZERO_PAGE) return page;
    const own: Page = {
      low: page?.low.slice() ?? new Uint32Array(NODE_BLOCKS),
      rest: page?.rest.slice() ?? new Uint32Array(NODE_BLOCKS),
    };
    this.#setPage(node, own);
    return own;
  }

  #setPage(node: number, page: Page): void {
    const chunk = Math.floor(node / CHUNK_PAGES);
    (this.#chunks[chunk] ??= [])[node % CHUNK_PAGES] = page;
  }
}
