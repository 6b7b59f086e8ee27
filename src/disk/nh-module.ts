/**
 * The WebAssembly module that digests blocks (src/disk/digest.ts has the definition), put together from its
 * instructions: 128-bit vectors multiply what JavaScript has no fast way to, and a call digests many blocks.
 *
 * It works in memory that is imported: an area with the keys and room for the digests that come out, and the blocks,
 * wherever they lie. `digest(area, blocks, count)` digests `count` blocks; a block of zeroes gets a digest of zero.
 * The opcodes are those of the WebAssembly 2.0 specification, chapter 5; the flag of shared memory that of its
 * proposal for threads.
 */
import { BLOCK_BYTES } from './disk.ts';

export const PASSES = 4;
/** One step of the inner loop: two vectors of four words, paired word by word. */
export const STRIDE_BYTES = 32;
/** The words that are added to the block's: pass p starts p strides further on. */
export const WORD_KEY_BYTES: number = BLOCK_BYTES + (PASSES - 1) * STRIDE_BYTES;
/** For each 32 bits of the digest an addend and a factor for each of the passes' 8 words, 64 bits each. */
export const FACTOR_BYTES = 72;
export const DIGEST_WORDS = 4;
/** Blocks of one call at most: as many as there is room for digests. */
export const BATCH_BLOCKS = 256;

/** Where things are in an area. */
export const PLACE = { wordKeys: 0, factors: 8192, digests: 12_288 } as const;
export const AREA_BYTES = 16_384;
/** Strides in one turn of the inner loop. */
const UNROLLED = 2;

type Code = readonly number[];

const I32 = 0x7f;
const I64 = 0x7e;
const V128 = 0x7b;
const BLOCK: Code = [0x02, 0x40];
const LOOP: Code = [0x03, 0x40];
const END: Code = [0x0b];
const I32_ADD: Code = [0x6a];
const I32_SHL: Code = [0x74];
const I32_LT_U: Code = [0x49];
const I32_GE_U: Code = [0x4f];
const I32_WRAP_I64: Code = [0xa7];
const I64_ADD: Code = [0x7c];
const I64_MUL: Code = [0x7e];
const I64_AND: Code = [0x83];
const I64_SHR_U: Code = [0x88];
const SELECT: Code = [0x1b];
const V128_OR: Code = vector(0x50);
const V128_ANY_TRUE: Code = vector(0x53);
const I32X4_ADD: Code = vector(0xae);
const I64X2_ADD: Code = vector(0xce);
const I64X2_EXTMUL_LOW_I32X4_U: Code = vector(0xde);
const I64X2_EXTMUL_HIGH_I32X4_U: Code = vector(0xdf);
const V128_ZERO: Code = [...vector(0x0c), ...Array.from({ length: 16 }, () => 0)];

/** The function's parameters, then its locals in the order of `LOCALS`. */
const AREA = 0;
const BLOCK_AT = 1;
const COUNT = 2;
const BLOCK_END = 3;
const KEY_AT = 4;
const DIGEST_AT = 5;
const STOP_AT = 6;
const SUM64 = 7;
const SUMS = 11;
const FIRST = 15;
const SECOND = 16;
const FIRST_KEYED = 17;
const SECOND_KEYED = 18;
const ANY = 19;
const LOCALS: Code = [3, 4, I32, 4, I64, 9, V128];

const MAGIC_AND_VERSION: Code = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00];

/** What the memory that is imported has: its pages of 64 KiB, and whether several threads see it. */
export type NhMemory = { pages: number; isShared: boolean };

/** The module's bytes: imports `memory` from `host`, exports `digest(area: i32, blocks: i32, count: i32)`. */
export function nhModule({ pages, isShared }: NhMemory): Uint8Array<ArrayBuffer> {
  const code = [...LOCALS, ...body()];
  const limits = [isShared ? 3 : 1, ...unsigned(pages), ...unsigned(pages)];
  const name = (text: string): Code => [text.length, ...new TextEncoder().encode(text)];
  return Uint8Array.from([
    ...MAGIC_AND_VERSION,
    ...section(1, [1, 0x60, 3, I32, I32, I32, 0]),
    ...section(2, [1, ...name('host'), ...name('memory'), 2, ...limits]),
    ...section(3, [1, 0]),
    ...section(7, [1, ...name('digest'), 0, 0]),
    ...section(10, [1, ...unsigned(code.length), ...code]),
  ]);
}

