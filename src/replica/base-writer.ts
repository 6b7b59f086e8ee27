/**
 * Writes the blocks of a first copy straight into the base of one disk (docs/storage-format.md, section 5.3).
 *
 * Invariant: digests and tree never claim what is not durable. Blocks are written below marked nodes; a barrier makes
 * them durable, then writes their digests and nodes, makes those durable, and takes the marks away. Barriers run
 * beside the writes that follow them. Pure.
 */
import assert from 'node:assert/strict';
import { DIGEST_BYTES } from '#/disk/digest.ts';
import { blockCount, BLOCK_BYTES } from '#/disk/disk.ts';
import type { File } from '#/disk/file-system.ts';
import { segmentPayload, type Run, type Segment } from '#/wire/segment.ts';
import { writeNodes, writePages } from './base-arrays.ts';
import type { DiskState } from './disk-state.ts';
import { nodeOf } from './disk-tree.ts';
import { FirstCopyMarks, groupOf } from './first-copy-marks.ts';
import { NODE_BLOCKS, PAGE_BYTES } from './limits.ts';
import { basePath } from './store-place.ts';
import { WriteQueue } from './write-queue.ts';

/** A page of digests that the file does not have yet, and which of its blocks were written since the last barrier. */
type Pending = { digests: Uint8Array; touched: Uint8Array };
type Blocks = { digests: Uint8Array; bytes: Uint8Array; arrived: () => void };
type Files = { base: File; digests: File; tree: File; marks: File };

export class BaseWriter implements AsyncDisposable {
  readonly #state: DiskState;
  readonly #files: Files;
  readonly #queue: WriteQueue;
  readonly #marks: FirstCopyMarks;
  #pending = new Map<number, Pending>();
  #inBarrier = new Map<number, Pending>();
  #barrier: Promise<void> = Promise.resolve();
  /** Marked groups that a running write relies on. */
  readonly #busyGroups = new Set<number>();
  /** Bytes between two barriers. */
  readonly #barrierBytes: number;
  #bytes = 0;
  /** Length of the base. */
  #length: number;

  static async open(state: DiskState, barrierBytes: number): Promise<BaseWriter> {
    const { files, directory } = state.place;
    const { id } = state.disk;
    const base = await files.open(basePath(directory, id, 'base'), 'read-write');
    const digests = await files.open(basePath(directory, id, 'base.digests'), 'read-write');
    const tree = await files.open(basePath(directory, id, 'base.tree'), 'read-write');
    const marks = await files.open(basePath(directory, id, 'base.marks'), 'read-write');
    const writer = new BaseWriter(state, { base, digests, tree, marks }, barrierBytes);
    writer.#length = await base.bytes();
    return writer;
  }

