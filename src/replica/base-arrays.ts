/** Writes pages of digests and nodes of level 1 into the files of a base, neighbours together. Pure. */
import { DIGEST_BYTES } from '#/disk/digest.ts';
import type { File } from '#/disk/file-system.ts';
import { PAGE_BYTES } from './limits.ts';
import { WriteQueue } from './write-queue.ts';

/** 1 MiB of pages in one write. */
const PAGES_TOGETHER = 256;

/** Writes pages by node, which ascend. A page of zeroes becomes a hole. Nothing is durable yet. */
export async function writePages(
  file: File,
  nodes: readonly number[],
  pages: readonly Uint8Array[],
): Promise<void> {
  const queue = new WriteQueue(file);
  try {
    for (const { from, end } of neighbours(nodes, (index) => isZeroPage(pages[index]!))) {
      const offset = nodes[from]! * PAGE_BYTES;
      if (isZeroPage(pages[from]!)) {
        await file.punch(offset, (end - from) * PAGE_BYTES);
        continue;
      }
      const bytes = new Uint8Array((end - from) * PAGE_BYTES);
      for (let i = from; i < end; i++) bytes.set(pages[i]!, (i - from) * PAGE_BYTES);
      await queue.write(offset, bytes);
    }
    await queue.drain();
  } finally {
    await queue.settle();
  }
}

/** Writes digests of nodes, which ascend. Nothing is durable yet. */
export async function writeNodes(file: File, nodes: readonly number[], digests: Uint8Array): Promise<void> {
  for (const { from, end } of neighbours(nodes, () => false)) {
    await file.write(nodes[from]! * DIGEST_BYTES, digests.subarray(from * DIGEST_BYTES, end * DIGEST_BYTES));
  }
}

function* neighbours(
  nodes: readonly number[],
  kindOf: (index: number) => boolean,
): Generator<{ from: number; end: number }> {
  for (let from = 0; from < nodes.length;) {
    let end = from + 1;
    while (
      end < nodes.length &&
      end - from < PAGES_TOGETHER &&
      nodes[end] === nodes[end - 1]! + 1 &&
      kindOf(end) === kindOf(from)
    ) {
      end++;
    }
    yield { from, end };
    from = end;
  }
}

export function isZeroPage(page: Uint8Array): boolean {
  return Buffer.compare(page, ZERO_PAGE) === 0;
}

const ZERO_PAGE = new Uint8Array(PAGE_BYTES);
