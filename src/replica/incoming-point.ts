/**
 * A point while it is being received: its segments go as they come into files in `incoming/`, which become delta
 * files when it is committed (docs/storage-format.md, section 6.4).
 *
 * I2, the order of commit: write, check what was written, datasync, rename, sync the directory, append to the log,
 * datasync; only then the point is offered. Pure.
 */
import assert from 'node:assert/strict';
import { blockCount } from '#/disk/disk.ts';
import { Failure } from '#/lib/failure.ts';
import { blocksIn, decodeSegment, SEGMENT_BLOCKS_MAX } from '#/wire/segment.ts';
import { DeltaFile, deltaPath, openDelta } from './delta-file.ts';
import { decodeHeader, HEADER_BYTES_MAX, type DeltaHeader, type Nodes } from './delta-format.ts';
import { DeltaWriter } from './delta-writer.ts';
import { DiskState } from './disk-state.ts';
import { DiskTree } from './disk-tree.ts';
import { openIfThere, pathIn, removeIfThere } from './files.ts';
import { NODE_BLOCKS, PAGE_BYTES, SPACE_CHECK_BYTES } from './limits.ts';
import type { DeltaEntry, DiskEntry, PointEntry } from './log-record.ts';
import type { CommitRequest, PointIntent } from './replica.ts';
import { checkRoots, checkSpace, type ReplicaCore } from './replica-core.ts';

type Part = { path: string; segmentCount: number; nodes: Nodes[] };

export function incomingPath(directory: string, stamp: string, part: number): string {
  return pathIn(pathIn(directory, 'incoming'), `${stamp}-${part}.partial`);
}

export class IncomingPoint implements AsyncDisposable {
  readonly stamp: string;
  readonly #core: ReplicaCore;
  readonly #sequence: number;
  #disks: DiskEntry[];
  /** The head's state of each disk; a new disk is all zero. */
  readonly #states: DiskState[];
  /** Parts that are complete. */
  readonly #parts: Part[] = [];
  /** Where the pages of complete parts are, for each disk. */
  readonly #pages: Map<number, { path: string; offset: number }>[];
  #writer: DeltaWriter | undefined;
  #uncheckedBytes = 0;
  #isBroken = false;
  #last: Promise<void> = Promise.resolve();

  constructor(core: ReplicaCore, intent: { stamp: string; sequence: number }, disks: DiskEntry[]) {
    this.stamp = intent.stamp;
    this.#core = core;
    this.#sequence = intent.sequence;
    this.#disks = disks;
    this.#states = disks.map((disk) => stateOf(core, disk));
    this.#pages = disks.map(() => new Map());
  }

  get sequence(): number {
    return this.#sequence;
  }

  /** Goes on for these disks, when they are the same ones: what was found after a crash has no keys of new disks. */
  adopt(disks: DiskEntry[]): boolean {
    const isSame =
      disks.length === this.#disks.length &&
      disks.every(
        ({ id, bytes }, index) => id === this.#disks[index]!.id && bytes === this.#disks[index]!.bytes,
      );
    if (isSame) this.#disks = disks;
    return isSame;
  }

  get segmentCount(): number {
    return this.#parts.reduce((sum, part) => sum + part.segmentCount, 0) + (this.#writer?.segmentCount ?? 0);
  }

