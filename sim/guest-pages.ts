/**
 * A guest disk's contents as blocks that are never changed once written, so that a frozen moment is a copy of a
 * list. An absent block is zero.
 */
import { BLOCK_BYTES, blockCount } from '#/disk/disk.ts';
import { chance, integerBelow } from '#/lib/random.ts';
import type { Random } from '#/lib/random.ts';
import { pick } from './chance.ts';

export type Page = Uint8Array | undefined;
export type DiskPages = { key: string; bytes: number; pages: Page[] };

const ZERO = new Uint8Array(BLOCK_BYTES);

export function emptyDisk(key: string, bytes: number): DiskPages {
  return { key, bytes, pages: Array.from<Page>({ length: blockCount(bytes) }) };
}

export function freezePages(disk: DiskPages): DiskPages {
  return { ...disk, pages: [...disk.pages] };
}

export function samePage(a: Page, b: Page): boolean {
  return a === b || Buffer.compare(a ?? ZERO, b ?? ZERO) === 0;
}

/** Blocks of `disk` that are not as in `base`; a disk that `base` lacks is compared with zeroes. */
export function differingBlocks(disk: DiskPages, base: DiskPages | undefined): number {
  let count = 0;
  for (let i = 0; i < disk.pages.length; i++) if (!samePage(disk.pages[i], base?.pages[i])) count++;
  return count;
}

/** True when the range reads as zeroes. */
export function isZeroIn(disk: DiskPages, offset: number, length: number): boolean {
  for (let at = offset; at < offset + length;) {
    const index = Math.floor(at / BLOCK_BYTES);
    const stop = Math.min(offset + length, (index + 1) * BLOCK_BYTES);
    const part = disk.pages[index]?.subarray(at - index * BLOCK_BYTES, stop - index * BLOCK_BYTES);
    if (part && Buffer.compare(part, ZERO.subarray(0, part.length)) !== 0) return false;
    at = stop;
  }
  return true;
}

export function readPages(disk: DiskPages, offset: number, target: Uint8Array): void {
  for (let at = offset; at < offset + target.length;) {
    const index = Math.floor(at / BLOCK_BYTES);
    const stop = Math.min(offset + target.length, (index + 1) * BLOCK_BYTES);
    const page = disk.pages[index] ?? ZERO;
    target.set(page.subarray(at - index * BLOCK_BYTES, stop - index * BLOCK_BYTES), at - offset);
    at = stop;
  }
}

/** What a guest may write over a block: noise, text, zeroes, the same again, one byte, another block's contents. */
export function nextPage(random: Random, disk: DiskPages, index: number): Page {
  const inDisk = Math.min(BLOCK_BYTES, disk.bytes - index * BLOCK_BYTES);
  const page = new Uint8Array(BLOCK_BYTES);
  switch (pick(random, ['noise', 'noise', 'noise', 'text', 'zero', 'same', 'byte', 'copy'] as const)) {
    case 'noise':
      noise(random, page);
      break;
    case 'text':
      page.fill(integerBelow(random, 256), integerBelow(random, BLOCK_BYTES));
      page[0] = integerBelow(random, 256);
      break;
    case 'zero':
      if (chance(random, 0.5)) return undefined;
      break;
    case 'same':
      return disk.pages[index];
    case 'byte':
      page.set(disk.pages[index] ?? ZERO);
      page[integerBelow(random, inDisk)] = integerBelow(random, 256);
      break;
    case 'copy':
      page.set(disk.pages[integerBelow(random, disk.pages.length)] ?? ZERO);
      break;
  }
  page.fill(0, inDisk);
  return page;
}

function noise(random: Random, page: Uint8Array): void {
  const words = new Uint32Array(page.buffer);
  let state = integerBelow(random, 2 ** 32) | 1;
  for (let i = 0; i < words.length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[i] = state;
  }
}
