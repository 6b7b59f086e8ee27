/**
 * Digests of blocks (docs/storage-format.md, section 1): SHA-256 of the 4096 bytes, cut to 16.
 *
 * The zero block's digest is 16 zero bytes by definition, so that the digests of a thin disk are a thin array. A guest
 * chooses its own bytes, therefore the hash is cryptographic. Pure.
 */
import { hash } from 'node:crypto';
import { BLOCK_BYTES } from './disk.ts';
import { isZero } from './is-zero.ts';

export const DIGEST_BYTES = 16;

/** The digests of the blocks that `bytes` consists of, one after another; a short last block counts as padded. */
export function digestBlocks(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const digests = new Uint8Array(Math.ceil(bytes.length / BLOCK_BYTES) * DIGEST_BYTES);
  for (let at = 0, digest = 0; at < bytes.length; at += BLOCK_BYTES, digest += DIGEST_BYTES) {
    writeBlockDigest(bytes.subarray(at, at + BLOCK_BYTES), digests, digest);
  }
  return digests;
}

/** Writes the digest of one block to `target` at `at`; false when the block, and so the digest, is zero. */
export function writeBlockDigest(block: Uint8Array, target: Uint8Array, at: number): boolean {
  if (isZero(block)) {
    target.fill(0, at, at + DIGEST_BYTES);
    return false;
  }
  // As a string of bytes: making a Buffer for each of a million digests costs a third of the time.
  const digest = hash('sha256', block.length === BLOCK_BYTES ? block : padded(block), 'latin1');
  for (let i = 0; i < DIGEST_BYTES; i++) target[at + i] = digest.charCodeAt(i);
  return true;
}

function padded(block: Uint8Array): Uint8Array {
  const whole = new Uint8Array(BLOCK_BYTES);
  whole.set(block);
  return whole;
}
