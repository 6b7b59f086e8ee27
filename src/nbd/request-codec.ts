/**
 * Requests as the server reads them and headers of the replies it writes.
 *
 *   request: 0 u32 magic | 4 u16 flags | 6 u16 command | 8 u64 cookie | 16 u64 offset | 24 u32 length
 *   simple:  0 u32 magic | 4 u32 error | 8 u64 cookie
 *   chunk:   0 u32 magic | 4 u16 flags | 6 u16 type | 8 u64 cookie | 16 u32 length | 20 payload
 *
 * A cookie is the client's 8 bytes, returned as they came.
 */
import { Failure } from '#/lib/failure.ts';
import { safeUint64, setUint64, view } from './option-codec.ts';
import {
  CHUNK,
  CHUNK_BYTES,
  CHUNK_FLAG_DONE,
  CHUNK_MAGIC,
  REQUEST_MAGIC,
  SIMPLE_REPLY_BYTES,
  SIMPLE_REPLY_MAGIC,
} from './protocol.ts';

export type Request = {
  flags: number;
  command: number;
  cookie: Uint8Array;
  /** Undefined when it is above 2^53, which is beyond every export. */
  offset: number | undefined;
  length: number;
};

/** A run of an export for a block status reply. */
export type Descriptor = { length: number; flags: number };

/** `bytes` are REQUEST_BYTES long. Throws `protocol_corrupt`: after a wrong magic nothing can be told apart. */
export function decodeRequest(bytes: Uint8Array): Request {
  const data = view(bytes);
  if (data.getUint32(0) !== REQUEST_MAGIC)
    throw new Failure('protocol_corrupt', 'read an NBD request: wrong magic');
  return {
    flags: data.getUint16(4),
    command: data.getUint16(6),
    cookie: bytes.subarray(8, 16),
    offset: safeUint64(data, 16),
    length: data.getUint32(24),
  };
}

export function encodeSimpleReply(cookie: Uint8Array, errno: number): Uint8Array {
  const out = new Uint8Array(SIMPLE_REPLY_BYTES);
  const data = view(out);
  data.setUint32(0, SIMPLE_REPLY_MAGIC);
  data.setUint32(4, errno);
  out.set(cookie, 8);
  return out;
}

/** Header and offset of a data chunk; `length` bytes of data follow it. */
export function encodeDataHeader(
  cookie: Uint8Array,
  part: { offset: number; length: number; isLast: boolean },
): Uint8Array {
  const out = chunk(cookie, { type: CHUNK.offsetData, isLast: part.isLast }, { fixed: 8, more: part.length });
  setUint64(view(out), CHUNK_BYTES, part.offset);
  return out;
}

export function encodeHole(
  cookie: Uint8Array,
  part: { offset: number; length: number; isLast: boolean },
): Uint8Array {
  const out = chunk(cookie, { type: CHUNK.offsetHole, isLast: part.isLast }, { fixed: 12, more: 0 });
  setUint64(view(out), CHUNK_BYTES, part.offset);
  view(out).setUint32(CHUNK_BYTES + 8, part.length);
  return out;
}

export function encodeError(cookie: Uint8Array, errno: number, message: string): Uint8Array {
  const text = new TextEncoder().encode(message.slice(0, 1000));
  const out = chunk(cookie, { type: CHUNK.error, isLast: true }, { fixed: 6 + text.length, more: 0 });
  const data = view(out);
  data.setUint32(CHUNK_BYTES, errno);
  data.setUint16(CHUNK_BYTES + 4, text.length);
  out.set(text, CHUNK_BYTES + 6);
  return out;
}

export function encodeBlockStatus(
  cookie: Uint8Array,
  contextId: number,
  runs: readonly Descriptor[],
): Uint8Array {
  const out = chunk(
    cookie,
    { type: CHUNK.blockStatus, isLast: true },
    { fixed: 4 + 8 * runs.length, more: 0 },
  );
  const data = view(out);
  data.setUint32(CHUNK_BYTES, contextId);
  for (const [index, run] of runs.entries()) {
    data.setUint32(CHUNK_BYTES + 4 + index * 8, run.length);
    data.setUint32(CHUNK_BYTES + 8 + index * 8, run.flags);
  }
  return out;
}

function chunk(
  cookie: Uint8Array,
  { type, isLast }: { type: number; isLast: boolean },
  { fixed, more }: { fixed: number; more: number },
): Uint8Array {
  const out = new Uint8Array(CHUNK_BYTES + fixed);
  const data = view(out);
  data.setUint32(0, CHUNK_MAGIC);
  data.setUint16(4, isLast ? CHUNK_FLAG_DONE : 0);
  data.setUint16(6, type);
  out.set(cookie, 8);
  data.setUint32(16, fixed + more);
  return out;
}
