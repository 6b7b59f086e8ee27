/** Whether bytes are all zero: the test that thin disks live by, made to cost little on data that is not. */
import { BLOCK_BYTES } from './disk.ts';

const ZERO_BLOCK = new Uint8Array(BLOCK_BYTES);
const ZEROES = new Uint8Array(64 * 1024);

/** True when every byte is zero. Compares by memcmp, which leaves data at its first byte that differs. */
export function isZero(bytes: Uint8Array): boolean {
  if (bytes.length === BLOCK_BYTES) return bytes[0] === 0 && Buffer.compare(bytes, ZERO_BLOCK) === 0;
  for (let at = 0; at < bytes.length; at += ZEROES.length) {
    const part = bytes.subarray(at, at + ZEROES.length);
    if (Buffer.compare(part, ZEROES.subarray(0, part.length)) !== 0) return false;
  }
  return true;
}
