/**
 * Which blocks of one disk a delta file holds, collected while segments arrive and put in order at the end.
 *
 * Invariant: when a block came more than once, what came last counts. Pure.
 */
import { DIGEST_BYTES } from '#/disk/digest.ts';
import type { Run } from '#/wire/segment.ts';
import type { Locations, ZeroRuns } from './delta-format.ts';
import { NODE_BLOCKS } from './limits.ts';

/** What is in order: data blocks with their digests, and runs of zero blocks; no block is in both. */
export type Changes = { locations: Locations; digests: Uint8Array; zeros: ZeroRuns };

type Item = { first: number; count: number; order: number; data: number };

export class DeltaChanges {
  readonly #blocks: number[] = [];
  readonly #offsets: number[] = [];
  readonly #places: number[] = [];
  readonly #orders: number[] = [];
  #digests = new Uint8Array(64 * DIGEST_BYTES);
  readonly #zeros: Item[] = [];
  #order = 0;
  #isOrdered = true;
  #end = 0;

  get blockCount(): number {
    return this.#blocks.length;
  }

  get zeroRunCount(): number {
    return this.#zeros.length;
  }

  /** Blocks of the data segment at `offset`. */
  addData(runs: readonly Run[], digests: Uint8Array, offset: number): void {
    this.#reserve(digests.length);
    this.#digests.set(digests, this.#blocks.length * DIGEST_BYTES);
    let place = 0;
    for (const { first, count } of runs) {
      this.#follow(first, count);
      for (let i = 0; i < count; i++) {
        this.#blocks.push(first + i);
        this.#offsets.push(offset);
        this.#places.push(place++);
        this.#orders.push(this.#order);
      }
    }
    this.#order++;
  }

  /** Some blocks of the segment at `offset`, ascending, by their places in it. */
  addPlaced(blocks: readonly { block: number; place: number; digest: Uint8Array }[], offset: number): void {
    this.#reserve(blocks.length * DIGEST_BYTES);
    for (const { block, place, digest } of blocks) {
      this.#digests.set(digest, this.#blocks.length * DIGEST_BYTES);
      this.#follow(block, 1);
      this.#blocks.push(block);
      this.#offsets.push(offset);
      this.#places.push(place);
      this.#orders.push(this.#order);
    }
    this.#order++;
  }

  addZeros(runs: readonly Run[]): void {
    for (const { first, count } of runs) {
      this.#follow(first, count);
      this.#zeros.push({ first, count, order: this.#order, data: -1 });
    }
    this.#order++;
  }

