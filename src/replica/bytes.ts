/** Numbers in the replica's files: big-endian, 64-bit ones as two 32-bit halves (docs/storage-format.md). Pure. */
import { crc32 } from 'node:zlib';
import { Failure } from '#/lib/failure.ts';

const HALF = 2 ** 32;

export function setUint64(view: DataView, at: number, value: number): void {
  view.setUint32(at, Math.floor(value / HALF));
  view.setUint32(at + 4, value >>> 0);
}

/** May be larger than a safe integer when the bytes are wrong: whoever uses it compares it with a bound. */
export function getUint64(view: DataView, at: number): number {
  return view.getUint32(at) * HALF + view.getUint32(at + 4);
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** crc32 of everything but the four bytes at `at`, which hold it. */
export function crcAround(bytes: Uint8Array, at: number): number {
  return crc32(bytes.subarray(at + 4), crc32(bytes.subarray(0, at)));
}

export function toHex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

export function fromHex(hex: string): Uint8Array {
  const bytes = new Uint8Array(hex.length / 2);
  for (let i = 0; i < bytes.length; i++) bytes[i] = Number.parseInt(hex.slice(2 * i, 2 * i + 2), 16);
  return bytes;
}

export function corrupt(where: string, what: string, cause?: unknown): Failure {
  return new Failure('storage_corrupt', `read ${where}: wrong ${what}`, { cause });
}