  /** Takes up the files that an earlier program left, as far as they are good. */
  async resume(): Promise<void> {
    const { files, tag, digestKey } = this.#core.place;
    for (let part = 0; ; part++) {
      const path = this.#path(part);
      const file = await openIfThere(files, path, 'read-write');
      if (file === undefined) return;
      const start = new Uint8Array(HEADER_BYTES_MAX);
      const count = await file.read(0, start);
      const header = tryHeader(start.subarray(0, count), tag, path);
      if (header === undefined || !this.#isOwn(header, part)) {
        await file[Symbol.asyncDispose]();
        return;
      }
      this.#writer = await DeltaWriter.resume(file, header, digestKey);
      const next = await openIfThere(files, this.#path(part + 1), 'read');
      if (next === undefined) return;
      await next[Symbol.asyncDispose]();
      if (!this.#writer.isFull(this.#core.limits.deltaBlocksMax)) return;
      await this.#finishPart();
    }
  }

  /** `release` is called when the bytes have been copied. */
  write(bytes: Uint8Array, release: () => void): Promise<void> {
    const done = this.#last.then(() => this.#write(bytes, release));
    this.#last = done.catch(() => undefined);
    return done;
  }

  /** Returns the point when it is durable and in the log, and the head of `core` has moved to it. */
  async commit(intent: PointIntent, request: CommitRequest): Promise<PointEntry> {
    await this.#last;
    if (this.#writer !== undefined || this.#isResized()) await this.#finishPart();
    const trees = this.#states.map((state, index) =>
      state.tree.with(
        blockCount(this.#disks[index]!.bytes),
        this.#parts.map(({ nodes }) => nodes[index]!),
      ),
    );
    const roots = trees.map(({ root }) => root);
    checkRoots(this.#disks, roots, request.roots);
    const deltas = await this.#place();
    try {
      const point: PointEntry = {
        sequence: this.#sequence,
        stamp: intent.stamp,
        momentMs: intent.momentMs,
        acknowledgedMs: this.#core.clock.now(),
        epoch: intent.epoch,
        consistency: request.consistency,
        disks: this.#disks.map((disk, index) => ({ ...disk, root: roots[index]! })),
        attachments: request.attachments,
        bytes: deltas.reduce((sum, { entry }) => sum + entry.bytes, 0),
      };
      await this.#core.log.append({ kind: 'point', point, deltas: deltas.map(({ entry }) => entry) });
      this.#advance(trees, deltas);
      return point;
    } catch (error) {
      // Files that a record in doubt may name stay; the replica's next opening decides.
      if (this.#core.log.isSettled) for (const delta of deltas) await delta.release();
      throw error;
    }
  }

  /** Resolves when what was received is in its file, so that a later transfer goes on after it. */
  async drain(): Promise<void> {
    await this.#last;
    if (this.#isBroken)
      throw new Failure('storage_io', `keep what came of ${this.stamp}: a write of it failed`);
    await this.#writer?.drain();
  }

  /** Removes what was received. */
  async drop(): Promise<void> {
    await this[Symbol.asyncDispose]();
    const { files, pool } = this.#core.place;
    for (let part = 0; part <= this.#parts.length; part++) {
      await pool.close(this.#path(part));
      await removeIfThere(files, this.#path(part));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#last;
    await this.#writer?.[Symbol.asyncDispose]();
    this.#writer = undefined;
  }

  async #write(bytes: Uint8Array, release: () => void): Promise<void> {
    const blocksOf = (disk: number): number | undefined => {
      const entry = this.#disks[disk];
      return entry && blockCount(entry.bytes);
    };
    const segment = decodeSegment(bytes, blocksOf, this.#core.place.digestKey);
    const blocks = blocksIn(segment.runs);
    if (segment.kind === 'data' && blocks > SEGMENT_BLOCKS_MAX) {
      throw new Failure('protocol_corrupt', `receive a segment of ${blocks} blocks in a point with a base`);
    }
    this.#uncheckedBytes += bytes.length;
    if (this.#uncheckedBytes >= SPACE_CHECK_BYTES) {
      this.#uncheckedBytes = 0;
      await checkSpace(this.#core);
    }
    try {
      if (this.#writer?.isFull(this.#core.limits.deltaBlocksMax) === true) await this.#finishPart();
      this.#writer ??= await this.#newWriter();
      await this.#writer.write(bytes, segment);
      release();
    } catch (error) {
      this.#isBroken = true;
      throw error;
    }
  }

  async #newWriter(): Promise<DeltaWriter> {
    const part = this.#parts.length;
    const { files, tag } = this.#core.place;
    await removeIfThere(files, this.#path(part));
    const file = await files.open(this.#path(part), 'create-new');
    const disks = this.#disks.map(({ id, bytes }) => ({ id, bytes }));
    const header = { tag, stamp: this.stamp, first: this.#sequence, last: this.#sequence, part, disks };
    return DeltaWriter.begin(file, header);
  }

  /** Completes the file being written, checks it as a reader would, and makes it durable. */
  async #finishPart(): Promise<void> {
    const path = this.#path(this.#parts.length);
    this.#writer ??= await this.#newWriter();
    const writer = this.#writer;
    for (const [place, { tree }] of this.#states.entries()) {
      const blocks = blockCount(this.#disks[place]!.bytes);
      if (blocks < tree.blocks && this.#parts.length === 0)
        writer.addZeros(place, blocks, tree.blocks - blocks);
    }
    const nodes = await writer.finish(
      (place, node) => this.#page(place, node),
      (place) => this.#edges(place),
    );
    await this.#check(path);
    await writer.datasync();
    for (const [place, table] of nodes.entries()) {
      for (const [index, node] of table.nodes.entries()) {
        this.#pages[place]!.set(node, { path, offset: table.pages[index]! });
      }
    }
    this.#parts.push({ path, segmentCount: writer.segmentCount, nodes });
    this.#writer = undefined;
    await writer[Symbol.asyncDispose]();
  }

  /** I1: what was written is read back before anybody relies on it. */
  async #check(path: string): Promise<void> {
    const { pool, tag, digestKey } = this.#core.place;
    const entry = { number: 0, first: this.#sequence, last: this.#sequence, level: 0, bytes: 0 };
    const delta = await DeltaFile.open({ pool, path, tag, digestKey }, entry);
    for (const place of delta.header.disks.keys()) {
      await delta.locations(place);
      await delta.zeros(place);
      await delta.nodes(place);
    }
  }

  /** Gives the complete files their names, durably. */
  async #place(): Promise<DeltaFile[]> {
    const { files, directory, pool } = this.#core.place;
    if (this.#parts.length === 0) return [];
    const placed: DeltaFile[] = [];
    const entries: DeltaEntry[] = [];
    for (const { path } of this.#parts) {
      const number = this.#core.takeDeltaNumber();
      const bytes = await pool.use(path, (file) => file.bytes());
      await pool.close(path);
      await files.rename(path, deltaPath(directory, number));
      entries.push({ number, first: this.#sequence, last: this.#sequence, level: 0, bytes });
    }
    await files.syncDirectory(pathIn(directory, 'deltas'));
    await files.syncDirectory(pathIn(directory, 'incoming'));
    for (const entry of entries) placed.push(await openDelta(this.#core.place, entry));
    return placed;
  }

  #advance(trees: DiskTree[], deltas: DeltaFile[]): void {
    for (const delta of deltas) this.#core.deltas.set(delta.entry.number, delta);
    for (const [index, state] of this.#states.entries()) {
      const parts = deltas.map((delta, part) => ({
        number: delta.entry.number,
        nodes: this.#parts[part]!.nodes[index]!,
      }));
      state.advance(this.#disks[index]!, trees[index]!, parts);
    }
    this.#core.disks = this.#states;
  }

  async #page(place: number, node: number): Promise<Uint8Array> {
    const own = this.#pages[place]!.get(node);
    if (own === undefined) return this.#states[place]!.page(node);
    const page = new Uint8Array(PAGE_BYTES);
    if (own.offset !== 0) await this.#core.place.pool.use(own.path, (file) => file.read(own.offset, page));
    return page;
  }

  /** The node in which the disk ended and ends no more: its digest covers another count of blocks now. */
  #edges(place: number): number[] {
    const { blocks } = this.#states[place]!.tree;
    const now = blockCount(this.#disks[place]!.bytes);
    if (blocks === now || this.#parts.length > 0) return [];
    const edge = Math.min(blocks, now);
    return edge % NODE_BLOCKS === 0 ? [] : [Math.floor(edge / NODE_BLOCKS)];
  }

  #isResized(): boolean {
    if (this.#parts.length > 0) return false;
    return this.#states.some(({ tree }, place) => tree.blocks !== blockCount(this.#disks[place]!.bytes));
  }

  #isOwn({ stamp, first, disks, part }: DeltaHeader, expectedPart: number): boolean {
    if (stamp !== this.stamp || first !== this.#sequence || part !== expectedPart) return false;
    if (disks.length !== this.#disks.length) return false;
    return disks.every(
      ({ id, bytes }, index) => id === this.#disks[index]!.id && bytes === this.#disks[index]!.bytes,
    );
  }

  #path(part: number): string {
    return incomingPath(this.#core.place.directory, this.stamp, part);
  }
}

function stateOf(core: ReplicaCore, disk: DiskEntry): DiskState {
  const known = core.disks.find((state) => state.disk.id === disk.id);
  if (known !== undefined) return known;
  const tree = DiskTree.empty(blockCount(disk.bytes));
  const state = new DiskState(core.place, disk, { tree, deltas: core.deltas });
  assert(tree.blocks > 0 || disk.bytes === 0);
  return state;
}

function tryHeader(bytes: Uint8Array, tag: Uint8Array, path: string): DeltaHeader | undefined {
  try {
    return decodeHeader(bytes, tag, path);
  } catch {
    // A header that a crash tore: nothing of the transfer is here.
    return undefined;
  }
}
