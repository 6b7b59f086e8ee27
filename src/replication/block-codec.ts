/**
 * What happens to the blocks of one group between reading and sending: digest, compare, pack, compress.
 *
 * A group is the up to 256 blocks below one level-1 node of the digest tree. Groups are independent of each other, so
 * a group can be encoded on any thread; the result depends on nothing but the request, so that reading a moment again
 * gives the same segments in the same order, which is what a resumed transfer relies on. Pure.
 */
import { constants, zstdCompressSync } from 'node:zlib';
import { parentDigest } from '#/disk/digest-tree.ts';
import { DIGEST_BYTES, digestBlocks } from '#/disk/digest.ts';
import { BLOCK_BYTES } from '#/disk/disk.ts';
import {
  encodeSegmentParts,
  LONG_SEGMENT_BLOCKS_MAX,
  SEGMENT_BLOCKS_MAX,
  type Encoding,
  type Run,
  type SegmentParts,
} from '#/wire/segment.ts';
import { GROUP_BLOCKS, GROUP_BYTES } from './limits.ts';

export type GroupRequest = {
  digestKey: string;
  /** Place of the disk in the point's list of disks. */
  disk: number;
  /** First block of the group. */
  first: number;
  /** What the replica holds: a digest for each block of the group. */
  known: Uint8Array;
  /** Blocks that were read, ascending, and their bytes one after another, which are moved about. */
  read: Run[];
  bytes: Uint8Array;
  /** Blocks that are zero at the source and were not read. */
  zero: Run[];
  /** Whether segments that are not compressed may be long ones: in a point without a base. */
  mayBeLong: boolean;
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
  /** Encoded data segments, in order. Payloads that do not shrink stand in the request's `bytes`. */
  segments: SegmentParts[];
  /** Blocks that became zero, ascending. */
  zeroed: Run[];
};

/** Encodes groups: at once here, on worker threads in the agent. */
export interface BlockCodec {
  /** GROUP_BYTES to read a group into; shared with the threads that encode, where there are any. */
  allocate(): Uint8Array<ArrayBufferLike>;
  /** Takes back what `allocate` gave, to be given again, or not when somebody may still look at it. */
  free(bytes: Uint8Array, mayBeReused: boolean): void;
  /** The request's memory is not touched any more once this has settled. */
  encode(request: GroupRequest): Promise<GroupChange>;
}

/** Encodes on the caller's thread. */
export const syncBlockCodec: BlockCodec = {
  allocate: () => new Uint8Array(GROUP_BYTES),
  free: () => {},
  encode: (request) => Promise.resolve(encodeGroup(request)),
};

/** What `syncBlockCodec` and the threads run; a function of its request alone. */
export function encodeGroup(request: GroupRequest): GroupChange {
  const digests = Uint8Array.from(request.known);
  const found = digestBlocks(request.digestKey, request.bytes);
  const changed = new Uint8Array(GROUP_BLOCKS / 8);
  const zeroed: Run[] = [];
  const data = new DataBlocks(request, digests);
  let changedCount = 0;
  const take = (block: number, digest: Uint8Array, from: number, at: number): void => {
    const index = block - request.first;
    if (!isReplaced(digests, index * DIGEST_BYTES, digest, from)) return;
    changed[index >> 3]! |= 1 << (index & 7);
    changedCount++;
    if (isZeroAt(digest, from)) extendRuns(zeroed, block);
    else data.add({ block, at });
  };
  forBlocks(request, {
    read: (block, index) => take(block, found, index * DIGEST_BYTES, index * BLOCK_BYTES),
    zero: (block) => take(block, ZERO_DIGEST, 0, 0),
  });
  const node = changedCount === 0 ? new Uint8Array(0) : parentDigest(digests);
  const segments = data.segments(request);
  return { changedCount, changed, digests, node, segments, zeroed };
}

const ZERO_DIGEST = new Uint8Array(DIGEST_BYTES);

function isZeroAt(digest: Uint8Array, from: number): boolean {
  for (let i = 0; i < DIGEST_BYTES; i++) if (digest[from + i] !== 0) return false;
  return true;
}

/** Puts the digest in its place; false when it stood there. A view for each of a million blocks would cost more. */
function isReplaced(digests: Uint8Array, at: number, digest: Uint8Array, from: number): boolean {
  let same = 0;
  while (same < DIGEST_BYTES && digests[at + same] === digest[from + same]) same++;
  if (same === DIGEST_BYTES) return false;
  for (let i = same; i < DIGEST_BYTES; i++) digests[at + i] = digest[from + i]!;
  return true;
}

