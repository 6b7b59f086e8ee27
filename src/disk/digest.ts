/**
 * Digests of blocks: a universal hash keyed by a secret of the replica (docs/storage-format.md, section 1;
 * docs/decisions/0002-block-digest.md).
 *
 * A guest chooses its own bytes, but knows neither key nor digest: that two blocks of its choice have one digest has
 * a probability of at most 2^-127. The zero block's digest is 16 zero bytes by definition, so that the digests of a
 * thin disk are a thin array.
 */
import { strict as assert } from 'node:assert';
import { digestBatch } from './digest-memory.ts';
import { BLOCK_BYTES } from './disk.ts';

export const DIGEST_BYTES = 16;
/** The secret, as hex digits: 32 bytes. */
export const DIGEST_KEY_BYTES = 32;

/** The digests of the blocks that `bytes` consists of, one after another; a short last block counts as padded. */
export function digestBlocks(key: string, bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const digests = new Uint8Array(Math.ceil(bytes.length / BLOCK_BYTES) * DIGEST_BYTES);
  digestInto(key, bytes, (found, at) => {
    digests.set(found, at);
    return true;
  });
  return digests;
}

/** Whether the blocks that `bytes` consists of have these digests. */
export function haveDigests(key: string, bytes: Uint8Array, digests: Uint8Array): boolean {
  assert(digests.length === Math.ceil(bytes.length / BLOCK_BYTES) * DIGEST_BYTES);
  return digestInto(key, bytes, (found, at) => {
    for (let i = 0; i < found.length; i++) if (found[i] !== digests[at + i]) return false;
    return true;
  });
}

/** Gives `take` the digests of one batch after the other; false when it said so. */
function digestInto(
  key: string,
  bytes: Uint8Array,
  take: (found: Uint8Array, at: number) => boolean,
): boolean {
  for (let at = 0, from = 0; from < bytes.length; from = (at / DIGEST_BYTES) * BLOCK_BYTES) {
    const found = digestBatch(key, from === 0 ? bytes : bytes.subarray(from));
    if (!take(found, at)) return false;
    at += found.length;
  }
  return true;
}
