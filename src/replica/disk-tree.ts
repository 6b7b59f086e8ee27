/**
 * The digest tree of one disk from level 1 up, in memory: 16 bytes for each MiB of disk. Never changed: a change
 * makes another tree. Pure.
 */
import { DIGEST_BYTES } from '#/disk/digest.ts';
import { levelCount, nextLevel, parentDigest, TREE_FANOUT } from '#/disk/digest-tree.ts';
import { toHex } from './bytes.ts';
import { NODE_BLOCKS } from './limits.ts';

/** Nodes of level 1 that change, in any order, with their digests one after another. */
export type NodeChanges = { nodes: ArrayLike<number>; digests: Uint8Array };

export class DiskTree {
  readonly blocks: number;
  /** Index 0 is level 1; the last has one node. */
  readonly #levels: Uint8Array[];

  static empty(blocks: number): DiskTree {
    return DiskTree.fromLevel1(blocks, new Uint8Array(levelCount(blocks, 1) * DIGEST_BYTES));
  }

  static fromLevel1(blocks: number, level1: Uint8Array): DiskTree {
    const levels = [level1];
    for (let top = level1; top.length > DIGEST_BYTES;) {
      top = nextLevel(top);
      levels.push(top);
    }
    return new DiskTree(blocks, levels);
  }

  private constructor(blocks: number, levels: Uint8Array[]) {
    this.blocks = blocks;
    this.#levels = levels;
  }

  /** The tree of a disk of `blocks` blocks with these nodes of level 1; nodes beyond its end are left out. */
  with(blocks: number, changes: readonly NodeChanges[]): DiskTree {
    if (blocks === this.blocks && changes.every(({ nodes }) => nodes.length === 0)) return this;
    const level1 = new Uint8Array(levelCount(blocks, 1) * DIGEST_BYTES);
    level1.set(this.level1.subarray(0, level1.length));
    const touched = new Set<number>();
    for (const { nodes, digests } of changes) {
      for (let i = 0; i < nodes.length; i++) {
        const at = nodes[i]! * DIGEST_BYTES;
        if (at >= level1.length) continue;
        level1.set(digests.subarray(i * DIGEST_BYTES, (i + 1) * DIGEST_BYTES), at);
        touched.add(Math.floor(nodes[i]! / TREE_FANOUT));
      }
    }
    if (blocks !== this.blocks) return DiskTree.fromLevel1(blocks, level1);
    return new DiskTree(blocks, [level1, ...this.#upperLevels(level1, touched)]);
  }

  get level1(): Uint8Array {
    return this.#levels[0]!;
  }

  /** A node of level 1; zero beyond the disk's end. */
  node(index: number): Uint8Array {
    const at = index * DIGEST_BYTES;
    return at < this.level1.length
      ? this.level1.subarray(at, at + DIGEST_BYTES)
      : new Uint8Array(DIGEST_BYTES);
  }

  /** Whether all blocks below a node of level 1 are zero. */
  isZero(index: number): boolean {
    const at = index * DIGEST_BYTES;
    const end = Math.min(at + DIGEST_BYTES, this.level1.length);
    for (let i = at; i < end; i++) if (this.level1[i] !== 0) return false;
    return true;
  }

  /** Nodes of a level from 1 up; a copy, short at the level's end. */
  nodes(level: number, first: number, count: number): Uint8Array {
    return (this.#levels[level - 1] ?? new Uint8Array(0)).slice(
      first * DIGEST_BYTES,
      (first + count) * DIGEST_BYTES,
    );
  }

  /** 32 hex digits. */
  get root(): string {
    return toHex(this.#levels.at(-1)!);
  }

  #upperLevels(level1: Uint8Array, parents: Set<number>): Uint8Array[] {
    const levels: Uint8Array[] = [];
    let below = level1;
    let touched = parents;
    for (const old of this.#levels.slice(1)) {
      const level = old.slice();
      const above = new Set<number>();
      for (const index of touched) {
        const from = index * TREE_FANOUT * DIGEST_BYTES;
        level.set(
          parentDigest(below.subarray(from, from + TREE_FANOUT * DIGEST_BYTES)),
          index * DIGEST_BYTES,
        );
        above.add(Math.floor(index / TREE_FANOUT));
      }
      levels.push(level);
      below = level;
      touched = above;
    }
    return levels;
  }
}

/** Blocks below a node of level 1 of a disk. */
export function nodeBlocks(node: number, diskBlocks: number): number {
  return Math.max(0, Math.min(NODE_BLOCKS, diskBlocks - node * NODE_BLOCKS));
}

/** The node of level 1 over a page of digests, whose bytes beyond the disk's end do not count. */
export function nodeOf(page: Uint8Array, node: number, diskBlocks: number): Uint8Array {
  return parentDigest(page.subarray(0, nodeBlocks(node, diskBlocks) * DIGEST_BYTES));
}
