/**
 * Sends one moment as one point, up to but without `commit`: reads what may have changed, keeps the journal, knows
 * the roots.
 *
 * The segments and their order depend on nothing but the moment and the record, neither of which changes while the
 * moment stands. A transfer that was cut is therefore taken up by doing the same again and leaving out the segments
 * that the replica has already: the reads are local, and nothing needs to be kept for the case. Pure.
 */
import assert from 'node:assert/strict';
import { BLOCK_BYTES, blockCount } from '#/disk/disk.ts';
import { Failure } from '#/lib/failure.ts';
import { encodeSegmentParts, RUNS_MAX, type Run, type SegmentParts } from '#/wire/segment.ts';
import { extendRuns, type BlockCodec, type GroupChange } from './block-codec.ts';
import { changedGroups, type GroupPlan } from './changed-groups.ts';
import { COMPARE_RANGES_MAX, GROUP_BLOCKS, GROUP_BYTES, GROUPS_IN_FLIGHT } from './limits.ts';
import type { ReplicaSession } from './link.ts';
import { inOrder } from './ordered.ts';
import { setRuns, type PendingWriter } from './pending-file.ts';
import { normalized, union, type Range } from './ranges.ts';
import type { ReplicaRecord } from './replica-record.ts';
import type { MomentDisk } from './source.ts';
import { TreeOverlay } from './tree-overlay.ts';

/** A disk of the moment, and what of it may differ from the record. */
export type TransferDisk = {
  disk: MomentDisk;
  /** Undefined: everything. */
  changed: (() => AsyncIterable<Range>) | undefined;
  /** Looked at besides `changed`. */
  compareAgain: Range[];
};

export type TransferCounts = { readBytes: number; changedBytes: number; doneBytes: number };

export type TransferOptions = {
  record: ReplicaRecord;
  codec: BlockCodec;
  disks: TransferDisk[];
  session: ReplicaSession;
  /** The point has no base. */
  isFirstCopy: boolean;
  /** Segments that the replica has of this moment. */
  skip: number;
  pending: PendingWriter;
  signal: AbortSignal;
  onProgress: (counts: Readonly<TransferCounts>) => void;
};

export type Transferred = {
  segmentCount: number;
  roots: string[];
  /** For each disk, ranges that cover all that changed. */
  changed: Range[][];
  counts: TransferCounts;
};

export async function transfer(options: TransferOptions): Promise<Transferred> {
  const counts = { readBytes: 0, changedBytes: 0, doneBytes: 0 };
  const sender = new SegmentSender(options);
  const roots: string[] = [];
  const changed: Range[][] = [];
  for (const index of options.disks.keys()) {
    const before = counts.doneBytes;
    const disk = new DiskTransfer(options, index, { counts, sender });
    changed.push(await disk.run());
    roots.push(await disk.root());
    counts.doneBytes = before + options.disks[index]!.disk.spec.bytes;
    options.onProgress(counts);
  }
  if (sender.index < options.skip) {
    // Only the images of a powered-off VM can change below us; `confirm` would find the same.
    throw new Failure('tracking_lost', 'take up a transfer: the moment is not what was sent of it before');
  }
  return { segmentCount: sender.index, roots, changed, counts };
}

/** Numbers segments and sends those that the replica does not have. */
class SegmentSender {
  readonly #options: TransferOptions;
  index = 0;

  constructor(options: TransferOptions) {
    this.#options = options;
  }

  async send(segment: SegmentParts): Promise<void> {
    const index = this.index++;
    if (index < this.#options.skip) return;
    await this.#options.session.segment(index, segment, this.#options.signal);
  }
}

type EncodedGroup = { group: number; change: GroupChange; buffer: Uint8Array };

class DiskTransfer {
  readonly #options: TransferOptions;
  readonly #index: number;
  readonly #counts: TransferCounts;
  readonly #sender: SegmentSender;
  readonly #source: TransferDisk;
  readonly #blocks: number;
  /** Memory of groups between their reading and the end of their sending. */
  readonly #lent = new Set<Uint8Array>();
  #overlay: TreeOverlay | undefined;
  #zeroed: Run[] = [];
  #changed: Range[] = [];

  constructor(
    options: TransferOptions,
    index: number,
    shared: { counts: TransferCounts; sender: SegmentSender },
  ) {
    this.#options = options;
    this.#index = index;
    this.#counts = shared.counts;
    this.#sender = shared.sender;
    this.#source = options.disks[index]!;
    this.#blocks = blockCount(this.#source.disk.spec.bytes);
  }

