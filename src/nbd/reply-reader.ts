/**
 * Replies of the transmission phase, from bytes as they arrive (doc/proto.md, "Simple reply", "Structured reply").
 *
 *   simple:  0 u32 magic | 4 u32 error | 8 u64 cookie | 16 data of a read
 *   chunk:   0 u32 magic | 4 u16 flags | 6 u16 type | 8 u64 cookie | 16 u32 length | 20 payload
 *
 * The payload of a read goes straight to its target: `landing` hands that memory to the socket, so that the kernel
 * copies into it and nobody else does. Everything else passes through `feed`.
 *
 * Invariant: lengths are checked against the request before anything is read by them; memory beyond the targets is
 * one fixed buffer. A breach throws `protocol_corrupt`, after which the reader is dead.
 */
import { Failure } from '#/lib/failure.ts';
import { DIRECT_BYTES_MIN, STATUS_CHUNK_BYTES_MAX, STRING_BYTES_MAX } from './limits.ts';
import { safeUint64, view } from './option-codec.ts';
import { StatusList, type PendingRead, type PendingReply, type PendingStatus } from './pending-reply.ts';
import {
  CHUNK,
  CHUNK_BYTES,
  CHUNK_ERROR_BIT,
  CHUNK_FLAG_DONE,
  CHUNK_MAGIC,
  SIMPLE_REPLY_BYTES,
  SIMPLE_REPLY_MAGIC,
} from './protocol.ts';

/** errno, message length, the longest message, and the offset of an ERROR_OFFSET chunk. */
const ERROR_PAYLOAD_BYTES_MAX = 6 + STRING_BYTES_MAX + 8;

export type ReplyTable = {
  isStructured: boolean;
  /** Ids of the negotiated meta contexts. */
  contexts: ReadonlyMap<number, string>;
  find(cookie: number): PendingReply | undefined;
  /** The request is answered for good. */
  done(cookie: number, failure: Failure | undefined): void;
};

/** What the bytes under the cursor are: gathered in the fixed buffer, or streamed to a read. */
type Part =
  | { kind: 'magic' | 'simple' | 'chunk' | 'dataOffset' | 'hole' | 'statusId' | 'error'; need: number }
  | { kind: 'statusEntry'; need: 8; list: StatusList; left: number }
  | { kind: 'data'; request: PendingRead; at: number; left: number };

const MAGIC: Part = { kind: 'magic', need: 4 };
const lenient = new TextDecoder('utf-8');

export class ReplyReader {
  readonly #table: ReplyTable;
  readonly #fixed = new Uint8Array(ERROR_PAYLOAD_BYTES_MAX);
  readonly #view = view(this.#fixed);
  #have = 0;
  #part: Part = MAGIC;
  // The chunk being read.
  #cookie = 0;
  #request: PendingReply | undefined;
  #length = 0;
  #type = 0;
  #isLast = false;

  constructor(table: ReplyTable) {
    this.#table = table;
  }

  /** The read whose payload is due next, when it is long enough to be received in place. */
  landing(): { request: PendingRead; bytes: Uint8Array } | undefined {
    const part = this.#part;
    if (part.kind !== 'data' || part.left < DIRECT_BYTES_MIN || part.request.target === undefined)
      return undefined;
    return { request: part.request, bytes: part.request.target.subarray(part.at, part.at + part.left) };
  }

  /** `count` bytes were received into what `landing` returned. */
  landed(count: number): void {
    if (this.#part.kind === 'data') this.#advance(this.#part, count);
  }

  /** Takes all of `bytes`. */
  feed(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length;) {
      const part = this.#part;
      if (part.kind === 'data') {
        const count = Math.min(part.left, bytes.length - at);
        part.request.target?.set(bytes.subarray(at, at + count), part.at);
        at += count;
        this.#advance(part, count);
        continue;
      }
      const count = Math.min(part.need - this.#have, bytes.length - at);
      this.#fixed.set(bytes.subarray(at, at + count), this.#have);
      at += count;
      this.#have += count;
      if (this.#have === part.need) this.#complete(part);
    }
  }

  #advance(part: Part & { kind: 'data' }, count: number): void {
    part.at += count;
    part.left -= count;
    if (part.left === 0) this.#chunkEnd();
  }

  #expect(part: Part): void {
    this.#part = part;
    this.#have = 0;
  }