  private constructor(state: DiskState, files: Files, barrierBytes: number) {
    this.#length = 0;
    this.#barrierBytes = barrierBytes;
    this.#state = state;
    this.#files = files;
    this.#queue = new WriteQueue(files.base);
    this.#marks = new FirstCopyMarks(files.marks, Math.ceil(state.tree.blocks / NODE_BLOCKS));
    state.pending = (node) => (this.#pending.get(node) ?? this.#inBarrier.get(node))?.digests;
  }

  /**
   * Takes a segment of this disk. One call at a time. `release` is called once its bytes are in the file, which may
   * be after this has resolved and is before the next barrier has; when a write fails it may never be.
   */
  async write(segment: Segment, release: () => void): Promise<void> {
    const payload = segment.kind === 'data' ? segmentPayload(segment) : undefined;
    const holds = new Holds(release);
    let at = 0;
    for (const run of segment.runs) {
      for (const piece of byNode(run)) {
        if (segment.kind === 'zero') {
          await this.#writeZeros(piece);
          continue;
        }
        const digests = segment.digests.subarray(at * DIGEST_BYTES, (at + piece.count) * DIGEST_BYTES);
        const bytes = payload!.subarray(at * BLOCK_BYTES, (at + piece.count) * BLOCK_BYTES);
        await this.#writeData(piece, { digests, bytes, arrived: holds.take() });
        at += piece.count;
      }
    }
    holds.end();
    if (this.#bytes >= this.#barrierBytes) await this.startBarrier();
  }

  /** Makes durable what was written up to now, beside what follows. Waits for the barrier before this one. */
  async startBarrier(): Promise<void> {
    await this.#barrier;
    await this.#queue.drain();
    this.#inBarrier = this.#pending;
    this.#pending = new Map();
    this.#bytes = 0;
    this.#barrier = this.#complete();
    // Whoever waits for it next is told; until then nobody may be.
    this.#barrier.catch(() => undefined);
  }

  /** Resolves when everything written is durable and has its digests. */
  async barrier(): Promise<void> {
    await this.startBarrier();
    await this.#barrier;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#queue.settle();
    await this.#barrier.catch(() => undefined);
    await this.#marks.settle();
    this.#state.pending = () => undefined;
    for (const file of Object.values(this.#files)) await file[Symbol.asyncDispose]();
  }

  async #writeData(run: Run, { digests, bytes, arrived }: Blocks): Promise<void> {
    await this.#below(run, async (page, index) => {
      const touched = page.touched.subarray(index, index + run.count);
      // Two writes of one block may overtake each other: the first one has to arrive before the second begins.
      if (touched.includes(1)) await this.#queue.drain();
      await this.#grow((run.first + run.count) * BLOCK_BYTES);
      await this.#queue.write(run.first * BLOCK_BYTES, bytes, arrived);
      page.digests.set(digests, index * DIGEST_BYTES);
      touched.fill(1);
    });
    this.#bytes += bytes.length;
  }

  /** A file system writes into a hole with less ado than behind a file's end, and several such writes at once. */
  async #grow(end: number): Promise<void> {
    if (end <= this.#length) return;
    const blocks = blockCount(this.#state.disk.bytes);
    this.#length = Math.min(blocks * BLOCK_BYTES, Math.ceil(end / this.#barrierBytes) * this.#barrierBytes);
    await this.#files.base.truncate(this.#length);
  }

  async #writeZeros(run: Run): Promise<void> {
    const node = Math.floor(run.first / NODE_BLOCKS);
    const index = run.first - node * NODE_BLOCKS;
    const known = (await this.#state.page(node)).subarray(
      index * DIGEST_BYTES,
      (index + run.count) * DIGEST_BYTES,
    );
    if (known.every((byte) => byte === 0)) return;
    await this.#below(run, async (page) => {
      await this.#queue.drain();
      await this.#files.base.punch(run.first * BLOCK_BYTES, run.count * BLOCK_BYTES);
      page.digests.fill(0, index * DIGEST_BYTES, (index + run.count) * DIGEST_BYTES);
      page.touched.fill(1, index, index + run.count);
    });
  }

  /** Runs `action` on the pending page of the run's node, marked. */
  async #below(run: Run, action: (page: Pending, index: number) => Promise<void>): Promise<void> {
    const node = Math.floor(run.first / NODE_BLOCKS);
    const group = groupOf(node);
    this.#busyGroups.add(group);
    try {
      await this.#marks.mark(node, node);
      let page = this.#pending.get(node);
      if (page === undefined) {
        page = { digests: await this.#state.page(node), touched: new Uint8Array(NODE_BLOCKS) };
        this.#pending.set(node, page);
      }
      await action(page, run.first - node * NODE_BLOCKS);
    } finally {
      this.#busyGroups.delete(group);
    }
  }

  async #complete(): Promise<void> {
    if (this.#inBarrier.size === 0) return;
    const { base, digests, tree } = this.#files;
    await base.datasync();
    const nodes = [...this.#inBarrier.keys()].sort((a, b) => a - b);
    const pages = nodes.map((node) => this.#inBarrier.get(node)!.digests);
    const { blocks } = this.#state.tree;
    const level1 = new Uint8Array(nodes.length * DIGEST_BYTES);
    for (const [index, page] of pages.entries()) {
      assert(page.length === PAGE_BYTES);
      level1.set(nodeOf(page, nodes[index]!, blocks), index * DIGEST_BYTES);
    }
    await writePages(digests, nodes, pages);
    await writeNodes(tree, nodes, level1);
    await digests.datasync();
    await tree.datasync();
    this.#state.tree = this.#state.tree.with(blocks, [{ nodes, digests: level1 }]);
    this.#inBarrier = new Map();
    await this.#marks.unmark(
      (group) => this.#busyGroups.has(group) || this.#pending.keys().some((node) => groupOf(node) === group),
    );
  }
}

/** Calls `release` when all that was taken has been let go, and `end` was called. */
class Holds {
  readonly #release: () => void;
  #count = 1;

  constructor(release: () => void) {
    this.#release = release;
  }

  /** One more hold; the function that is returned lets go of it. */
  take(): () => void {
    this.#count++;
    return () => this.end();
  }

  end(): void {
    this.#count--;
    if (this.#count === 0) this.#release();
  }
}

/** A run cut at the borders of nodes. */
function* byNode({ first, count }: Run): Generator<Run> {
  const end = first + count;
  for (let at = first; at < end;) {
    const stop = Math.min(end, (Math.floor(at / NODE_BLOCKS) + 1) * NODE_BLOCKS);
    yield { first: at, count: stop - at };
    at = stop;
  }
}
