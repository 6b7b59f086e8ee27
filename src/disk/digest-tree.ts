/**
 * The digest tree over a disk's block digests (docs/storage-format.md, section 1).
 *
 * Level 0 is the array of block digests, 16 bytes each. A node of level n + 1 is the digest of the up to
 * TREE_FANOUT nodes of level n below it, laid end to end; when all of those are zero, the node is zero, so that a
 * thin disk has a thin tree. The root is the one node of the highest level. Pure.
 */
import { hash } from 'node:crypto';
import { isZero } from './is-zero.ts';

export const TREE_FANOUT = 256;
const DIGEST_BYTES = 16;

/** SHA-256 cut to 16 bytes of the children laid end to end; zero when all children are zero. */
export function parentDigest(children: Uint8Array): Uint8Array {
  if (isZero(children)) return new Uint8Array(DIGEST_BYTES);
  return Uint8Array.from(hash('sha256', children, 'buffer').subarray(0, DIGEST_BYTES));
}

/** Nodes at `level` over `blocks` blocks. */
export function levelCount(blocks: number, level: number): number {
  return Math.max(1, Math.ceil(blocks / TREE_FANOUT ** level));
}

/** The level whose only node is the root; at least 1. */
export function rootLevel(blocks: number): number {
  let level = 1;
  while (levelCount(blocks, level) > 1) level++;
  return level;
}

/** The next level's nodes over a whole level, or over a part of it that starts at a multiple of TREE_FANOUT. */
export function nextLevel(nodes: Uint8Array): Uint8Array {
  const span = TREE_FANOUT * DIGEST_BYTES;
  const parents = new Uint8Array(Math.max(1, Math.ceil(nodes.length / span)) * DIGEST_BYTES);
  for (let at = 0, parent = 0; at < nodes.length; at += span, parent += DIGEST_BYTES) {
    parents.set(parentDigest(nodes.subarray(at, at + span)), parent);
  }
  return parents;
}

/** The root, as 32 hex digits, from all nodes of level 1. */
export function rootFromLevel1(level1: Uint8Array): string {
  let nodes = level1;
  while (nodes.length > DIGEST_BYTES) nodes = nextLevel(nodes);
  return Array.from(nodes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
