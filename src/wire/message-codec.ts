/**
 * Messages as the bodies of frames (docs/wire-protocol.md, section 3). Control messages are JSON (control-codec.ts);
 * three kinds are binary, all integers big-endian:
 *
 *   segment      8 index, then the segment
 *   digests      2 disk, 1 level, 1 zero, 4 count, 8 first node, then 16 bytes for each node
 *   attachment  32 SHA-256, 8 offset, then the bytes
 *
 * Invariant: decode(encode(message)) equals message; what does not decode is protocol_corrupt. Pure.
 */
import assert from 'node:assert/strict';
import { DIGEST_BYTES } from '#/disk/digest.ts';
import { Failure } from '#/lib/failure.ts';
import { decodeControl, encodeControl } from './control-codec.ts';
import type { Frame, FrameRule } from './frame.ts';
import {
  ATTACHMENT_BYTES_MAX,
  ATTACHMENT_PIECE_BYTES,
  CONTROL_BYTES_MAX,
  DIGESTS_MAX,
  DISKS_MAX,
  TREE_LEVEL_MAX,
} from './limits.ts';
import type { AttachmentPiece, Digests, Message, SegmentMessage } from './messages.ts';
import { SEGMENT_BYTES_MAX, SEGMENT_HEADER_BYTES } from './segment.ts';

export type MessageKind = Message['kind'];

const KIND_NUMBERS: { [K in MessageKind]: number } = {
  open: 1,
  opened: 2,
  digests_get: 3,
  digests: 4,
  begin: 5,
  begun: 6,
  segment: 7,
  credit: 8,
  attachments_offer: 9,
  attachments_wanted: 10,
  attachment: 11,
  attachment_taken: 12,
  commit: 13,
  acknowledged: 14,
  abort: 15,
  aborted: 16,
  alive: 17,
  failure: 18,
  close: 19,
  closed: 20,
};
const KINDS = new Map(Object.entries(KIND_NUMBERS).map(([kind, number]) => [number, kind as MessageKind]));

const INDEX_BYTES = 8;
const DIGESTS_HEADER_BYTES = 16;
const ATTACHMENT_HEADER_BYTES = 40;
/** Index and header of a segment: the header holds the checksum over the rest. */
export const SEGMENT_CHECKED_BYTES: number = INDEX_BYTES + SEGMENT_HEADER_BYTES;

const WHOLE = Number.MAX_SAFE_INTEGER;
const CONTROL_RULE: FrameRule = { bodyBytesMax: CONTROL_BYTES_MAX, checkedBytes: WHOLE };
const BINARY_RULES: { [K in MessageKind]?: FrameRule } = {
  segment: { bodyBytesMax: INDEX_BYTES + SEGMENT_BYTES_MAX, checkedBytes: SEGMENT_CHECKED_BYTES },
  digests: { bodyBytesMax: DIGESTS_HEADER_BYTES + DIGESTS_MAX * DIGEST_BYTES, checkedBytes: WHOLE },
  attachment: { bodyBytesMax: ATTACHMENT_HEADER_BYTES + ATTACHMENT_PIECE_BYTES, checkedBytes: WHOLE },
};

export function kindNumber(kind: MessageKind): number {
  return KIND_NUMBERS[kind];
}

/** What a frame of this kind may be; undefined when no message has that number. */
export function frameRule(number: number): FrameRule | undefined {
  const kind = KINDS.get(number);
  return kind === undefined ? undefined : (BINARY_RULES[kind] ?? CONTROL_RULE);
}

/** The body of the message's frame, in parts to be laid end to end. Segments and digests are not copied. */
export function encodeBody(message: Message): Uint8Array[] {
  if (message.kind === 'segment') return encodeSegmentBody(message);
  if (message.kind === 'digests') return encodeDigests(message);
  if (message.kind === 'attachment') return encodeAttachment(message);
  return [encodeControl(message)];
}

