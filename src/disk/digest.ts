/**
 * Digests of blocks: a universal hash keyed by a secret of the replica (docs/storage-format.md, section 1;
 * docs/decisions/0002-block-digest.md).
 *
 * A guest chooses its own bytes, but knows neither key nor digest: that two blocks of its choice have one digest has
 * a probability of at most 2^-127. The zero block's digest is 16 zero bytes by definition, so that the digests of a
 * thin disk are a thin array.
 */
import { hkdfSync } from 'node:crypto';
import { strict as assert } from 'node:assert';
import { BLOCK_BYTES } from './disk.ts';
import { BATCH_BLOCKS, DIGEST_WORDS, FACTOR_BYTES, nhModule, PLACE, WORD_KEY_BYTES } from './nh-module.ts';

export const DIGEST_BYTES = 16;
/** The secret, as hex digits: 32 bytes. */
export const DIGEST_KEY_BYTES = 32;
/** What the secret is expanded with; another kind of digest would have another text. */
const PURPOSE = 'antipode block digest 1';
/** Expanded keys that are kept: one for each replica that a program has to do with at a time. */
const EXPANDED_MAX = 64;
const BATCH_BYTES: number = BATCH_BLOCKS * BLOCK_BYTES;

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
  hasher ??= new Hasher();
  hasher.use(key);
  for (let from = 0, at = 0; from < bytes.length; from += BATCH_BYTES, at += BATCH_BLOCKS * DIGEST_BYTES) {
    if (!take(hasher.digest(bytes.subarray(from, from + BATCH_BYTES)), at)) return false;
  }
  return true;
}

/** One for each thread: the module, its memory, and the key that is in it. */
let hasher: Hasher | undefined;

/** What is used of the runtime's own; no library of types that is in use here declares it. */
declare const WebAssembly: {
  Module: new (bytes: Uint8Array) => object;
  Instance: new (module: object) => { exports: Exports };
};
type Exports = { memory: { buffer: ArrayBuffer }; digest: (count: number) => void };

class Hasher {
  readonly #digest: (count: number) => void;
  readonly #memory: Uint8Array;
  readonly #expanded = new Map<string, Uint8Array>();
  #key = '';

  constructor() {
    const { exports } = new WebAssembly.Instance(new WebAssembly.Module(nhModule()));
    this.#memory = new Uint8Array(exports.memory.buffer);
    this.#digest = exports.digest;
  }

  use(key: string): void {
    if (this.#key === key) return;
    const expanded = this.#expanded.get(key) ?? expand(key);
    if (this.#expanded.size >= EXPANDED_MAX) this.#expanded.clear();
    this.#expanded.set(key, expanded);
    this.#memory.set(expanded.subarray(0, WORD_KEY_BYTES), PLACE.wordKeys);
    this.#memory.set(expanded.subarray(WORD_KEY_BYTES), PLACE.factors);
    this.#key = key;
  }

  /** The digests of at most BATCH_BLOCKS blocks, until the next call. */
  digest(bytes: Uint8Array): Uint8Array {
    const count = Math.ceil(bytes.length / BLOCK_BYTES);
    this.#memory.set(bytes, PLACE.blocks);
    this.#memory.fill(0, PLACE.blocks + bytes.length, PLACE.blocks + count * BLOCK_BYTES);
    this.#digest(count);
    return this.#memory.subarray(PLACE.digests, PLACE.digests + count * DIGEST_BYTES);
  }
}

/** The keys of all passes and the factors, from the replica's secret, by HKDF with SHA-256 (RFC 5869). */
function expand(key: string): Uint8Array {
  assert(/^[0-9a-f]{64}$/.test(key), 'digest key of another form');
  const bytes = WORD_KEY_BYTES + DIGEST_WORDS * FACTOR_BYTES;
  return new Uint8Array(hkdfSync('sha256', Buffer.from(key, 'hex'), new Uint8Array(0), PURPOSE, bytes));
}
