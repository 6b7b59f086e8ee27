/**
 * Lays the oldest delta file into the base, in place (docs/storage-format.md, section 9.3).
 *
 * Redo only: every point that is left has the delta file over the base, so that nobody sees a base half changed, and
 * a crash repeats it. Order: blocks, datasync, digests and nodes, datasync; then the caller writes the log record and
 * removes the file. Pure.
 */
import { DIGEST_BYTES } from '#/disk/digest.ts';
import { blockCount, BLOCK_BYTES } from '#/disk/disk.ts';
import type { File } from '#/disk/file-system.ts';
import { segmentPayload } from '#/wire/segment.ts';
import { writeNodes, writePages } from './base-arrays.ts';
import { corrupt } from './bytes.ts';
import type { DeltaFile } from './delta-file.ts';
import type { Locations, Nodes, ZeroRuns } from './delta-format.ts';
import { nodeOf } from './disk-tree.ts';
import { openIfThere } from './files.ts';
import { NODE_BLOCKS } from './limits.ts';
import { BASE_FILES, basePath, createBase, type StorePlace } from './store-place.ts';
import { WriteQueue } from './write-queue.ts';

/** Pages that are held in memory at a time: 4 MiB. */
const PAGES_AT_ONCE = 1024;

export async function advanceBase(
  place: StorePlace,
  delta: DeltaFile,
  isNeeded: (diskId: number) => boolean,
): Promise<void> {
  for (const [index, disk] of delta.header.disks.entries()) {
    if (!isNeeded(disk.id)) continue;
    await ensureBase(place, disk.id);
    const path = (name: 'base' | 'base.digests' | 'base.tree'): string =>
      basePath(place.directory, disk.id, name);
    {
      await using base = await place.files.open(path('base'), 'read-write');
      await writeBlocks(base, delta, await delta.locations(index));
      await punchRuns(base, await delta.zeros(index), BLOCK_BYTES);
      await base.datasync();
    }
    await using digests = await place.files.open(path('base.digests'), 'read-write');
    await using tree = await place.files.open(path('base.tree'), 'read-write');
    await punchRuns(digests, await delta.zeros(index), DIGEST_BYTES);
    await writeTree({ digests, tree }, delta, {
      nodes: await delta.nodes(index),
      blocks: blockCount(disk.bytes),
    });
    await digests.datasync();
    await tree.datasync();
  }
}

async function ensureBase(place: StorePlace, diskId: number): Promise<void> {
  const tree = await openIfThere(place.files, basePath(place.directory, diskId, 'base.tree'), 'read');
  if (tree === undefined) await createBase(place, diskId, BASE_FILES);
  else await tree[Symbol.asyncDispose]();
}

async function writeBlocks(
  base: File,
  delta: DeltaFile,
  { blocks, offsets, places }: Locations,
): Promise<void> {
  const order = Uint32Array.from(blocks.keys()).sort((a, b) => offsets[a]! - offsets[b]! || a - b);
  const queue = new WriteQueue(base);
  try {
    for (let from = 0; from < order.length;) {
      const offset = offsets[order[from]!]!;
      const payload = segmentPayload(await delta.segment(offset, Number.MAX_SAFE_INTEGER));
      while (from < order.length && offsets[order[from]!] === offset) {
        const first = order[from]!;
        let count = 1;
        while (isNext(first, order[from + count], count)) count++;
        const at = places[first]! * BLOCK_BYTES;
        await queue.write(blocks[first]! * BLOCK_BYTES, payload.subarray(at, at + count * BLOCK_BYTES));
        from += count;
      }
    }
    await queue.drain();
  } finally {
    await queue.settle();
  }

  /** Whether a row follows `count` rows behind the first one on disk and in the same segment. */
  function isNext(first: number, row: number | undefined, count: number): boolean {
    return (
      row !== undefined &&
      offsets[row] === offsets[first] &&
      blocks[row] === blocks[first]! + count &&
      places[row] === places[first]! + count
    );
  }
}

/** Makes holes where runs are zero, as far as the file goes. */
async function punchRuns(file: File, { first, count }: ZeroRuns, unitBytes: number): Promise<void> {
  const end = await file.bytes();
  for (const [index, start] of first.entries()) {
    const from = start * unitBytes;
    const length = Math.min(end, (start + count[index]!) * unitBytes) - from;
    if (length > 0) await file.punch(from, length);
  }
}

async function writeTree(
  files: { digests: File; tree: File },
  delta: DeltaFile,
  { nodes: table, blocks }: { nodes: Nodes; blocks: number },
): Promise<void> {
  for (let from = 0; from < table.nodes.length; from += PAGES_AT_ONCE) {
    const nodes = Array.from(table.nodes.subarray(from, from + PAGES_AT_ONCE));
    const level1 = table.digests.subarray(from * DIGEST_BYTES, (from + nodes.length) * DIGEST_BYTES);
    const withPage: number[] = [];
    const pages: Uint8Array[] = [];
    for (const [index, node] of nodes.entries()) {
      if (table.pages[from + index] === 0) continue;
      const page = await delta.page(table.pages[from + index]!);
      const expected = level1.subarray(index * DIGEST_BYTES, (index + 1) * DIGEST_BYTES);
      if (Buffer.compare(nodeOf(page, node, blocks), expected) !== 0) {
        throw corrupt(delta.path, `digests of blocks from ${node * NODE_BLOCKS}`);
      }
      withPage.push(node);
      pages.push(page);
    }
    await writePages(files.digests, withPage, pages);
    await writeNodes(files.tree, nodes, level1);
  }
}
