/**
 * What the disks held when a tracking began that is older than any point of the replica: a VM that was recovered from
 * a point of another replica is tracked from before its first write, and that point's digests say what it was then
 * (docs/failback.md).
 *
 * The first cycle towards a replica whose digests have the same key then looks at what was written since, and at the
 * blocks in which the replica and that point differ. All others are at the source what the point has, and in the
 * replica what the point has: the digests prove the one, the tracking the other (I4). Pure.
 */
import { DIGEST_BYTES } from '#/disk/digest.ts';
import { levelCount } from '#/disk/digest-tree.ts';
import { BLOCK_BYTES } from '#/disk/disk.ts';
import { groupLength, isZero, type DigestRecord } from './digest-record.ts';
import { GROUP_BLOCKS } from './limits.ts';
import type { Range } from './ranges.ts';
import type { ReplicaRecord } from './replica-record.ts';

/** Where a baseline is kept, if there is one; asked in every cycle, so it is known without looking again. */
export interface BaselineStore {
  /** The key of its digests. */
  digestKey(): Promise<string | undefined>;
  /** A whole record of that point, with its tracking. */
  open(): Promise<ReplicaRecord | undefined>;
  /** It is of no more use. `tracking` is what goes on all the same, and must not be taken away with it. */
  drop(tracking: string | undefined): Promise<void>;
}

/** Level-1 nodes below one node of level 2. */
const PAGE_NODES = GROUP_BLOCKS;
/** Copied together: 256 KiB of digests. */
const COPY_GROUPS = 64;

/** Where two records of the same length differ: whole blocks, ascending. Throws storage_corrupt. */
export async function* differing(a: DigestRecord, b: DigestRecord): AsyncGenerator<Range> {
  let last: Range | undefined;
  for await (const group of differingGroups(a, b)) {
    const [ours, theirs] = [await a.group(group), await b.group(group)];
    for (let index = 0; index < groupLength(group, a.blocks); index++) {
      if (isEqualAt(ours, theirs, index)) continue;
      const offset = (group * GROUP_BLOCKS + index) * BLOCK_BYTES;
      if (last !== undefined && last.offset + last.length === offset) {
        last.length += BLOCK_BYTES;
        continue;
      }
      if (last !== undefined) yield last;
      last = { offset, length: BLOCK_BYTES };
    }
  }
  if (last !== undefined) yield last;
}

/** Makes an empty record equal to another one of the same length. Throws storage_corrupt. */
export async function copyDigests(from: DigestRecord, to: DigestRecord): Promise<void> {
  const groups = levelCount(from.blocks, 1);
  for (let at = 0; at < groups; at += COPY_GROUPS) {
    const parts: Uint8Array[] = [];
    for (let group = at; group < Math.min(groups, at + COPY_GROUPS); group++) {
      parts.push(await from.group(group));
    }
    const digests = Buffer.concat(parts);
    if (!isZero(digests)) await to.writeGroups(at, digests);
  }
}

async function* differingGroups(a: DigestRecord, b: DigestRecord): AsyncGenerator<number> {
  const groups = levelCount(a.blocks, 1);
  const [ours, theirs] = [a.level2(), b.level2()];
  for (let page = 0; page * PAGE_NODES < groups; page++) {
    if (isEqualAt(ours, theirs, page)) continue;
    const [ourNodes, theirNodes] = [await a.page(page), await b.page(page)];
    for (let index = 0; index < Math.min(PAGE_NODES, groups - page * PAGE_NODES); index++) {
      if (!isEqualAt(ourNodes, theirNodes, index)) yield page * PAGE_NODES + index;
    }
  }
}

function isEqualAt(a: Uint8Array, b: Uint8Array, index: number): boolean {
  const [from, to] = [index * DIGEST_BYTES, (index + 1) * DIGEST_BYTES];
  return Buffer.compare(a.subarray(from, to), b.subarray(from, to)) === 0;
}
