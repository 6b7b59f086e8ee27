/**
 * Checks everything a replica holds: every block of every point against its digest, every segment against its
 * checksum, every root and attachment (docs/storage-format.md, section 10). Pure.
 *
 * A block that several points share is read once: a point after the first is checked where its pages of digests
 * differ from the point before it, and where its blocks come from other files.
 */
import { blockCount, BLOCK_BYTES } from '#/disk/disk.ts';
import { DIGEST_BYTES, digestBlocks } from '#/disk/digest.ts';
import { levelCount } from '#/disk/digest-tree.ts';
import { describe, hasCode } from '#/lib/failure.ts';
import { nodeBlocks } from './disk-tree.ts';
import { NODE_BLOCKS, PROBLEMS_MAX } from './limits.ts';
import type { RecoveryPoint, VerifyReport, View } from './replica.ts';
import { ViewDisk } from './view-disk.ts';

export type VerifySource = {
  points: readonly RecoveryPoint[];
  digestKey: string;
  /** Undefined when retention has taken the point meanwhile. */
  open: (sequence: number) => Promise<View | undefined>;
  attachment: (sha256: string) => Promise<Uint8Array>;
};

export async function verifyReplica(
  source: VerifySource,
  progress: (done: number, total: number) => void = () => undefined,
  signal?: AbortSignal,
): Promise<VerifyReport> {
  const run = new Verification(source, progress, signal);
  await run.all();
  return run.report;
}

class Verification {
  readonly report: VerifyReport = { points: 0, blocksChecked: 0, problems: [], truncated: false };
  readonly #source: VerifySource;
  readonly #progress: (done: number, total: number) => void;
  readonly #signal: AbortSignal | undefined;
  readonly #totalNodes: number;
  #doneNodes = 0;
  /** For each disk key and node: where its blocks were and what its digest was when it was found good. */
  readonly #good = new Map<string, Map<number, string>>();

  constructor(
    source: VerifySource,
    progress: (done: number, total: number) => void,
    signal: AbortSignal | undefined,
  ) {
    this.#source = source;
    this.#progress = progress;
    this.#signal = signal;
    this.#totalNodes = source.points
      .flatMap(({ disks }) => disks)
      .reduce((sum, { bytes }) => sum + levelCount(blockCount(bytes), 1), 0);
  }

  async all(): Promise<void> {
    const attachments = new Set<string>();
    for (const point of this.#source.points) {
      for (const { sha256 } of point.attachments) attachments.add(sha256);
      await this.#attempt(`point ${point.sequence}`, () => this.#point(point));
    }
    for (const sha256 of attachments) {
      await this.#attempt(`attachment ${sha256}`, () => this.#source.attachment(sha256));
    }
  }

  async #point(point: RecoveryPoint): Promise<void> {
    const view = await this.#source.open(point.sequence);
    if (view === undefined) return;
    await using _ = view;
    this.report.points++;
    for (const [index, { key }] of point.disks.entries()) {
      const disk = view.disks[index];
      if (disk instanceof ViewDisk) await this.#disk(`point ${point.sequence}, ${key}`, disk);
    }
  }

  async #disk(where: string, disk: ViewDisk): Promise<void> {
    const blocks = blockCount(disk.bytes);
    const known = this.#good.get(disk.identity) ?? new Map<number, string>();
    this.#good.set(disk.identity, known);
    for (let node = 0; node < levelCount(blocks, 1); node++) {
      this.#signal?.throwIfAborted();
      this.#progress(this.#doneNodes++, this.#totalNodes);
      const fingerprint = disk.fingerprint(node);
      if (fingerprint === undefined || known.get(node) === fingerprint) continue;
      const at = `${where}, blocks ${node * NODE_BLOCKS} to ${node * NODE_BLOCKS + nodeBlocks(node, blocks) - 1}`;
      const isGood = await this.#attempt(at, () => this.#node(at, disk, node));
      if (isGood) known.set(node, fingerprint);
    }
  }

  async #node(where: string, disk: ViewDisk, node: number): Promise<void> {
    const page = await disk.page(node);
    const first = node * NODE_BLOCKS;
    const count = nodeBlocks(node, blockCount(disk.bytes));
    const data = new Uint8Array(count * BLOCK_BYTES);
    const offset = first * BLOCK_BYTES;
    await disk.read(offset, data.subarray(0, Math.min(data.length, disk.bytes - offset)));
    const digests = digestBlocks(this.#source.digestKey, data);
    this.report.blocksChecked += count;
    for (let i = 0; i < count; i++) {
      const digest = digests.subarray(i * DIGEST_BYTES, (i + 1) * DIGEST_BYTES);
      if (Buffer.compare(digest, page.subarray(i * DIGEST_BYTES, (i + 1) * DIGEST_BYTES)) === 0) continue;
      this.#problem(`${where}: block ${first + i}`, 'the block is not what its digest says');
    }
  }

  /** True when it went well. What only this place is harmed by is reported, and the rest goes on. */
  async #attempt(where: string, action: () => Promise<unknown>): Promise<boolean> {
    try {
      await action();
      return true;
    } catch (error) {
      if (hasCode(error, 'point_expired') || this.#signal?.aborted === true) throw error;
      if (
        !hasCode(error, 'storage_corrupt') &&
        !hasCode(error, 'not_found') &&
        !hasCode(error, 'storage_io')
      ) {
        throw error;
      }
      this.#problem(where, describe(error));
      return false;
    }
  }

  #problem(where: string, what: string): void {
    if (this.report.problems.length < PROBLEMS_MAX) this.report.problems.push({ where, what });
    else this.report.truncated = true;
  }
}
