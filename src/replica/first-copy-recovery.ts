/**
 * Brings the base of a first copy and its digests together after a crash or a failed write: what lies below marked
 * nodes is read, written back, and digested (docs/storage-format.md, section 5.3).
 *
 * It is written back because a failed sync may have left bytes in the page cache that are on no disk and that the
 * next sync would not write. It can be repeated at any step. Pure.
 */
import { blockCount, BLOCK_BYTES } from '#/disk/disk.ts';
import { DIGEST_BYTES, digestBlocks } from '#/disk/digest.ts';
import { levelCount } from '#/disk/digest-tree.ts';
import type { File } from '#/disk/file-system.ts';
import { isZero } from '#/disk/is-zero.ts';
import { writeNodes, writePages } from './base-arrays.ts';
import { nodeOf } from './disk-tree.ts';
import { fillSparse, openIfThere } from './files.ts';
import { MARK_NODES, NODE_BLOCKS, PAGE_BYTES } from './limits.ts';
import type { DiskEntry } from './log-record.ts';
import { basePath, type BaseFile, type StorePlace } from './store-place.ts';

const NODE_DATA_BYTES: number = NODE_BLOCKS * BLOCK_BYTES;
/** Marks that are read at once: those of 64 GiB of disk. */
const MARKS_READ = 65_536;

export async function recoverFirstCopy(place: StorePlace, disk: DiskEntry): Promise<void> {
  const path = (name: BaseFile): string => basePath(place.directory, disk.id, name);
  await using base = await place.files.open(path('base'), 'read-write');
  await using digests = await place.files.open(path('base.digests'), 'read-write');
  await using tree = await place.files.open(path('base.tree'), 'read-write');
  const blocks = blockCount(disk.bytes);
  await cut(base, blocks * BLOCK_BYTES);
  await cut(digests, blocks * DIGEST_BYTES);
  await cut(tree, levelCount(blocks, 1) * DIGEST_BYTES);
  await using marks = await openIfThere(place.files, path('base.marks'), 'read-write');
  if (marks === undefined) return;
  const markBytes = await marks.bytes();
  for (let at = 0; at < markBytes; at += MARKS_READ) {
    const some = new Uint8Array(Math.min(MARKS_READ, markBytes - at));
    await fillSparse(marks, at, some);
    for (let from = 0; from < some.length; from += MARK_NODES) {
      const group = some.subarray(from, from + MARK_NODES);
      if (isZero(group)) continue;
      await redigest({ base, digests, tree, blocks, digestKey: place.digestKey }, at + from, group);
      await marks.write(at + from, new Uint8Array(group.length));
    }
  }
  await marks.datasync();
}

type Files = { base: File; digests: File; tree: File; blocks: number; digestKey: string };

async function redigest(files: Files, first: number, marks: Uint8Array): Promise<void> {
  const { base, digests, tree, blocks } = files;
  const nodes: number[] = [];
  const pages: Uint8Array[] = [];
  const end = levelCount(blocks, 1);
  for (const [index, mark] of marks.entries()) {
    if (mark === 0 || first + index >= end) continue;
    nodes.push(first + index);
    pages.push(await rewriteNode(files, first + index));
  }
  await base.datasync();
  const level1 = new Uint8Array(nodes.length * DIGEST_BYTES);
  for (const [index, page] of pages.entries()) {
    level1.set(nodeOf(page, nodes[index]!, blocks), index * DIGEST_BYTES);
  }
  await writePages(digests, nodes, pages);
  await writeNodes(tree, nodes, level1);
  await digests.datasync();
  await tree.datasync();
}

/** Reads the blocks below a node and writes them back; returns their page of digests. */
async function rewriteNode({ base, blocks, digestKey }: Files, node: number): Promise<Uint8Array> {
  const page = new Uint8Array(PAGE_BYTES);
  const count = Math.min(NODE_BLOCKS, blocks - node * NODE_BLOCKS);
  const data = new Uint8Array(count * BLOCK_BYTES);
  const offset = node * NODE_DATA_BYTES;
  await fillSparse(base, offset, data);
  page.set(digestBlocks(digestKey, data));
  for (let from = 0; from < count;) {
    const isEmpty = isZeroBlock(data, from);
    let end = from + 1;
    while (end < count && isZeroBlock(data, end) === isEmpty) end++;
    const at = offset + from * BLOCK_BYTES;
    if (isEmpty) await base.punch(at, (end - from) * BLOCK_BYTES);
    else await base.write(at, data.subarray(from * BLOCK_BYTES, end * BLOCK_BYTES));
    from = end;
  }
  return page;
}

function isZeroBlock(data: Uint8Array, index: number): boolean {
  return isZero(data.subarray(index * BLOCK_BYTES, (index + 1) * BLOCK_BYTES));
}

async function cut(file: File, bytes: number): Promise<void> {
  if ((await file.bytes()) > bytes) await file.truncate(bytes);
}