/** The message of a frame; its bytes are views of the frame's body. Throws Failure protocol_corrupt. */
export function decodeMessage(frame: Frame): Message {
  const kind = KINDS.get(frame.kind);
  assert(kind !== undefined, 'frames of unknown kinds are refused by their header');
  if (kind === 'segment') return decodeSegmentBody(frame.body);
  if (kind === 'digests') return decodeDigests(frame.body);
  if (kind === 'attachment') return decodeAttachment(frame.body);
  return decodeControl(kind, frame.body);
}

/** The first part carries index and segment header, so that it holds all that the frame's checksum covers. */
function encodeSegmentBody(message: SegmentMessage): Uint8Array[] {
  const first = new Uint8Array(SEGMENT_CHECKED_BYTES);
  putInteger(viewOf(first), 0, message.index);
  first.set(message.segment.subarray(0, SEGMENT_HEADER_BYTES), INDEX_BYTES);
  const parts = [first, message.segment.subarray(SEGMENT_HEADER_BYTES)];
  if (message.payload !== undefined) parts.push(message.payload);
  return parts;
}

function decodeSegmentBody(body: Uint8Array): SegmentMessage {
  if (body.length <= SEGMENT_CHECKED_BYTES) throw corrupt('segment');
  return { kind: 'segment', index: getInteger(viewOf(body), 0), segment: body.subarray(INDEX_BYTES) };
}

function encodeDigests(message: Digests): Uint8Array[] {
  assert(message.digests.length % DIGEST_BYTES === 0);
  const header = new Uint8Array(DIGESTS_HEADER_BYTES);
  const view = viewOf(header);
  view.setUint16(0, message.disk);
  view.setUint8(2, message.level);
  view.setUint32(4, message.digests.length / DIGEST_BYTES);
  putInteger(view, 8, message.first);
  return [header, message.digests];
}

function decodeDigests(body: Uint8Array): Digests {
  if (body.length < DIGESTS_HEADER_BYTES) throw corrupt('digests');
  const view = viewOf(body);
  const disk = view.getUint16(0);
  const level = view.getUint8(2);
  const count = view.getUint32(4);
  if (disk >= DISKS_MAX || level > TREE_LEVEL_MAX || view.getUint8(3) !== 0) throw corrupt('digests');
  if (count < 1 || body.length !== DIGESTS_HEADER_BYTES + count * DIGEST_BYTES)
    throw corrupt('digests.count');
  return {
    kind: 'digests',
    disk,
    level,
    first: getInteger(view, 8),
    digests: body.subarray(DIGESTS_HEADER_BYTES),
  };
}

function encodeAttachment(message: AttachmentPiece): Uint8Array[] {
  const header = new Uint8Array(ATTACHMENT_HEADER_BYTES);
  header.set(Uint8Array.fromHex(message.sha256));
  putInteger(viewOf(header), 32, message.offset);
  return [header, message.bytes];
}

function decodeAttachment(body: Uint8Array): AttachmentPiece {
  if (body.length < ATTACHMENT_HEADER_BYTES) throw corrupt('attachment');
  const bytes = body.subarray(ATTACHMENT_HEADER_BYTES);
  const offset = getInteger(viewOf(body), 32);
  if (offset + bytes.length > ATTACHMENT_BYTES_MAX) throw corrupt('attachment.offset');
  return { kind: 'attachment', sha256: Buffer.from(body.subarray(0, 32)).toString('hex'), offset, bytes };
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function putInteger(view: DataView, at: number, value: number): void {
  view.setUint32(at, Math.floor(value / 2 ** 32));
  view.setUint32(at + 4, value >>> 0);
}

function getInteger(view: DataView, at: number): number {
  const value = view.getUint32(at) * 2 ** 32 + view.getUint32(at + 4);
  if (!Number.isSafeInteger(value)) throw corrupt('integer');
  return value;
}

function corrupt(what: string): Failure {
  return new Failure('protocol_corrupt', `decode message: wrong ${what}`);
}