/** Adds a block to ascending runs. */
export function extendRuns(runs: Run[], block: number, count = 1): void {
  const last = runs.at(-1);
  if (last !== undefined && last.first + last.count === block) last.count += count;
  else runs.push({ first: block, count });
}

type BlockVisitor = { read: (block: number, index: number) => void; zero: (block: number) => void };

/** Visits the request's blocks in ascending order: zeroes, and those that were read with their place among them. */
function forBlocks(request: GroupRequest, visit: BlockVisitor): void {
  let index = 0;
  let nextZero = 0;
  const zeroesBefore = (block: number): void => {
    for (let run = request.zero[nextZero]; run !== undefined && run.first < block;) {
      for (let i = 0; i < run.count; i++) visit.zero(run.first + i);
      run = request.zero[++nextZero];
    }
  };
  for (const { first, count } of request.read) {
    zeroesBefore(first);
    for (let i = 0; i < count; i++) visit.read(first + i, index++);
  }
  zeroesBefore(Infinity);
}

/** A changed block: its number, its place in the request's bytes. */
type DataBlock = { block: number; at: number };

/** Changed blocks on their way into segments. */
class DataBlocks {
  readonly #bytes: Uint8Array;
  readonly #first: number;
  readonly #digests: Uint8Array;
  readonly #blocks: DataBlock[] = [];

  /** `digests` of the group, which have those of the blocks when `segments` is called. */
  constructor({ bytes, first }: GroupRequest, digests: Uint8Array) {
    this.#bytes = bytes;
    this.#first = first;
    this.#digests = digests;
  }

  add(block: DataBlock): void {
    this.#blocks.push(block);
  }

  segments({ disk, mayBeLong }: GroupRequest): SegmentParts[] {
    const segments: SegmentParts[] = [];
    const isCompressible = this.#blocks.length > 0 && this.#sampleShrinks();
    const blocksMax = mayBeLong && !isCompressible ? LONG_SEGMENT_BLOCKS_MAX : SEGMENT_BLOCKS_MAX;
    for (let at = 0; at < this.#blocks.length; at += blocksMax) {
      const part = this.#blocks.slice(at, at + blocksMax);
      const runs: Run[] = [];
      for (const { block } of part) extendRuns(runs, block);
      const digests = this.#digestsOf(runs, part.length);
      const bytes = this.#together(part);
      const packed = isCompressible ? compress(bytes) : { encoding: 'raw' as const, payload: bytes };
      segments.push(encodeSegmentParts({ kind: 'data', disk, runs, digests, ...packed }));
    }
    return segments;
  }

  #digestsOf(runs: readonly Run[], count: number): Uint8Array {
    const digests = new Uint8Array(count * DIGEST_BYTES);
    let at = 0;
    for (const run of runs) {
      const from = (run.first - this.#first) * DIGEST_BYTES;
      const length = run.count * DIGEST_BYTES;
      digests.set(this.#digests.subarray(from, from + length), at);
      at += length;
    }
    return digests;
  }

  /** One block from the middle tells random data from the rest: to make a compressor costs more than to hash. */
  #sampleShrinks(): boolean {
    const { at } = this.#blocks[this.#blocks.length >> 1]!;
    const sample = this.#bytes.subarray(at, at + BLOCK_BYTES);
    return zstdCompressSync(sample, ZSTD).length <= sample.length * WORTHWHILE;
  }

  /** The blocks' bytes one after another: moved down over unchanged ones, of which a first copy has none. */
  #together(part: readonly DataBlock[]): Uint8Array {
    const first = part[0]!.at;
    for (const [index, { at }] of part.entries()) {
      const target = first + index * BLOCK_BYTES;
      if (at !== target) this.#bytes.copyWithin(target, at, at + BLOCK_BYTES);
    }
    return this.#bytes.subarray(first, first + part.length * BLOCK_BYTES);
  }
}

const ZSTD = { params: { [constants.ZSTD_c_compressionLevel]: 1 } };
/** A sample that does not shrink below this part of itself says that the rest will not either. */
const WORTHWHILE = 0.9;

function compress(raw: Uint8Array): { encoding: Encoding; payload: Uint8Array } {
  const packed = zstdCompressSync(raw, ZSTD);
  if (packed.length >= raw.length) return { encoding: 'raw', payload: raw };
  // What zlib returns is a part of larger memory, which would go from thread to thread whole.
  return { encoding: 'zstd', payload: new Uint8Array(packed) };
}
