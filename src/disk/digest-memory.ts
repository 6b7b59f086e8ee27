/**
 * Where blocks are digested: memory of WebAssembly, into which blocks are copied, or in which they lie already.
 *
 * To copy a block costs as much as a third of its digest, so who receives blocks by the gigabyte takes memory for them
 * from here. Memory that threads share has an area of keys and digests for each of them, so that they do not meet.
 */
import { hkdfSync } from 'node:crypto';
import { strict as assert } from 'node:assert';
import { BLOCK_BYTES } from './disk.ts';
import {
  AREA_BYTES,
  BATCH_BLOCKS,
  DIGEST_WORDS,
  FACTOR_BYTES,
  nhModule,
  PLACE,
  WORD_KEY_BYTES,
} from './nh-module.ts';

const DIGEST_BYTES: number = 4 * DIGEST_WORDS;
/** What the secret is expanded with; another kind of digest would have another text. */
const PURPOSE = 'antipode block digest 1';
/** Expanded keys that are kept: one for each replica that a program has to do with at a time. */
const EXPANDED_MAX = 64;
const PAGE_BYTES = 65_536;
/** Blocks that are copied at a time: they stay in the processor's nearest cache. */
const COPIED_BLOCKS = 16;

/** What is used of the runtime's own; no library of types that is in use here declares it. */
type WasmMemory<Buffer extends ArrayBufferLike> = { readonly buffer: Buffer };
type MemoryLimits = { initial: number; maximum: number; shared: boolean };
declare const WebAssembly: {
  Memory: new (limits: MemoryLimits) => WasmMemory<ArrayBufferLike>;
  Module: new (bytes: Uint8Array) => object;
  Instance: new (module: object, imports: object) => { exports: Exports };
};
type Exports = { digest: (area: number, blocks: number, count: number) => void };

/** Memory of all threads; a structured clone of it is the same memory. */
export type SharedDigestMemory = WasmMemory<SharedArrayBuffer>;

/** Of this thread, by the buffers of their memory. */
const hashers = new WeakMap<ArrayBufferLike, Hasher>();
/** The one for blocks of other memory, which are copied. */
let copier: Hasher | undefined;

/**
 * The digests, until the next call, of the blocks that `bytes` begins with: of as many as are digested at once. A
 * short last block counts as padded with zeroes.
 */
export function digestBatch(key: string, bytes: Uint8Array): Uint8Array {
  const wholeBlocks = Math.floor(bytes.length / BLOCK_BYTES);
  const hasher = wholeBlocks > 0 ? hashers.get(bytes.buffer) : undefined;
  if (hasher !== undefined) {
    return hasher.digest(key, bytes.byteOffset, Math.min(wholeBlocks, BATCH_BLOCKS));
  }
  copier ??= new Hasher(newMemory(AREA_BYTES + COPIED_BLOCKS * BLOCK_BYTES, false), 0);
  return copier.digestCopy(key, bytes.subarray(0, COPIED_BLOCKS * BLOCK_BYTES));
}

/** Whether these bytes are known to begin where a page of the processor's memory does. */
export function beginsAtPage(bytes: Uint8Array): boolean {
  return hashers.has(bytes.buffer) && bytes.byteOffset % BLOCK_BYTES === 0;
}

/**
 * `bytes` of memory whose blocks are digested where they lie, by this thread. Ordinary memory where the runtime has no
 * address space for more of the other: each takes gigabytes of it, whatever its length.
 */
export function digestMemory(bytes: number): Uint8Array<ArrayBuffer> {
  let memory: WasmMemory<ArrayBuffer>;
  try {
    memory = newMemory(AREA_BYTES + bytes, false) as WasmMemory<ArrayBuffer>;
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return new Uint8Array(bytes);
  }
  hashers.set(memory.buffer, new Hasher(memory, 0));
  return new Uint8Array(memory.buffer, AREA_BYTES, bytes);
}

/** The same for `threads`, each of which adopts the memory. */
export function sharedDigestMemory(
  bytes: number,
  threads: number,
): { memory: SharedDigestMemory; bytes: Uint8Array<SharedArrayBuffer> } {
  const memory = newMemory(threads * AREA_BYTES + bytes, true) as SharedDigestMemory;
  return { memory, bytes: new Uint8Array(memory.buffer, threads * AREA_BYTES, bytes) };
}

/** From now on this thread, the one of this number, digests blocks in the memory where they lie. */
export function adoptDigestMemory(memory: SharedDigestMemory, thread: number): SharedArrayBuffer {
  hashers.set(memory.buffer, new Hasher(memory, thread * AREA_BYTES));
  return memory.buffer;
}

function newMemory(bytes: number, shared: boolean): WasmMemory<ArrayBufferLike> {
  const pages = Math.ceil(bytes / PAGE_BYTES);
  return new WebAssembly.Memory({ initial: pages, maximum: pages, shared });
}

/** The module over one memory, and the key that is in its area. */
class Hasher {
  readonly #digest: Exports['digest'];
  readonly #memory: Uint8Array;
  readonly #area: number;
  readonly #found: Uint8Array;
  #key = '';

  constructor(memory: WasmMemory<ArrayBufferLike>, area: number) {
    const { buffer } = memory;
    const isShared = buffer instanceof SharedArrayBuffer;
    const module = new WebAssembly.Module(nhModule({ pages: buffer.byteLength / PAGE_BYTES, isShared }));
    this.#digest = new WebAssembly.Instance(module, { host: { memory } }).exports.digest;
    this.#memory = new Uint8Array(buffer);
    this.#area = area;
    this.#found = this.#memory.subarray(area + PLACE.digests, area + AREA_BYTES);
  }

  /** The digests of blocks in its memory. */
  digest(key: string, at: number, count: number): Uint8Array {
    this.#use(key);
    this.#digest(this.#area, at, count);
    return this.#found.subarray(0, count * DIGEST_BYTES);
  }

  /** The digests of blocks, of which a copy is put behind the area. */
  digestCopy(key: string, bytes: Uint8Array): Uint8Array {
    const at = this.#area + AREA_BYTES;
    const count = Math.ceil(bytes.length / BLOCK_BYTES);
    this.#memory.set(bytes, at);
    this.#memory.fill(0, at + bytes.length, at + count * BLOCK_BYTES);
    return this.digest(key, at, count);
  }

  #use(key: string): void {
    if (this.#key === key) return;
    const expanded = expandedKey(key);
    this.#memory.set(expanded.subarray(0, WORD_KEY_BYTES), this.#area + PLACE.wordKeys);
    this.#memory.set(expanded.subarray(WORD_KEY_BYTES), this.#area + PLACE.factors);
    this.#key = key;
  }
}

const expandedKeys = new Map<string, Uint8Array>();

function expandedKey(key: string): Uint8Array {
  const known = expandedKeys.get(key);
  if (known !== undefined) return known;
  const expanded = expand(key);
  if (expandedKeys.size >= EXPANDED_MAX) expandedKeys.clear();
  expandedKeys.set(key, expanded);
  return expanded;
}

/** The keys of all passes and the factors, from the replica's secret, by HKDF with SHA-256 (RFC 5869). */
function expand(key: string): Uint8Array {
  assert(/^[0-9a-f]{64}$/.test(key), 'digest key of another form');
  const bytes = WORD_KEY_BYTES + DIGEST_WORDS * FACTOR_BYTES;
  return new Uint8Array(hkdfSync('sha256', Buffer.from(key, 'hex'), new Uint8Array(0), PURPOSE, bytes));
}
