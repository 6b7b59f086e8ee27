/**
 * What an old copy has that the other site never had: each block that differs from the digest record of the last point
 * which that site acknowledged. It needs neither site's help, since the record keeps the key of its digests.
 */
import type { OnlyHereExtent } from '#/control/seed-tasks.ts';
import type { NodeFileSystem } from '#/disk/node-file-system.ts';
import { BLOCK_BYTES, blockCount } from '#/disk/disk.ts';
import type { BlockCodec } from '#/replication/block-codec.ts';
import { changedGroups, type GroupPlan } from '#/replication/changed-groups.ts';
import type { DigestRecord } from '#/replication/digest-record.ts';
import { GROUP_BLOCKS, GROUPS_IN_FLIGHT } from '#/replication/limits.ts';
import { inOrder } from '#/replication/ordered.ts';
import { setRuns } from '#/replication/pending-file.ts';
import type { Range } from '#/replication/ranges.ts';
import { ReplicaRecord } from '#/replication/replica-record.ts';
import type { Moment, MomentDisk } from '#/replication/source.ts';

/** Extents that are listed one by one; what lies behind them is counted. */
export const EXTENTS_KEPT_MAX = 100_000;

export type Differences = {
  sequence: number;
  afterMs: number;
  bytes: number;
  extentCount: number;
  /** The first EXTENTS_KEPT_MAX of them, by disk and place. */
  extents: OnlyHereExtent[];
};

export type CompareParts = {
  fs: NodeFileSystem;
  /** Of the record, within `fs`. */
  replicaId: string;
  codec: BlockCodec;
  onProgress: (doneBytes: number, totalBytes: number) => void;
};

/** Undefined when the record is of no whole point, or was left by a version that kept no key. */
export async function findDifferences(
  moment: Moment,
  parts: CompareParts,
  signal: AbortSignal,
): Promise<Differences | undefined> {
  await using record = await ReplicaRecord.open(parts.fs, parts.replicaId, parts.replicaId);
  const { head, digestKey, isWhole } = record.state;
  if (head === undefined || digestKey === undefined || !isWhole) return undefined;
  const found: Differences = {
    sequence: head.sequence,
    afterMs: head.momentMs,
    bytes: 0,
    extentCount: 0,
    extents: [],
  };
  const totalBytes = moment.disks.reduce((sum, { spec }) => sum + spec.bytes, 0);
  let doneBytes = 0;
  for (const disk of moment.disks) {
    const { key, bytes } = disk.spec;
    if (record.state.disks.some((known) => known.key === key)) {
      const compared = new DiskComparison({ disk, digests: record.digests(key), digestKey, ...parts });
      await compared.run(found, (done) => parts.onProgress(doneBytes + done, totalBytes), signal);
    } else {
      add(found, { disk: key, offset: 0, length: bytes });
    }
    doneBytes += bytes;
  }
  return found;
}

class DiskComparison {
  readonly #disk: MomentDisk;
  readonly #digests: DigestRecord;
  readonly #digestKey: string;
  readonly #codec: BlockCodec;
  readonly #blocks: number;

  constructor(parts: { disk: MomentDisk; digests: DigestRecord; digestKey: string; codec: BlockCodec }) {
    this.#disk = parts.disk;
    this.#digests = parts.digests;
    this.#digestKey = parts.digestKey;
    this.#codec = parts.codec;
    this.#blocks = blockCount(parts.disk.spec.bytes);
  }

  async run(found: Differences, done: (bytes: number) => void, signal: AbortSignal): Promise<void> {
    const { key, bytes } = this.#disk.spec;
    const all = async function* (): AsyncGenerator<Range> {
      yield { offset: 0, length: bytes };
    };
    const plans = changedGroups(this.#disk.disk, all(), this.#digests, signal);
    let last: OnlyHereExtent | undefined;
    for await (const runs of inOrder(plans, GROUPS_IN_FLIGHT, (plan) => this.#changed(plan, signal))) {
      signal.throwIfAborted();
      for (const { offset, length } of runs) {
        if (last !== undefined && last.offset + last.length === offset) {
          last.length += length;
          continue;
        }
        if (last !== undefined) add(found, last);
        last = { disk: key, offset, length };
      }
      const end = runs.at(-1);
      if (end !== undefined) done(end.offset);
    }
    if (last !== undefined) add(found, last);
  }

  /** Ranges of a group that differ from the record. */
  async #changed({ group, read, zero }: GroupPlan, signal: AbortSignal): Promise<Range[]> {
    const { bytes: diskBytes } = this.#disk.spec;
    const buffer = this.#codec.allocate();
    let isIdle = false;
    try {
      let at = 0;
      for (const { first, count } of read) {
        const offset = first * BLOCK_BYTES;
        const length = Math.min(count * BLOCK_BYTES, diskBytes - offset);
        await this.#disk.disk.read(offset, buffer.subarray(at, at + length), signal);
        buffer.fill(0, at + length, at + count * BLOCK_BYTES);
        at += count * BLOCK_BYTES;
      }
      const change = await this.#codec.encode({
        digestKey: this.#digestKey,
        disk: 0,
        first: group * GROUP_BLOCKS,
        known: await this.#digests.group(group, this.#blocks),
        read,
        bytes: buffer.subarray(0, at),
        zero,
        mayBeLong: false,
      });
      isIdle = true;
      return [...setRuns(change.changed)].map(({ first, count }) => {
        const offset = (group * GROUP_BLOCKS + first) * BLOCK_BYTES;
        return { offset, length: Math.min(count * BLOCK_BYTES, diskBytes - offset) };
      });
    } finally {
      this.#codec.free(buffer, isIdle);
    }
  }
}

function add(found: Differences, extent: OnlyHereExtent): void {
  found.bytes += extent.length;
  found.extentCount++;
  if (found.extents.length < EXTENTS_KEPT_MAX) found.extents.push(extent);
}
