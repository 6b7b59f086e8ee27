/**
 * What happens to the blocks of one group between reading and sending: digest, compare, pack, compress.
 *
 * A group is the up to 256 blocks below one level-1 node of the digest tree. Groups are independent of each other, so
 * a group can be encoded on any thread; the result depends on nothing but the request, so that reading a moment again
 * gives the same segments in the same order, which is what a resumed transfer relies on. Pure.
 */
import { constants, zstdCompressSync } from 'node:zlib';
import { parentDigest } from '#/disk/digest-tree.ts';
import { writeBlockDigest } from '#/disk/digest.ts';
import { BLOCK_BYTES } from '#/disk/disk.ts';
import { DIGEST_BYTES, encodeSegment, SEGMENT_BLOCKS_MAX, type Encoding, type Run } from '#/wire/segment.ts';
import { GROUP_BLOCKS } from './limits.ts';

export type GroupRequest = {
  /** Place of the disk in the point's list of disks. */
  disk: number;
  /** First block of the group. */
  first: number;
  /** What the replica holds: a digest for each block of the group. */
  known: Uint8Array;
  /** Blocks that were read, ascending, and their bytes one after another. */
  read: Run[];
  bytes: Uint8Array;
  /** Blocks that are zero at the source and were not read. */
  zero: Run[];
};

export type GroupChange = {
  /** How many blocks differ from what the replica holds. */
  changedCount: number;
  /** A bit for each block of the group that differs, lowest bit first. */
  changed: Uint8Array;
  /** A digest for each block of the group as it is now. */
  digests: Uint8Array;
  /** The level-1 node over them. */
  node: Uint8Array;
  /** Encoded data segments, in order. */
  segments: Uint8Array[];
  /** Blocks that became zero, ascending. */
  zeroed: Run[];
};

/** Encodes groups: at once here, on worker threads in the agent. */
export interface BlockCodec {
  /** Memory to read into; shared with the threads that encode, where there are any. */
  allocate(bytes: number): Uint8Array<ArrayBufferLike>;
  /** The request's memory is not touched any more once this has settled. */
  encode(request: GroupRequest): Promise<GroupChange>;
}

/** Encodes on the caller's thread. */
export const syncBlockCodec: BlockCodec = {
  allocate: (bytes) => new Uint8Array(bytes),
  encode: (request) => Promise.resolve(encodeGroup(request)),
};

/** What `syncBlockCodec` and the threads run; a function of its request alone. */
export function encodeGroup(request: GroupRequest): GroupChange {
  const digests = Uint8Array.from(request.known);
  const changed = new Uint8Array(GROUP_BLOCKS / 8);
  const zeroed: Run[] = [];
  const data = new DataBlocks();
  let changedCount = 0;
  const digest = new Uint8Array(DIGEST_BYTES);
  for (const { block, bytes } of blocksOf(request)) {
    const isData = bytes !== undefined && writeBlockDigest(bytes, digest, 0);
    if (!isData) digest.fill(0);
    const index = block - request.first;
    const known = digests.subarray(index * DIGEST_BYTES, (index + 1) * DIGEST_BYTES);
    if (Buffer.compare(known, digest) === 0) continue;
    known.set(digest);
    changed[index >> 3]! |= 1 << (index & 7);
    changedCount++;
    if (isData) data.add(block, known, bytes);
    else extendRuns(zeroed, block);
  }
  const node = changedCount === 0 ? new Uint8Array(0) : parentDigest(digests);
  return { changedCount, changed, digests, node, segments: data.segments(request.disk), zeroed };
}

/** Adds a block to ascending runs. */
export function extendRuns(runs: Run[], block: number, count = 1): void {
  const last = runs.at(-1);
  if (last !== undefined && last.first + last.count === block) last.count += count;
  else runs.push({ first: block, count });
}

/** The blocks of the request in ascending order; without bytes where they are known to be zero. */
function* blocksOf(request: GroupRequest): Generator<{ block: number; bytes: Uint8Array | undefined }> {
  let at = 0;
  let nextZero = 0;
  for (const run of request.read) {
    for (let zero = request.zero[nextZero]; zero !== undefined && zero.first < run.first;) {
      yield* zeroBlocks(zero);
      zero = request.zero[++nextZero];
    }
    for (let i = 0; i < run.count; i++, at += BLOCK_BYTES) {
      yield { block: run.first + i, bytes: request.bytes.subarray(at, at + BLOCK_BYTES) };
    }
  }
  for (const zero of request.zero.slice(nextZero)) yield* zeroBlocks(zero);
}

function* zeroBlocks(run: Run): Generator<{ block: number; bytes: undefined }> {
  for (let i = 0; i < run.count; i++) yield { block: run.first + i, bytes: undefined };
}

/** Changed blocks on their way into segments. */
class DataBlocks {
  readonly #blocks: { block: number; digest: Uint8Array; bytes: Uint8Array }[] = [];

  add(block: number, digest: Uint8Array, bytes: Uint8Array): void {
    this.#blocks.push({ block, digest, bytes });
  }

  segments(disk: number): Uint8Array[] {
    const segments: Uint8Array[] = [];
    for (let at = 0; at < this.#blocks.length; at += SEGMENT_BLOCKS_MAX) {
      const part = this.#blocks.slice(at, at + SEGMENT_BLOCKS_MAX);
      const runs: Run[] = [];
      const digests = new Uint8Array(part.length * DIGEST_BYTES);
      const raw = new Uint8Array(part.length * BLOCK_BYTES);
      for (const [index, { block, digest, bytes }] of part.entries()) {
        extendRuns(runs, block);
        digests.set(digest, index * DIGEST_BYTES);
        raw.set(bytes, index * BLOCK_BYTES);
      }
      segments.push(encodeSegment({ kind: 'data', disk, runs, digests, ...compress(raw) }));
    }
    return segments;
  }
}

const ZSTD = { params: { [constants.ZSTD_c_compressionLevel]: 1 } };
/** A sample that does not shrink below this part of itself says that the rest will not either. */
const WORTHWHILE = 0.9;

/** Compresses; random data is recognised by a block from the middle and left as it is. */
export function compress(raw: Uint8Array): { encoding: Encoding; payload: Uint8Array } {
  const middle = Math.floor(raw.length / BLOCK_BYTES / 2) * BLOCK_BYTES;
  const sample = raw.subarray(middle, middle + BLOCK_BYTES);
  if (zstdCompressSync(sample, ZSTD).length > sample.length * WORTHWHILE) {
    return { encoding: 'raw', payload: raw };
  }
  const payload = raw.length === sample.length ? zstdCompressSync(sample, ZSTD) : zstdCompressSync(raw, ZSTD);
  return payload.length < raw.length ? { encoding: 'zstd', payload } : { encoding: 'raw', payload: raw };
}
