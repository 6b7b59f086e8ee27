/**
 * Frames of the replication protocol (docs/wire-protocol.md, section 2).
 *
 *   offset  bytes  field
 *        0      4  magic "APF1"
 *        4      1  version of the framing, 1
 *        5      1  kind of the message
 *        6      2  reserved, zero
 *        8      4  length of the body
 *       12      4  crc32 of the checked part of the body
 *       16      8  sequence number within this direction, from 0
 *       24      4  crc32 of bytes 0 to 23
 *       28      .  body
 *
 * All integers are big-endian. The checked part is the whole body, but of a `segment` the first SEGMENT_CHECKED_BYTES:
 * those hold the segment's own checksum, which covers the rest and is checked by whoever keeps the segment. Summing
 * its bytes twice would cost a fifth of a connection's speed. Pure.
 */
import assert from 'node:assert/strict';
import { crc32 } from 'node:zlib';
import { Failure } from '#/lib/failure.ts';
import { BodyPool } from './body-pool.ts';
import { BODY_BYTES_MAX } from './limits.ts';

export const FRAME_HEADER_BYTES = 28;
const MAGIC = 0x41504631;
const VERSION = 1;

export type Frame = { kind: number; sequence: number; body: Uint8Array };

/** What a kind of frame may be: the bound on its body, and how much of it the frame's checksum covers. */
export type FrameRule = { bodyBytesMax: number; checkedBytes: number };
export type FrameRules = (kind: number) => FrameRule | undefined;

/** The header of a frame whose body is `parts`, laid end to end; the first part must hold the whole checked part. */
export function encodeFrameHeader(
  kind: number,
  sequence: number,
  parts: readonly Uint8Array[],
  rule: FrameRule,
): Uint8Array {
  let length = 0;
  for (const part of parts) length += part.length;
  assert(length <= rule.bodyBytesMax && rule.bodyBytesMax <= BODY_BYTES_MAX, `frame body of ${length} bytes`);
  assert(Number.isSafeInteger(sequence) && sequence >= 0);
  const bytes = new Uint8Array(FRAME_HEADER_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, MAGIC);
  view.setUint8(4, VERSION);
  view.setUint8(5, kind);
  view.setUint32(8, length);
  view.setUint32(12, checksumOf(parts, rule.checkedBytes));
  view.setUint32(16, Math.floor(sequence / 2 ** 32));
  view.setUint32(20, sequence >>> 0);
  view.setUint32(24, crc32(bytes.subarray(0, 24)));
  return bytes;
}

function checksumOf(parts: readonly Uint8Array[], checkedBytes: number): number {
  let sum = 0;
  let left = checkedBytes;
  for (const part of parts) {
    const checked = part.subarray(0, left);
    sum = crc32(checked, sum);
    left -= checked.length;
  }
  return sum;
}

type Header = { kind: number; sequence: number; length: number; sum: number; checkedBytes: number };

/** Checks everything a header can be wrong in, before anything is allocated for its body. */
function decodeHeader(bytes: Uint8Array, rules: FrameRules): Header {
  const view = new DataView(bytes.buffer, bytes.byteOffset, FRAME_HEADER_BYTES);
  if (view.getUint32(0) !== MAGIC) throw corrupt('magic');
  if (view.getUint32(24) !== crc32(bytes.subarray(0, 24))) throw corrupt('header checksum');
  if (view.getUint8(4) !== VERSION)
    throw new Failure('protocol_unsupported', 'decode frame: unknown version');
  if (view.getUint16(6) !== 0) throw corrupt('reserved field');
  const kind = view.getUint8(5);
  const rule = rules(kind);
  if (rule === undefined) throw corrupt(`kind ${kind}`);
  const length = view.getUint32(8);
  if (length > rule.bodyBytesMax) throw corrupt('length');
  const sequence = view.getUint32(16) * 2 ** 32 + view.getUint32(20);
  if (!Number.isSafeInteger(sequence)) throw corrupt('sequence number');
  return { kind, sequence, length, sum: view.getUint32(12), checkedBytes: rule.checkedBytes };
}

/** A body that lacks fewer bytes than this is not worth receiving in place. */
const ROOM_BYTES_MIN = 16 * 1024;

/**
 * Puts frames together from pieces of any length. Holds at most one header and one body, whose bytes are copied
 * once, into memory of the pool that belongs to the frame until it is given back, or received there (`room`).
 */
export class FrameReader {
  readonly #rules: FrameRules;
  readonly #pool: BodyPool;
  readonly #headerBytes = new Uint8Array(FRAME_HEADER_BYTES);
  #headerTaken = 0;
  #header: Header | undefined;
  #body: Uint8Array = new Uint8Array(0);
  #bodyTaken = 0;
  #piece: Uint8Array = new Uint8Array(0);

  constructor(rules: FrameRules, pool: BodyPool = new BodyPool()) {
    this.#rules = rules;
    this.#pool = pool;
  }

  /** Gives the next piece, after `next` has returned undefined. The piece is not touched once the next is given. */
  push(piece: Uint8Array): void {
    assert(this.#piece.length === 0, 'frame reader: the last piece was not read to its end');
    this.#piece = piece;
  }

  /** What the body being put together lacks, after `next` has returned undefined; undefined when that is short. */
  room(): Uint8Array | undefined {
    const header = this.#header;
    if (header === undefined || header.length - this.#bodyTaken < ROOM_BYTES_MIN) return undefined;
    return this.#body.subarray(this.#bodyTaken, header.length);
  }

  /** The memory that `room` gave last is full. */
  landed(): void {
    assert(this.#header !== undefined && this.#piece.length === 0, 'frame reader: nothing was to land');
    this.#bodyTaken = this.#header.length;
  }

  /** The next whole frame, or undefined when another piece is needed. Throws Failure protocol_corrupt. */
  next(): Frame | undefined {
    if (this.#header === undefined) {
      this.#headerTaken += this.#fill(this.#headerBytes, this.#headerTaken);
      if (this.#headerTaken < FRAME_HEADER_BYTES) return undefined;
      this.#header = decodeHeader(this.#headerBytes, this.#rules);
      this.#body = this.#pool.take(this.#header.length);
      this.#bodyTaken = 0;
    }
    const header = this.#header;
    this.#bodyTaken += this.#fill(this.#body, this.#bodyTaken);
    if (this.#bodyTaken < header.length) return undefined;
    const body = this.#body;
    this.#header = undefined;
    this.#headerTaken = 0;
    if (header.sum !== crc32(body.subarray(0, header.checkedBytes))) throw corrupt('body checksum');
    return { kind: header.kind, sequence: header.sequence, body };
  }

  /** True between two frames: an end here is an orderly one. */
  get isBetweenFrames(): boolean {
    return this.#header === undefined && this.#headerTaken === 0;
  }

  #fill(target: Uint8Array, taken: number): number {
    const part = this.#piece.subarray(0, target.length - taken);
    target.set(part, taken);
    this.#piece = this.#piece.subarray(part.length);
    return part.length;
  }
}

function corrupt(what: string): Failure {
  return new Failure('protocol_corrupt', `decode frame: wrong ${what}`);
}
