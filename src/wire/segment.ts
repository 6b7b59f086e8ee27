/**
 * A segment: a few changed blocks of one disk, as they travel and as delta files keep them
 * (docs/wire-protocol.md, section 4; docs/storage-format.md, section 3).
 *
 *   offset  bytes  field
 *        0      4  magic "APS1"
 *        4      1  kind: 1 data, 2 zero
 *        5      1  encoding of the payload: 0 as it is, 1 zstd
 *        6      2  disk, the place in the point's list of disks
 *        8      4  run count R, 1 to RUNS_MAX
 *       12      4  block count B, the sum of the runs' counts
 *       16      4  payload bytes P; 0 when the kind is zero
 *       20      4  crc32 of bytes 0 to 19, the runs, the digests and, when it is compressed, the payload
 *       24   10*R  runs: first block (6 bytes), count (4 bytes); ascending, neither touching nor overlapping
 *        .   16*B  digests of the blocks in order; none when the kind is zero
 *        .      P  payload: the blocks' bytes, one after another, encoded
 *
 * All integers are big-endian. A data segment holds at most SEGMENT_BLOCKS_MAX blocks, or LONG_SEGMENT_BLOCKS_MAX of
 * bytes as they are in a point without a base; a zero segment has no such bound, since it carries no bytes. The
 * checksum leaves out a payload that is the blocks' own bytes: their digests cover it, and whoever decodes the segment
 * checks them. Pure.
 */
import assert from 'node:assert/strict';
import { constants, crc32, zstdDecompressSync } from 'node:zlib';
import { DIGEST_BYTES, haveDigests } from '#/disk/digest.ts';
import { BLOCK_BYTES } from '#/disk/disk.ts';
import { Failure } from '#/lib/failure.ts';

/** 64 blocks: 256 KiB before compression. Larger compresses little better and makes a small read decode more. */
export const SEGMENT_BLOCKS_MAX = 64;
/** 1 MiB where nothing keeps segments: a first copy goes straight into the base. Much of the work is by segment. */
export const LONG_SEGMENT_BLOCKS_MAX = 256;
export const RUNS_MAX = 4096;
export const SEGMENT_HEADER_BYTES = 24;
const RUN_BYTES = 10;
const MAGIC = 0x41505331;
/** Nothing valid is longer: the bound for whoever allocates before decoding. */
export const SEGMENT_BYTES_MAX: number =
  SEGMENT_HEADER_BYTES + RUNS_MAX * RUN_BYTES + LONG_SEGMENT_BLOCKS_MAX * (DIGEST_BYTES + BLOCK_BYTES);

export type Run = { first: number; count: number };
export type Encoding = 'raw' | 'zstd';

export type Segment =
  | { kind: 'zero'; disk: number; runs: Run[] }
  | { kind: 'data'; disk: number; runs: Run[]; digests: Uint8Array; encoding: Encoding; payload: Uint8Array };

export function blocksIn(runs: readonly Run[]): number {
  let count = 0;
  for (const run of runs) count += run.count;
  return count;
}

/** A point with a base keeps segments as they come, and refuses those of more than SEGMENT_BLOCKS_MAX blocks. */
function blocksMax(encoding: Encoding): number {
  return encoding === 'raw' ? LONG_SEGMENT_BLOCKS_MAX : SEGMENT_BLOCKS_MAX;
}

/** An encoded segment in two parts, so that the payload is sent from where it lies. */
export type SegmentParts = { head: Uint8Array; payload: Uint8Array };
export type EncodedSegment = SegmentParts | Uint8Array;

export function encodeSegment(segment: Segment): Uint8Array {
  return joinSegment(encodeSegmentParts(segment));
}

export function joinSegment(segment: EncodedSegment): Uint8Array {
  if (segment instanceof Uint8Array) return segment;
  const { head, payload } = segment;
  const bytes = new Uint8Array(head.length + payload.length);
  bytes.set(head);
  bytes.set(payload, head.length);
  return bytes;
}

/** The payload is the segment's own. */
export function encodeSegmentParts(segment: Segment): SegmentParts {
  const { runs } = segment;
  const blocks = blocksIn(runs);
  assert(runs.length >= 1 && runs.length <= RUNS_MAX, `segment of ${runs.length} runs`);
  const digests = segment.kind === 'data' ? segment.digests : new Uint8Array(0);
  const payload = segment.kind === 'data' ? segment.payload : new Uint8Array(0);
  if (segment.kind === 'data') {
    assert(blocks <= blocksMax(segment.encoding) && digests.length === blocks * DIGEST_BYTES);
    assert(payload.length <= blocks * BLOCK_BYTES);
  }
  const digestsAt = SEGMENT_HEADER_BYTES + runs.length * RUN_BYTES;
  const head = new Uint8Array(digestsAt + digests.length);
  const view = new DataView(head.buffer);
  view.setUint32(0, MAGIC);
  view.setUint8(4, segment.kind === 'data' ? 1 : 2);
  view.setUint8(5, isCompressed(segment) ? 1 : 0);
  view.setUint16(6, segment.disk);
  view.setUint32(8, runs.length);
  view.setUint32(12, blocks);
  view.setUint32(16, payload.length);
  let at = SEGMENT_HEADER_BYTES;
  for (const run of runs) {
    view.setUint16(at, Math.floor(run.first / 2 ** 32));
    view.setUint32(at + 2, run.first >>> 0);
    view.setUint32(at + 6, run.count);
    at += RUN_BYTES;
  }
  head.set(digests, digestsAt);
  view.setUint32(20, checksum(head, isCompressed(segment) ? payload : NOTHING));
  return { head, payload };
}

