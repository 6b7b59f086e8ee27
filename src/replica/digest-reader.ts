/** Reads a range of nodes of a disk's digest tree, of any level. Pure. */
import { DIGEST_BYTES } from '#/disk/digest.ts';
import type { DiskState } from './disk-state.ts';
import { NODE_BLOCKS } from './limits.ts';

/** 16 bytes each; the range must lie in the level. Level 0 is read a page at a time. */
export async function readDigests(
  state: DiskState,
  { level, first, count }: { level: number; first: number; count: number },
): Promise<Uint8Array> {
  if (level > 0) return state.tree.nodes(level, first, count);
  const digests = new Uint8Array(count * DIGEST_BYTES);
  const end = first + count;
  for (let at = first; at < end;) {
    const node = Math.floor(at / NODE_BLOCKS);
    const stop = Math.min(end, (node + 1) * NODE_BLOCKS);
    const page = await state.page(node);
    const from = at - node * NODE_BLOCKS;
    digests.set(
      page.subarray(from * DIGEST_BYTES, (from + stop - at) * DIGEST_BYTES),
      (at - first) * DIGEST_BYTES,
    );
    at = stop;
  }
  return digests;
}