function body(): Code {
  return [
    line(get(COUNT), i32(Math.log2(BLOCK_BYTES)), I32_SHL, get(BLOCK_AT), I32_ADD, set(STOP_AT)),
    line(get(AREA), i32(PLACE.digests), I32_ADD, set(DIGEST_AT)),
    line(BLOCK, LOOP, get(BLOCK_AT), get(STOP_AT), I32_GE_U, branchIf(1)),
    line(V128_ZERO, set(ANY), ...passes((pass) => [V128_ZERO, set(SUMS + pass)])),
    line(get(AREA), i32(PLACE.wordKeys), I32_ADD, set(KEY_AT)),
    line(get(BLOCK_AT), i32(BLOCK_BYTES), I32_ADD, set(BLOCK_END)),
    line(LOOP, ...strides(), get(BLOCK_AT), get(BLOCK_END), I32_LT_U, branchIf(0), END),
    ...passes((pass) => [lane(pass, 0), lane(pass, 1), I64_ADD, set(SUM64 + pass)]),
    ...digestWords(),
    line(get(DIGEST_AT), i32(4 * DIGEST_WORDS), I32_ADD, set(DIGEST_AT)),
    line(branch(0), END, END, END),
  ].flat();
}

/** NH: sum over the pairs of words of (first + its key) * (second + its key), in every pass with other keys. */
function strides(): Code[] {
  const code: Code[] = [];
  for (let stride = 0; stride < UNROLLED; stride++) {
    const at = stride * STRIDE_BYTES;
    code.push(get(BLOCK_AT), load(at), set(FIRST), get(BLOCK_AT), load(at + 16), set(SECOND));
    code.push(get(ANY), get(FIRST), V128_OR, get(SECOND), V128_OR, set(ANY));
    code.push(
      ...passes((pass) => {
        const key = at + pass * STRIDE_BYTES;
        return [
          line(get(FIRST), get(KEY_AT), load(key), I32X4_ADD, set(FIRST_KEYED)),
          line(get(SECOND), get(KEY_AT), load(key + 16), I32X4_ADD, set(SECOND_KEYED)),
          line(get(SUMS + pass), get(FIRST_KEYED), get(SECOND_KEYED), I64X2_EXTMUL_LOW_I32X4_U, I64X2_ADD),
          line(get(FIRST_KEYED), get(SECOND_KEYED), I64X2_EXTMUL_HIGH_I32X4_U, I64X2_ADD, set(SUMS + pass)),
        ];
      }),
    );
  }
  const advance = i32(UNROLLED * STRIDE_BYTES);
  code.push(get(KEY_AT), advance, I32_ADD, set(KEY_AT), get(BLOCK_AT), advance, I32_ADD, set(BLOCK_AT));
  return code;
}

/** Multilinear: the upper half of an addend plus the passes' words, each times a factor. Zero for a zero block. */
function digestWords(): Code[] {
  const code: Code[] = [];
  for (let word = 0; word < DIGEST_WORDS; word++) {
    const factors = PLACE.factors + word * FACTOR_BYTES;
    code.push(get(DIGEST_AT), get(AREA), load64(factors));
    for (let half = 0; half < 2 * PASSES; half++) {
      const sum = get(SUM64 + (half >> 1));
      const part = half % 2 === 0 ? [sum, i64(0xffff_ffff), I64_AND] : [sum, i64(32), I64_SHR_U];
      code.push(...part, get(AREA), load64(factors + 8 + half * 8), I64_MUL, I64_ADD);
    }
    code.push(i64(32), I64_SHR_U, I32_WRAP_I64, i32(0), get(ANY), V128_ANY_TRUE, SELECT, store32(word * 4));
  }
  return code;
}

function line(...codes: Code[]): Code {
  return codes.flat();
}

function passes(code: (pass: number) => Code[]): Code[] {
  return Array.from({ length: PASSES }, (_, pass) => code(pass)).flat();
}

function lane(pass: number, index: number): Code {
  return [...get(SUMS + pass), ...vector(0x1d), index];
}

function get(local: number): Code {
  return [0x20, local];
}

function set(local: number): Code {
  return [0x21, local];
}

function i32(value: number): Code {
  return [0x41, ...signed(value)];
}

function i64(value: number): Code {
  return [0x42, ...signed(value)];
}

/** Loads name an alignment, as a power of two, and an offset. */
function load(offset: number): Code {
  return [...vector(0x00), 4, ...unsigned(offset)];
}

function load64(offset: number): Code {
  return [0x29, 3, ...unsigned(offset)];
}

function store32(offset: number): Code {
  return [0x36, 2, ...unsigned(offset)];
}

function branch(depth: number): Code {
  return [0x0c, depth];
}

function branchIf(depth: number): Code {
  return [0x0d, depth];
}

function vector(opcode: number): Code {
  return [0xfd, ...unsigned(opcode)];
}

function section(id: number, content: Code): Code {
  return [id, ...unsigned(content.length), ...content];
}

/** LEB128. */
function unsigned(value: number): Code {
  const bytes: number[] = [];
  let left = value;
  while (left >= 128) {
    bytes.push((left % 128) + 128);
    left = Math.floor(left / 128);
  }
  return [...bytes, left];
}

/** Signed LEB128 of a number that is not negative: one more byte where the last one's sign bit would be set. */
function signed(value: number): Code {
  const bytes = [...unsigned(value)];
  const last = bytes.at(-1)!;
  if (last < 64) return bytes;
  bytes[bytes.length - 1] = last + 128;
  return [...bytes, 0];
}