/**
 * Decodes and checks a whole segment, without decompressing its payload; digests and payload are views of `bytes`.
 * `blocksOfDisk` gives the number of blocks of a disk, or undefined when there is no such disk; `digestKey` is the
 * replica's.
 * Throws Failure protocol_corrupt that names the field.
 */
export function decodeSegment(
  bytes: Uint8Array,
  blocksOfDisk: (disk: number) => number | undefined,
  digestKey: string,
): Segment {
  const header = decodeHeader(bytes);
  const { disk, isData, runCount, blockTotal, payloadBytes, encoding } = header;
  const digestsAt = SEGMENT_HEADER_BYTES + runCount * RUN_BYTES;
  const payloadAt = digestsAt + (isData ? blockTotal * DIGEST_BYTES : 0);
  if (bytes.length !== payloadAt + payloadBytes) throw corrupt('length');
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const checked = encoding === 'zstd' ? bytes.length : payloadAt;
  if (view.getUint32(20) !== checksum(bytes.subarray(0, checked), NOTHING)) throw corrupt('checksum');
  const limit = blocksOfDisk(disk);
  if (limit === undefined) throw corrupt('disk');
  const runs = decodeRuns(view, runCount, limit);
  if (blocksIn(runs) !== blockTotal) throw corrupt('block count');
  if (!isData) return { kind: 'zero', disk, runs };
  const digests = bytes.subarray(digestsAt, payloadAt);
  const payload = bytes.subarray(payloadAt);
  if (encoding === 'raw' && !haveDigests(digestKey, payload, digests)) throw corrupt('digest');
  return { kind: 'data', disk, runs, digests, encoding, payload };
}

type Header = {
  isData: boolean;
  encoding: Encoding;
  disk: number;
  runCount: number;
  blockTotal: number;
  payloadBytes: number;
};

/** The fixed part, each field within its bounds and in accord with the others. */
function decodeHeader(bytes: Uint8Array): Header {
  if (bytes.length < SEGMENT_HEADER_BYTES) throw corrupt('length');
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(0) !== MAGIC) throw corrupt('magic');
  const kind = view.getUint8(4);
  if (view.getUint8(5) > 1) throw corrupt('encoding');
  const encoding = view.getUint8(5) === 1 ? 'zstd' : 'raw';
  const runCount = view.getUint32(8);
  const blockTotal = view.getUint32(12);
  const payloadBytes = view.getUint32(16);
  if (kind !== 1 && kind !== 2) throw corrupt('kind');
  if (runCount < 1 || runCount > RUNS_MAX) throw corrupt('run count');
  if (kind === 1) {
    const full = blockTotal * BLOCK_BYTES;
    if (blockTotal > blocksMax(encoding)) throw corrupt('block count');
    if (encoding === 'raw' ? payloadBytes !== full : payloadBytes > full) throw corrupt('payload length');
  } else if (payloadBytes !== 0 || encoding !== 'raw') {
    throw corrupt('payload length');
  }
  return {
    isData: kind === 1,
    encoding,
    disk: view.getUint16(6),
    runCount,
    blockTotal,
    payloadBytes,
  };
}

function decodeRuns(view: DataView, runCount: number, limit: number): Run[] {
  const runs: Run[] = [];
  let end = -1;
  for (let i = 0; i < runCount; i++) {
    const at = SEGMENT_HEADER_BYTES + i * RUN_BYTES;
    const first = view.getUint16(at) * 2 ** 32 + view.getUint32(at + 2);
    const count = view.getUint32(at + 6);
    if (count < 1 || first <= end || first + count > limit) throw corrupt('run');
    runs.push({ first, count });
    end = first + count;
  }
  return runs;
}

/**
 * The blocks' bytes of a data segment. The result has exactly blocks * BLOCK_BYTES bytes.
 * Throws Failure protocol_corrupt when the payload does not decode to that.
 */
export function segmentPayload(segment: Segment & { kind: 'data' }): Uint8Array {
  if (segment.encoding === 'raw') return segment.payload;
  const expected = blocksIn(segment.runs) * BLOCK_BYTES;
  let decoded: Uint8Array;
  try {
    decoded = zstdDecompressSync(segment.payload, {
      maxOutputLength: expected,
      params: { [constants.ZSTD_d_windowLogMax]: 20 },
    });
  } catch (error) {
    throw new Failure('protocol_corrupt', 'decode segment: payload does not decompress', { cause: error });
  }
  if (decoded.length !== expected) throw corrupt('payload');
  return decoded;
}

const NOTHING = new Uint8Array(0);

/** The checksum skips its own four bytes. */
function checksum(bytes: Uint8Array, rest: Uint8Array): number {
  return crc32(rest, crc32(bytes.subarray(SEGMENT_HEADER_BYTES), crc32(bytes.subarray(0, 20))));
}

function isCompressed(segment: Segment): boolean {
  return segment.kind === 'data' && segment.encoding === 'zstd';
}

function corrupt(what: string): Failure {
  return new Failure('protocol_corrupt', `decode segment: wrong ${what}`);
}
