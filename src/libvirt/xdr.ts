/**
 * XDR (RFC 4506), the part that libvirt's RPC uses, with a bound on everything that has a length.
 *
 *   | type            | bytes                                             |
 *   | --------------- | ------------------------------------------------- |
 *   | int, unsigned   | 4, big-endian                                     |
 *   | bool, pointer   | 4, 0 or 1; a pointer's value follows a 1          |
 *   | hyper, double   | 8, big-endian                                     |
 *   | opaque[n]       | n, padded with zeroes to a multiple of 4          |
 *   | string, opaque<>| 4 of length, then as opaque[n]                    |
 *   | array<>         | 4 of count, then the elements                     |
 *
 * Invariant: the reader checks every length against the bytes that are there before it allocates, and refuses what the
 * encoding does not allow (padding that is not zero, a boolean of 2, bytes left over).
 */
import { Failure } from '#/lib/failure.ts';
import { STRING_BYTES_MAX } from './limits.ts';

const INITIAL_BYTES = 256;
const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Builds one encoded value; `bytes()` is what was written so far. */
export class XdrWriter {
  #buffer = new Uint8Array(INITIAL_BYTES);
  #view = new DataView(this.#buffer.buffer);
  #used = 0;

  int(value: number): this {
    if (!Number.isInteger(value) || value < -0x8000_0000 || value > 0x7fff_ffff) throw unfit('int', value);
    const offset = this.#take(4);
    this.#view.setInt32(offset, value);
    return this;
  }

  uint(value: number): this {
    if (!Number.isInteger(value) || value < 0 || value > 0xffff_ffff) throw unfit('unsigned', value);
    const offset = this.#take(4);
    this.#view.setUint32(offset, value);
    return this;
  }

  bool(value: boolean): this {
    return this.uint(value ? 1 : 0);
  }

  uhyper(value: number): this {
    if (!Number.isSafeInteger(value) || value < 0) throw unfit('unsigned hyper', value);
    const offset = this.#take(8);
    this.#view.setBigUint64(offset, BigInt(value));
    return this;
  }

  hyper(value: number): this {
    if (!Number.isSafeInteger(value)) throw unfit('hyper', value);
    const offset = this.#take(8);
    this.#view.setBigInt64(offset, BigInt(value));
    return this;
  }

  double(value: number): this {
    const offset = this.#take(8);
    this.#view.setFloat64(offset, value);
    return this;
  }

  /** Bytes of a length that both sides know. */
  fixed(bytes: Uint8Array): this {
    const offset = this.#take(padded(bytes.length));
    this.#buffer.set(bytes, offset);
    return this;
  }

  /** A string of at most STRING_BYTES_MAX bytes. The daemon's strings end at a NUL, so one inside is refused. */
  string(value: string): this {
    if (value.includes('\0'))
      throw new Failure('usage_invalid', 'encode a string that holds a NUL character');
    const bytes = new TextEncoder().encode(value);
    if (bytes.length > STRING_BYTES_MAX) {
      throw new Failure(
        'usage_invalid',
        `encode a string of ${bytes.length} bytes, at most ${STRING_BYTES_MAX}`,
      );
    }
    return this.uint(bytes.length).fixed(bytes);
  }

  optionalString(value: string | undefined): this {
    return value === undefined ? this.bool(false) : this.bool(true).string(value);
  }

  bytes(): Uint8Array {
    return this.#buffer.subarray(0, this.#used);
  }

  /** Reserves `count` bytes, which are zero, and returns their offset. It may replace the buffer and its view. */
  #take(count: number): number {
    const offset = this.#used;
    this.#used += count;
    if (this.#used > this.#buffer.length) {
      const grown = new Uint8Array(Math.max(this.#used, this.#buffer.length * 2));
      grown.set(this.#buffer);
      this.#buffer = grown;
      this.#view = new DataView(grown.buffer);
    }
    return offset;
  }
}

/** Reads one encoded value from front to back. Every method throws Failure `protocol_corrupt`. */
export class XdrReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #offset = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  int(): number {
    return this.#view.getInt32(this.#take(4));
  }

  uint(): number {
    return this.#view.getUint32(this.#take(4));
  }

  bool(): boolean {
    const value = this.uint();
    if (value > 1) throw corrupt(`a boolean is ${value}`);
    return value === 1;
  }

  /** An unsigned 64-bit count; one that a number cannot hold exactly is corrupt, no such count exists. */
  uhyper(): number {
    return exact(this.#view.getBigUint64(this.#take(8)));
  }

  hyper(): number {
    return exact(this.#view.getBigInt64(this.#take(8)));
  }

  /** An unsigned 64-bit value that may be "unlimited" (all ones): rounded to the nearest number. */
  uhyperRounded(): number {
    return Number(this.#view.getBigUint64(this.#take(8)));
  }

  hyperRounded(): number {
    return Number(this.#view.getBigInt64(this.#take(8)));
  }

  double(): number {
    return this.#view.getFloat64(this.#take(8));
  }

  /** A view of `count` bytes, and past their padding. */
  fixed(count: number): Uint8Array {
    const offset = this.#take(padded(count));
    for (let i = offset + count; i < this.#offset; i++) {
      if (this.#bytes[i] !== 0) throw corrupt('padding is not zero');
    }
    return this.#bytes.subarray(offset, offset + count);
  }

  string(): string {
    const bytes = this.#variable();
    let value: string;
    try {
      value = UTF8.decode(bytes);
    } catch (error) {
      throw new Failure('protocol_corrupt', 'decode a string that is not UTF-8', { cause: error });
    }
    if (value.includes('\0')) throw corrupt('a string holds a NUL character');
    return value;
  }

  /** A string for people, such as an error's text: bytes that are not UTF-8 are replaced, not refused. */
  lossyString(): string {
    return new TextDecoder().decode(this.#variable());
  }

  optional<T>(read: (reader: XdrReader) => T): T | undefined {
    return this.bool() ? read(this) : undefined;
  }

  /** An array of at most `max` elements. Elements are read one by one, so a false count runs out of bytes. */
  array<T>(max: number, read: (reader: XdrReader) => T): T[] {
    const count = this.uint();
    if (count > max) throw corrupt(`an array of ${count} elements, at most ${max}`);
    const elements: T[] = [];
    for (let i = 0; i < count; i++) elements.push(read(this));
    return elements;
  }

  /** Refuses bytes that no field claimed. */
  end(): void {
    const left = this.#bytes.length - this.#offset;
    if (left !== 0) throw corrupt(`${left} bytes are left over`);
  }

  #variable(): Uint8Array {
    const count = this.uint();
    if (count > STRING_BYTES_MAX) throw corrupt(`a string of ${count} bytes, at most ${STRING_BYTES_MAX}`);
    return this.fixed(count);
  }

  #take(count: number): number {
    const offset = this.#offset;
    const left = this.#bytes.length - offset;
    if (count > left) throw corrupt(`${count} bytes are wanted where ${left} are left`);
    this.#offset = offset + count;
    return offset;
  }
}

function padded(count: number): number {
  return Math.ceil(count / 4) * 4;
}

function exact(value: bigint): number {
  const number = Number(value);
  if (!Number.isSafeInteger(number)) throw corrupt(`a 64-bit count is ${value}`);
  return number;
}

function unfit(type: string, value: number): Failure {
  return new Failure('usage_invalid', `encode ${value} as ${type}`);
}

function corrupt(what: string): Failure {
  return new Failure('protocol_corrupt', `decode a message of libvirt: ${what}`);
}
