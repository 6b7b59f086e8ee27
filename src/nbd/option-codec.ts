/**
 * Options of the negotiation and their replies (doc/proto.md, "Fixed newstyle negotiation").
 *
 *   option:  0 u64 IHAVEOPT | 8 u32 option | 12 u32 length | 16 payload
 *   reply:   0 u64 magic | 8 u32 option | 12 u32 type | 16 u32 length | 20 payload
 *
 * Invariant: a decoder returns a value or throws `protocol_corrupt`; it never reads outside the payload it was given.
 */
import { Failure } from '#/lib/failure.ts';
import { OPTION_REPLY_BYTES_MAX, STRING_BYTES_MAX } from './limits.ts';
import { OPTION_MAGIC, OPTION_REPLY_MAGIC } from './protocol.ts';

export const OPTION_HEADER_BYTES = 16;
export const OPTION_REPLY_HEADER_BYTES = 20;

export type OptionReply = { type: number; length: number };

const utf8 = new TextDecoder('utf-8', { fatal: true });
const encoder = new TextEncoder();

export function view(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

export function isMagic(data: DataView, at: number, magic: readonly [number, number]): boolean {
  return data.getUint32(at) === magic[0] && data.getUint32(at + 4) === magic[1];
}

/** A 64-bit number that is a safe integer, or undefined. */
export function safeUint64(data: DataView, at: number): number | undefined {
  const value = data.getUint32(at) * 2 ** 32 + data.getUint32(at + 4);
  return Number.isSafeInteger(value) ? value : undefined;
}

export function setUint64(data: DataView, at: number, value: number): void {
  data.setUint32(at, Math.floor(value / 2 ** 32));
  data.setUint32(at + 4, value % 2 ** 32);
}

export function encodeOption(option: number, payload: Uint8Array): Uint8Array {
  const out = new Uint8Array(OPTION_HEADER_BYTES + payload.length);
  const data = view(out);
  data.setUint32(0, OPTION_MAGIC[0]);
  data.setUint32(4, OPTION_MAGIC[1]);
  data.setUint32(8, option);
  data.setUint32(12, payload.length);
  out.set(payload, OPTION_HEADER_BYTES);
  return out;
}

export function encodeOptionReply(option: number, type: number, payload: Uint8Array): Uint8Array {
  const out = new Uint8Array(OPTION_REPLY_HEADER_BYTES + payload.length);
  const data = view(out);
  data.setUint32(0, OPTION_REPLY_MAGIC[0]);
  data.setUint32(4, OPTION_REPLY_MAGIC[1]);
  data.setUint32(8, option);
  data.setUint32(12, type);
  data.setUint32(16, payload.length);
  out.set(payload, OPTION_REPLY_HEADER_BYTES);
  return out;
}

/** Checks the header of a reply to `option` before anything is allocated for its payload. */
export function decodeOptionReply(header: Uint8Array, option: number): OptionReply {
  const data = view(header);
  if (!isMagic(data, 0, OPTION_REPLY_MAGIC)) throw corrupt('option reply without its magic');
  const echoed = data.getUint32(8);
  if (echoed !== option) throw corrupt(`reply to option ${echoed} where ${option} was asked`);
  const length = data.getUint32(16);
  if (length > OPTION_REPLY_BYTES_MAX) throw corrupt(`option reply of ${length} bytes`);
  return { type: data.getUint32(12), length };
}

/** Writes a payload part by part. */
export class PayloadWriter {
  readonly #parts: Uint8Array[] = [];

  u16(value: number): this {
    const part = new Uint8Array(2);
    view(part).setUint16(0, value);
    return this.bytes(part);
  }

  u32(value: number): this {
    const part = new Uint8Array(4);
    view(part).setUint32(0, value);
    return this.bytes(part);
  }

  u64(value: number): this {
    const part = new Uint8Array(8);
    setUint64(view(part), 0, value);
    return this.bytes(part);
  }

  /** The text without its length. */
  text(value: string): this {
    return this.bytes(encoder.encode(value));
  }

  /** The text after its length in bytes. */
  string(value: string): this {
    const bytes = encoder.encode(value);
    return this.u32(bytes.length).bytes(bytes);
  }

  bytes(value: Uint8Array): this {
    this.#parts.push(value);
    return this;
  }

  end(): Uint8Array {
    const out = new Uint8Array(this.#parts.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of this.#parts) {
      out.set(part, at);
      at += part.length;
    }
    return out;
  }
}

/** Reads a payload part by part; running over its end is `protocol_corrupt`. */
export class PayloadReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = view(bytes);
  }

  get left(): number {
    return this.#bytes.length - this.#at;
  }

  u16(): number {
    return this.#view.getUint16(this.#advance(2));
  }

  u32(): number {
    return this.#view.getUint32(this.#advance(4));
  }

  u64(): number {
    const value = safeUint64(this.#view, this.#advance(8));
    if (value === undefined) throw corrupt('number above 2^53');
    return value;
  }

  text(length: number): string {
    if (length > STRING_BYTES_MAX) throw corrupt(`string of ${length} bytes`);
    const start = this.#advance(length);
    try {
      return utf8.decode(this.#bytes.subarray(start, start + length));
    } catch (cause) {
      throw new Failure('protocol_corrupt', 'read an NBD string that is not UTF-8', { cause });
    }
  }

  string(): string {
    return this.text(this.u32());
  }

  end(): void {
    if (this.left !== 0) throw corrupt(`${this.left} bytes too many`);
  }

  #advance(count: number): number {
    if (count > this.left) throw corrupt(`${count} bytes expected where ${this.left} are left`);
    const at = this.#at;
    this.#at += count;
    return at;
  }
}

function corrupt(what: string): Failure {
  return new Failure('protocol_corrupt', `negotiate NBD: ${what}`);
}