  /** Resolves with ranges that cover what changed. */
  async run(): Promise<Range[]> {
    const { key, bytes } = this.#source.disk.spec;
    const record = this.#options.record.digests(key);
    this.#overlay = await TreeOverlay.over(record, this.#blocks);
    const all = async function* (): AsyncGenerator<Range> {
      if (bytes > 0) yield { offset: 0, length: bytes };
    };
    const stream = this.#source.changed?.() ?? all();
    const ranges = union(stream, this.#source.compareAgain, bytes);
    const plans = changedGroups(this.#source.disk.disk, ranges, record, this.#options.signal);
    try {
      await this.#sendGroups(plans);
    } catch (error) {
      // A send that failed may still look at its bytes.
      for (const buffer of this.#lent) this.#options.codec.free(buffer, false);
      throw error;
    }
    await this.#flushZeroed();
    return this.#changed;
  }

  async #sendGroups(plans: AsyncIterable<GroupPlan>): Promise<void> {
    const { bytes } = this.#source.disk.spec;
    const before = this.#counts.doneBytes;
    const encoded = inOrder(plans, GROUPS_IN_FLIGHT, (plan) => this.#encode(plan));
    for await (const { group, change, buffer } of encoded) {
      this.#options.signal.throwIfAborted();
      if (change.changedCount > 0) await this.#take(group, change);
      this.#lent.delete(buffer);
      this.#options.codec.free(buffer, true);
      this.#counts.doneBytes = before + Math.min(bytes, (group + 1) * GROUP_BYTES);
      this.#options.onProgress(this.#counts);
    }
  }

  root(): Promise<string> {
    assert(this.#overlay !== undefined, 'the root is known once the disk has been read');
    return this.#overlay.root();
  }

  /** Reads a group's blocks and encodes what differs. */
  async #encode(plan: GroupPlan): Promise<EncodedGroup> {
    const { codec, record, session } = this.#options;
    const { digestKey } = session.opened;
    const buffer = codec.allocate();
    this.#lent.add(buffer);
    const bytes = await this.#read(plan.read, buffer);
    const known = await record.digests(this.#source.disk.spec.key).group(plan.group, this.#blocks);
    const first = plan.group * GROUP_BLOCKS;
    const { read, zero } = plan;
    const mayBeLong = this.#options.isFirstCopy;
    const disk = this.#index;
    const change = await codec.encode({ digestKey, disk, first, known, read, bytes, zero, mayBeLong });
    return { group: plan.group, change, buffer };
  }

  async #read(runs: readonly Run[], buffer: Uint8Array): Promise<Uint8Array> {
    const { disk } = this.#source.disk;
    const reads: Promise<void>[] = [];
    let at = 0;
    for (const run of runs) {
      const offset = run.first * BLOCK_BYTES;
      const length = Math.min(run.count * BLOCK_BYTES, disk.bytes - offset);
      reads.push(disk.read(offset, buffer.subarray(at, at + length), this.#options.signal));
      // The last block of a disk is padded with zeroes.
      buffer.fill(0, at + length, at + run.count * BLOCK_BYTES);
      at += run.count * BLOCK_BYTES;
      this.#counts.readBytes += length;
    }
    // All of them, so that nobody writes to the buffer once it is used again.
    const failed = (await Promise.allSettled(reads)).find((read) => read.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
    return buffer.subarray(0, at);
  }

  async #take(group: number, change: GroupChange): Promise<void> {
    for (const segment of change.segments) await this.#sender.send(segment);
    for (const run of change.zeroed) {
      extendRuns(this.#zeroed, run.first, run.count);
      if (this.#zeroed.length === RUNS_MAX) await this.#flushZeroed();
    }
    await this.#options.pending.add(this.#index, group, change);
    await this.#overlay!.set(group, change.node);
    this.#counts.changedBytes += change.changedCount * BLOCK_BYTES;
    this.#noteChanged(group, change);
  }

  async #flushZeroed(): Promise<void> {
    const runs = this.#zeroed;
    this.#zeroed = [];
    if (runs.length === 0) return;
    await this.#sender.send(encodeSegmentParts({ kind: 'zero', disk: this.#index, runs }));
  }

  #noteChanged(group: number, change: GroupChange): void {
    for (const { first, count } of setRuns(change.changed)) {
      const offset = (group * GROUP_BLOCKS + first) * BLOCK_BYTES;
      this.#changed.push({ offset, length: count * BLOCK_BYTES });
    }
    if (this.#changed.length > 4 * COMPARE_RANGES_MAX) {
      this.#changed = normalized(this.#changed, COMPARE_RANGES_MAX);
    }
  }
}
