/**
 * The answer to one READ of the server: what is zero goes as holes, the rest as data, cut where the disk says.
 *
 * Invariant: all of it is read before any of it is sent, so a disk error is one error chunk and nothing else, and the
 * memory of a reply is at most the length of the request.
 */
import type { Disk } from '#/disk/disk.ts';
import type { BufferPool } from './buffer-pool.ts';
import { EXTENTS_CALLS_MAX, HOLE_BYTES_MIN, HOLE_QUERY_BYTES_MIN, READ_PARTS_MAX } from './limits.ts';
import { encodeDataHeader, encodeHole, encodeSimpleReply } from './request-codec.ts';

type Part = { offset: number; length: number; isZero: boolean };

export type ReadRange = { cookie: Uint8Array; offset: number; length: number };

/** `memory` holds the bytes of a disk among the parts; it is free again once they are sent. */
export type Reply = { parts: Uint8Array[]; memory?: Uint8Array<ArrayBuffer> };

/** What a read is done with. */
export type ReadMeans = { pool: BufferPool; signal: AbortSignal };

/** The simple reply of a client without structured ones. */
export async function simpleRead(disk: Disk, range: ReadRange, { pool, signal }: ReadMeans): Promise<Reply> {
  const memory = pool.take(range.length);
  try {
    await disk.read(range.offset, memory, signal);
  } catch (error) {
    pool.give(memory);
    throw error;
  }
  return { parts: [encodeSimpleReply(range.cookie, 0), memory], memory };
}

/** The chunks of a structured reply. `isWhole` is the client's DF flag. */
export async function structuredRead(
  disk: Disk,
  range: ReadRange,
  { isWhole, pool, signal }: ReadMeans & { isWhole: boolean },
): Promise<Reply> {
  const { cookie, offset, length } = range;
  const mayHaveHoles = !isWhole && length >= HOLE_QUERY_BYTES_MIN;
  const parts = mayHaveHoles ? await partsOf(disk, range, signal) : [{ offset, length, isZero: false }];
  const dataBytes = parts.reduce((sum, part) => sum + (part.isZero ? 0 : part.length), 0);
  const memory = pool.take(dataBytes);
  const chunks: Uint8Array[] = [];
  const reads: Promise<void>[] = [];
  let at = 0;
  for (const [index, part] of parts.entries()) {
    const isLast = index === parts.length - 1;
    if (part.isZero) {
      chunks.push(encodeHole(cookie, { offset: part.offset, length: part.length, isLast }));
      continue;
    }
    const target = memory.subarray(at, at + part.length);
    at += part.length;
    reads.push(disk.read(part.offset, target, signal));
    chunks.push(encodeDataHeader(cookie, { offset: part.offset, length: part.length, isLast }), target);
  }
  // All of them, so that nothing reads for this request after its place in the bound is free again.
  const failed = (await Promise.allSettled(reads)).find((read) => read.status === 'rejected');
  if (failed === undefined) return { parts: chunks, memory };
  pool.give(memory);
  throw failed.reason;
}

/** The range cut into data and zeroes worth a chunk of their own; one data part when there would be too many. */
async function partsOf(disk: Disk, { offset, length }: ReadRange, signal: AbortSignal): Promise<Part[]> {
  const end = offset + length;
  const parts: Part[] = [];
  let at = offset;
  for (let calls = 0; at < end && calls < EXTENTS_CALLS_MAX && parts.length <= READ_PARTS_MAX; calls++) {
    for (const extent of await disk.extents(at, end - at, signal)) {
      append(parts, {
        offset: at,
        length: extent.length,
        isZero: extent.kind === 'zero' && extent.length >= HOLE_BYTES_MIN,
      });
      at += extent.length;
    }
  }
  if (at < end) append(parts, { offset: at, length: end - at, isZero: false });
  return parts.length <= READ_PARTS_MAX ? parts : [{ offset, length, isZero: false }];
}

function append(parts: Part[], part: Part): void {
  const last = parts.at(-1);
  if (last?.isZero === part.isZero) last.length += part.length;
  else parts.push(part);
}