  #complete(part: Exclude<Part, { kind: 'data' }>): void {
    switch (part.kind) {
      case 'magic':
        return this.#onMagic();
      case 'simple':
        return this.#onSimple();
      case 'chunk':
        return this.#onChunk();
      case 'dataOffset':
        return this.#onData();
      case 'hole':
        return this.#onHole();
      case 'statusId':
        return this.#onStatus();
      case 'statusEntry':
        return this.#onStatusEntry(part);
      case 'error':
        return this.#onError(part.need);
    }
  }

  #onMagic(): void {
    const magic = this.#view.getUint32(0);
    // The bytes gathered so far stay: the rest of the header goes behind them.
    if (magic === SIMPLE_REPLY_MAGIC) this.#part = { kind: 'simple', need: SIMPLE_REPLY_BYTES };
    else if (magic === CHUNK_MAGIC && this.#table.isStructured)
      this.#part = { kind: 'chunk', need: CHUNK_BYTES };
    else throw corrupt(`reply with magic 0x${magic.toString(16)}`);
  }

  #onSimple(): void {
    const errno = this.#view.getUint32(4);
    const request = this.#find(8);
    this.#isLast = true;
    if (errno !== 0) {
      request.error = { errno, message: '', offset: undefined };
      return this.#chunkEnd();
    }
    if (request.kind !== 'read' || this.#table.isStructured)
      throw corrupt(`simple reply to a ${request.kind}`);
    this.#startData(request, request.offset, request.length);
  }

  #onChunk(): void {
    const flags = this.#view.getUint16(4);
    this.#type = this.#view.getUint16(6);
    const request = this.#find(8);
    const length = this.#view.getUint32(16);
    this.#length = length;
    this.#isLast = (flags & CHUNK_FLAG_DONE) !== 0;
    if ((this.#type & CHUNK_ERROR_BIT) !== 0) {
      if (length < 6 || length > ERROR_PAYLOAD_BYTES_MAX) throw corrupt(`error chunk of ${length} bytes`);
      return this.#expect({ kind: 'error', need: length });
    }
    if (this.#type === CHUNK.none) {
      if (length !== 0 || !this.#isLast) throw corrupt('empty chunk with a payload or not the last');
      return this.#chunkEnd();
    }
    const part = payloadPart(this.#type, length, request);
    if (part === undefined) {
      const what = `chunk of type ${this.#type} and ${length} bytes`;
      throw corrupt(`${what} for a ${request.kind} of ${request.length}`);
    }
    this.#expect(part);
  }

  #onData(): void {
    const request = this.#request;
    const offset = safeUint64(this.#view, 0);
    if (request?.kind !== 'read' || offset === undefined) throw corrupt('data at an offset above 2^53');
    this.#startData(request, offset, this.#length - 8);
  }

  #startData(request: PendingRead, offset: number, length: number): void {
    if (!request.cover(offset, length)) throw misplaced(request, offset, length);
    this.#expect({ kind: 'data', request, at: offset - request.offset, left: length });
  }

  #onHole(): void {
    const request = this.#request;
    const offset = safeUint64(this.#view, 0);
    const length = this.#view.getUint32(8);
    if (request?.kind !== 'read' || offset === undefined) throw corrupt('hole at an offset above 2^53');
    if (!request.cover(offset, length)) throw misplaced(request, offset, length);
    request.target?.fill(0, offset - request.offset, offset - request.offset + length);
    this.#chunkEnd();
  }

  #onStatus(): void {
    const request = this.#request as PendingStatus;
    const id = this.#view.getUint32(0);
    if (!this.#table.contexts.has(id)) throw corrupt(`block status of the unknown context ${id}`);
    if (request.lists.has(id)) throw corrupt(`block status of context ${id} twice`);
    const list = new StatusList(request.offset);
    request.lists.set(id, list);
    this.#expect({ kind: 'statusEntry', need: 8, list, left: (this.#length - 4) / 8 });
  }

  #onStatusEntry(part: Part & { kind: 'statusEntry' }): void {
    const request = this.#request as PendingStatus;
    const length = this.#view.getUint32(0);
    if (length === 0) throw corrupt('empty extent in a block status');
    // Only the last extent may reach over the end of the question.
    if (part.list.end >= request.offset + request.length) throw corrupt('block status beyond the question');
    part.list.add(length, this.#view.getUint32(4));
    part.left -= 1;
    this.#have = 0;
    if (part.left === 0) this.#chunkEnd();
  }

  #onError(length: number): void {
    const request = this.#request!;
    const errno = this.#view.getUint32(0);
    const messageBytes = this.#view.getUint16(4);
    if (errno === 0) throw corrupt('error chunk without an error');
    const hasOffset = this.#type === CHUNK.errorOffset;
    const isExact = hasOffset || this.#type === CHUNK.error;
    const expected = 6 + messageBytes + (hasOffset ? 8 : 0);
    if (messageBytes > STRING_BYTES_MAX || expected > length || (isExact && expected !== length)) {
      throw corrupt(`error chunk of ${length} bytes with a message of ${messageBytes}`);
    }
    const message = lenient.decode(this.#fixed.subarray(6, 6 + messageBytes));
    const offset = hasOffset ? safeUint64(this.#view, 6 + messageBytes) : undefined;
    const isInside =
      offset === undefined || (offset >= request.offset && offset < request.offset + request.length);
    if (hasOffset && (offset === undefined || !isInside))
      throw corrupt('error at an offset outside the request');
    request.error ??= { errno, message, offset };
    this.#chunkEnd();
  }

  #find(at: number): PendingReply {
    const cookie = safeUint64(this.#view, at);
    const request = cookie === undefined ? undefined : this.#table.find(cookie);
    if (cookie === undefined || request === undefined)
      throw corrupt('reply to a request that is not in flight');
    this.#cookie = cookie;
    this.#request = request;
    return request;
  }

  #chunkEnd(): void {
    const request = this.#request!;
    this.#expect(MAGIC);
    this.#request = undefined;
    if (!this.#isLast) return;
    const failure = request.outcome();
    if (failure?.code === 'protocol_corrupt') throw failure;
    this.#table.done(this.#cookie, failure);
  }
}

/** The fixed part that a payload starts with, or undefined when this chunk cannot answer this request. */
function payloadPart(type: number, length: number, request: PendingReply): Part | undefined {
  if (request.kind === 'status') {
    const isList = length >= 12 && length <= STATUS_CHUNK_BYTES_MAX && length % 8 === 4;
    return type === CHUNK.blockStatus && isList ? { kind: 'statusId', need: 4 } : undefined;
  }
  if (type === CHUNK.offsetData && length >= 9 && length - 8 <= request.length)
    return { kind: 'dataOffset', need: 8 };
  if (type === CHUNK.offsetHole && length === 12) return { kind: 'hole', need: 12 };
  return undefined;
}

function misplaced(request: PendingRead, offset: number, length: number): Failure {
  return corrupt(
    `${length} bytes at ${offset} for a read of ${request.length} at ${request.offset}, or twice`,
  );
}

function corrupt(what: string): Failure {
  return new Failure('protocol_corrupt', `read NBD replies: ${what}`);
}
