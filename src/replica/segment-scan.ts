/**
 * Finds segments in a file that holds them one after another: their own headers tell how long they are
 * (src/wire/segment.ts). Pure.
 */
import { DIGEST_BYTES } from '#/disk/digest.ts';
import type { File } from '#/disk/file-system.ts';
import { RUNS_MAX, SEGMENT_BLOCKS_MAX, SEGMENT_BYTES_MAX, SEGMENT_HEADER_BYTES } from '#/wire/segment.ts';
import { viewOf } from './bytes.ts';

const MAGIC = 0x41505331;
const RUN_BYTES = 10;
/** Most segments are no longer than this, so that one read gets header and all. */
const FIRST_READ_BYTES = 16 * 1024;

/** The length of the segment whose header this is; undefined when it is none. Its checksum is for later. */
export function segmentLength(header: Uint8Array): number | undefined {
  if (header.length < SEGMENT_HEADER_BYTES) return undefined;
  const view = viewOf(header);
  const isData = view.getUint8(4) === 1;
  const runCount = view.getUint32(8);
  const blocks = view.getUint32(12);
  if (view.getUint32(0) !== MAGIC || runCount > RUNS_MAX) return undefined;
  if (isData && blocks > SEGMENT_BLOCKS_MAX) return undefined;
  const length =
    SEGMENT_HEADER_BYTES + runCount * RUN_BYTES + (isData ? blocks * DIGEST_BYTES : 0) + view.getUint32(16);
  return length <= SEGMENT_BYTES_MAX ? length : undefined;
}

/** The bytes of the segment at an offset, unchecked; undefined when no whole segment can be there. */
export async function readSegmentAt(
  file: File,
  offset: number,
  end: number,
): Promise<Uint8Array | undefined> {
  const first = new Uint8Array(Math.max(0, Math.min(FIRST_READ_BYTES, end - offset)));
  const count = await file.read(offset, first);
  const length = segmentLength(first.subarray(0, count));
  if (length === undefined || offset + length > end) return undefined;
  if (length <= count) return first.subarray(0, length);
  const bytes = new Uint8Array(length);
  bytes.set(first.subarray(0, count));
  const rest = await file.read(offset + count, bytes.subarray(count));
  return count + rest === length ? bytes : undefined;
}