  inOrder(): Changes {
    if (this.#isOrdered) {
      return this.#pick(
        this.#blocks.map((_, index) => index),
        this.#zeros,
      );
    }
    const items: Item[] = this.#blocks.map((first, data) => ({
      first,
      count: 1,
      order: this.#orders[data]!,
      data,
    }));
    for (const zero of this.#zeros) items.push(zero);
    const data: number[] = [];
    const zeros: Item[] = [];
    sweep(items, (item, first, end) => {
      const last = zeros.at(-1);
      if (item.data >= 0) data.push(item.data);
      else if (last !== undefined && last.first + last.count === first) last.count += end - first;
      else zeros.push({ first, count: end - first, order: 0, data: -1 });
    });
    return this.#pick(data, zeros);
  }

  /** Notices what is not behind everything before it. */
  #follow(first: number, count: number): void {
    if (first < this.#end) this.#isOrdered = false;
    this.#end = Math.max(this.#end, first + count);
  }

  #pick(data: number[], zeros: Item[]): Changes {
    const digests = new Uint8Array(data.length * DIGEST_BYTES);
    for (const [to, from] of data.entries()) {
      digests.set(this.#digests.subarray(from * DIGEST_BYTES, (from + 1) * DIGEST_BYTES), to * DIGEST_BYTES);
    }
    return {
      locations: {
        blocks: Float64Array.from(data, (index) => this.#blocks[index]!),
        offsets: Float64Array.from(data, (index) => this.#offsets[index]!),
        places: Uint16Array.from(data, (index) => this.#places[index]!),
      },
      digests,
      zeros: {
        first: Float64Array.from(zeros, ({ first }) => first),
        count: Float64Array.from(zeros, ({ count }) => count),
      },
    };
  }

  #reserve(bytes: number): void {
    const needed = this.#blocks.length * DIGEST_BYTES + bytes;
    if (needed <= this.#digests.length) return;
    const larger = new Uint8Array(Math.max(needed, this.#digests.length * 2));
    larger.set(this.#digests);
    this.#digests = larger;
  }
}

/** Walks over everything that is covered, in order, and says which of the covering items came last. */
function sweep(items: Item[], emit: (item: Item, first: number, end: number) => void): void {
  items.sort((a, b) => a.first - b.first);
  const active = new NewestFirst();
  let next = 0;
  let at = 0;
  while (next < items.length || active.top !== undefined) {
    while (next < items.length && items[next]!.first <= at) active.push(items[next++]!);
    while (active.top !== undefined && active.top.first + active.top.count <= at) active.pop();
    const ahead = items[next]?.first ?? Infinity;
    if (active.top === undefined) {
      at = ahead;
      continue;
    }
    const end = Math.min(active.top.first + active.top.count, ahead);
    emit(active.top, at, end);
    at = end;
  }
}

/** A heap whose top came last. */
class NewestFirst {
  readonly #heap: Item[] = [];

  get top(): Item | undefined {
    return this.#heap[0];
  }

  push(item: Item): void {
    const heap = this.#heap;
    let at = heap.push(item) - 1;
    for (let above = (at - 1) >> 1; at > 0 && heap[above]!.order < item.order; above = (at - 1) >> 1) {
      heap[at] = heap[above]!;
      at = above;
    }
    heap[at] = item;
  }

  pop(): void {
    const heap = this.#heap;
    const item = heap.pop();
    if (item === undefined || heap.length === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child + 1 < heap.length && heap[child + 1]!.order > heap[child]!.order) child++;
      if (child >= heap.length || heap[child]!.order <= item.order) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = item;
  }
}

/** What changes touch below one node: data blocks `from` to `end` of the locations, and runs of zero blocks. */
export type TouchedNode = { node: number; from: number; end: number; zeros: Run[] };

/** The nodes of level 1 that changes touch, ascending. */
export function* touchedNodes({ locations: { blocks }, zeros }: Changes): Generator<TouchedNode> {
  let from = 0;
  let run = 0;
  let cut = 0;
  while (from < blocks.length || run < zeros.first.length) {
    const nextData = from < blocks.length ? blocks[from]! : Infinity;
    const nextZero = run < zeros.first.length ? zeros.first[run]! + cut : Infinity;
    const node = Math.floor(Math.min(nextData, nextZero) / NODE_BLOCKS);
    const limit = (node + 1) * NODE_BLOCKS;
    let end = from;
    while (end < blocks.length && blocks[end]! < limit) end++;
    const touched: TouchedNode = { node, from, end, zeros: [] };
    while (run < zeros.first.length && zeros.first[run]! + cut < limit) {
      const first = zeros.first[run]! + cut;
      const count = Math.min(zeros.first[run]! + zeros.count[run]!, limit) - first;
      touched.zeros.push({ first, count });
      cut += count;
      if (cut < zeros.count[run]!) break;
      run++;
      cut = 0;
    }
    yield touched;
    from = end;
  }
}

/** Lays changes of one node over its page of digests. */
export function patchPage(page: Uint8Array, { locations, digests }: Changes, touched: TouchedNode): void {
  const first = touched.node * NODE_BLOCKS;
  for (const run of touched.zeros) {
    page.fill(0, (run.first - first) * DIGEST_BYTES, (run.first + run.count - first) * DIGEST_BYTES);
  }
  for (let i = touched.from; i < touched.end; i++) {
    const digest = digests.subarray(i * DIGEST_BYTES, (i + 1) * DIGEST_BYTES);
    page.set(digest, (locations.blocks[i]! - first) * DIGEST_BYTES);
  }
}
