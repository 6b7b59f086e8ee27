/**
 * The bytes of the log of recovery points (docs/storage-format.md, section 4.1).
 *
 * Header, 32 bytes:
 *        0      4  magic "APL1"
 *        4      2  version, 1
 *        6      2  zero
 *        8     16  replica tag
 *       24      4  generation: rises when the log is written anew
 *       28      4  crc32 of bytes 0 to 27
 *
 * Record, 20 bytes and its payload:
 *        0      4  magic "APLR"
 *        4      4  payload length L
 *        8      4  number: rises by one with every record of a log, from 0
 *       12      1  type
 *       13      3  zero
 *       16      4  crc32 of bytes 0 to 15 and the payload
 *       20      L  payload, JSON in UTF-8 without control characters, so that no frame can stand inside one
 *
 * Each record is durable before the next one is appended. What a crash can leave is therefore one record, torn, at
 * the end. Something invalid with a valid record behind it is damage, not a crash. Pure.
 */
import { corrupt, crcAround, viewOf } from './bytes.ts';
import { LOG_RECORD_BYTES_MAX } from './limits.ts';
import { decodePayload, encodePayload, typeOf, type LogRecord } from './log-record.ts';

export const LOG_HEADER_BYTES = 32;
const FRAME_BYTES = 20;
const FILE_MAGIC = 0x41504c31;
const RECORD_MAGIC = 0x41504c52;
const VERSION = 1;
const HEADER_CRC_AT = 28;
const FRAME_CRC_AT = 16;
const WHERE = 'points.log';

export type LogContent = {
  generation: number;
  records: LogRecord[];
  /** Where the valid records end: the next one goes there. */
  end: number;
  /** Bytes behind the end: a record that a crash tore. */
  tornBytes: number;
};

export function encodeLogHeader(tag: Uint8Array, generation: number): Uint8Array {
  const bytes = new Uint8Array(LOG_HEADER_BYTES);
  const view = viewOf(bytes);
  view.setUint32(0, FILE_MAGIC);
  view.setUint16(4, VERSION);
  bytes.set(tag, 8);
  view.setUint32(24, generation);
  view.setUint32(HEADER_CRC_AT, crcAround(bytes, HEADER_CRC_AT));
  return bytes;
}

export function encodeRecord(record: LogRecord, number: number): Uint8Array {
  const payload = encodePayload(record);
  const bytes = new Uint8Array(FRAME_BYTES + payload.length);
  const view = viewOf(bytes);
  view.setUint32(0, RECORD_MAGIC);
  view.setUint32(4, payload.length);
  view.setUint32(8, number);
  view.setUint8(12, typeOf(record));
  bytes.set(payload, FRAME_BYTES);
  view.setUint32(FRAME_CRC_AT, crcAround(bytes, FRAME_CRC_AT));
  return bytes;
}

/** Decodes a whole log. Throws storage_corrupt for anything that a crash while appending cannot leave. */
export function decodeLog(bytes: Uint8Array, tag: Uint8Array): LogContent {
  const generation = decodeLogHeader(bytes, tag);
  const records: LogRecord[] = [];
  let at = LOG_HEADER_BYTES;
  for (;;) {
    const frame = frameAt(bytes, at, records.length);
    if (frame === undefined) break;
    records.push(decodePayload(frame.type, frame.payload));
    at = frame.end;
  }
  for (let ahead = nextMagic(bytes, at + 1); ahead >= 0; ahead = nextMagic(bytes, ahead + 1)) {
    if (frameAt(bytes, ahead) !== undefined) throw corrupt(WHERE, `record ${records.length} at byte ${at}`);
  }
  return { generation, records, end: at, tornBytes: bytes.length - at };
}

/** The generation that a log's header names. Throws storage_corrupt. */
export function decodeLogHeader(bytes: Uint8Array, tag: Uint8Array): number {
  if (bytes.length < LOG_HEADER_BYTES) throw corrupt(WHERE, 'length of the header');
  const header = bytes.subarray(0, LOG_HEADER_BYTES);
  const view = viewOf(header);
  if (view.getUint32(0) !== FILE_MAGIC) throw corrupt(WHERE, 'magic');
  if (view.getUint16(4) !== VERSION) throw corrupt(WHERE, `version ${view.getUint16(4)}`);
  if (view.getUint32(HEADER_CRC_AT) !== crcAround(header, HEADER_CRC_AT))
    throw corrupt(WHERE, 'header checksum');
  if (view.getUint16(6) !== 0) throw corrupt(WHERE, 'reserved bytes');
  if (tag.some((byte, index) => byte !== header[8 + index]))
    throw corrupt(WHERE, 'replica: it is of another one');
  return view.getUint32(24);
}

type Frame = { type: number; payload: Uint8Array; end: number };

/** The valid record at `at`, with this number where one is given. */
function frameAt(bytes: Uint8Array, at: number, number?: number): Frame | undefined {
  if (at + FRAME_BYTES > bytes.length) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, FRAME_BYTES);
  const length = view.getUint32(4);
  const end = at + FRAME_BYTES + length;
  if (view.getUint32(0) !== RECORD_MAGIC || length > LOG_RECORD_BYTES_MAX || end > bytes.length)
    return undefined;
  if (number !== undefined && view.getUint32(8) !== number) return undefined;
  const frame = bytes.subarray(at, end);
  if (view.getUint32(FRAME_CRC_AT) !== crcAround(frame, FRAME_CRC_AT)) return undefined;
  return { type: view.getUint8(12), payload: frame.subarray(FRAME_BYTES), end };
}

function nextMagic(bytes: Uint8Array, from: number): number {
  for (let at = bytes.indexOf(0x41, from); at >= 0; at = bytes.indexOf(0x41, at + 1)) {
    if (at + 4 <= bytes.length && viewOf(bytes.subarray(at, at + 4)).getUint32(0) === RECORD_MAGIC) return at;
  }
  return -1;
}
