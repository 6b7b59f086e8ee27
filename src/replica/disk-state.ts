/**
 * One disk as it stands at one recovery point: its digest tree, and where the page of digests of each node is: in the
 * newest delta file that touches the node, or in the base. 28 bytes of memory for each MiB of disk. Pure.
 */
import { DIGEST_BYTES } from '#/disk/digest.ts';
import { blockCount } from '#/disk/disk.ts';
import { levelCount } from '#/disk/digest-tree.ts';
import type { File } from '#/disk/file-system.ts';
import { Failure, hasCode } from '#/lib/failure.ts';
import { toHex } from './bytes.ts';
import type { DeltaFile } from './delta-file.ts';
import type { Nodes } from './delta-format.ts';
import { DiskTree, nodeOf } from './disk-tree.ts';
import { fillSparse, readSparse } from './files.ts';
import { NODE_BLOCKS, PAGE_BYTES } from './limits.ts';
import type { DiskEntry } from './log-record.ts';
import { basePath, type BaseFile, type StorePlace } from './store-place.ts';

export class DiskState {
  readonly place: StorePlace;
  disk: DiskEntry;
  tree: DiskTree;
  /** Pages of digests that are not in the files yet: a first copy's. */
  pending: (node: number) => Uint8Array | undefined = () => undefined;
  readonly #deltas: Map<number, DeltaFile>;
  /** For each node the number of the delta file that has its page, or 0 for the base. */
  #numbers: Uint32Array;
  #pages: Float64Array;

  /** Reads the tree of the base and lays the nodes of `deltas` over it, which are in order. */
  static async load(place: StorePlace, disk: DiskEntry, deltas: Map<number, DeltaFile>): Promise<DiskState> {
    const blocks = blockCount(disk.bytes);
    const nodeCount = levelCount(blocks, 1);
    const level1 = await withBaseFile(place, disk.id, 'base.tree', (file) =>
      readSparse(file, 0, nodeCount * DIGEST_BYTES),
    );
    const state = new DiskState(place, disk, { tree: DiskTree.empty(blocks), deltas });
    for (const delta of deltas.values()) {
      const at = delta.placeOf(disk.id);
      if (at < 0) continue;
      const nodes = await delta.nodes(at);
      state.#locate(delta.entry.number, nodes);
      for (let i = 0; i < nodes.nodes.length; i++) {
        const to = nodes.nodes[i]! * DIGEST_BYTES;
        if (to >= level1.length) break;
        level1.set(nodes.digests.subarray(i * DIGEST_BYTES, (i + 1) * DIGEST_BYTES), to);
      }
    }
    state.tree = DiskTree.fromLevel1(blocks, level1);
    return state;
  }

  constructor(place: StorePlace, disk: DiskEntry, parts: { tree: DiskTree; deltas: Map<number, DeltaFile> }) {
    this.place = place;
    this.disk = disk;
    this.tree = parts.tree;
    this.#deltas = parts.deltas;
    const nodeCount = levelCount(parts.tree.blocks, 1);
    this.#numbers = new Uint32Array(nodeCount);
    this.#pages = new Float64Array(nodeCount);
  }

  /**
   * The page of digests of a node: 4096 bytes, those beyond the disk's end zero. A copy.
   * Throws storage_corrupt when it is not what the tree says.
   */
  async page(node: number): Promise<Uint8Array<ArrayBuffer>> {
    const pending = this.pending(node);
    if (pending !== undefined) return Uint8Array.from(pending);
    const expected = this.tree.node(node);
    const { blocks } = this.tree;
    if (this.tree.isZero(node)) return new Uint8Array(PAGE_BYTES);
    const page = await this.#stored(node);
    if (Buffer.compare(nodeOf(page, node, blocks), expected) !== 0) {
      throw new Failure(
        'storage_corrupt',
        `read digests of disk ${this.disk.key}: node ${node} is not ${toHex(expected)}`,
      );
    }
    page.fill(0, Math.max(0, blocks - node * NODE_BLOCKS) * DIGEST_BYTES);
    return page;
  }

  /** Takes in what a new point changed. */
  advance(disk: DiskEntry, tree: DiskTree, parts: { number: number; nodes: Nodes }[]): void {
    this.disk = disk;
    this.tree = tree;
    const nodeCount = levelCount(tree.blocks, 1);
    if (nodeCount !== this.#numbers.length) {
      const numbers = new Uint32Array(nodeCount);
      const pages = new Float64Array(nodeCount);
      numbers.set(this.#numbers.subarray(0, nodeCount));
      pages.set(this.#pages.subarray(0, nodeCount));
      this.#numbers = numbers;
      this.#pages = pages;
    }
    for (const { number, nodes } of parts) this.#locate(number, nodes);
  }

  /** Points nodes that were in one of `old` to another delta file, or to the base when `number` is 0. */
  relocate(old: ReadonlySet<number>, number: number, { nodes, pages }: Nodes): void {
    for (let i = 0; i < nodes.length; i++) {
      const node = nodes[i]!;
      if (!old.has(this.#numbers[node] ?? 0)) continue;
      this.#numbers[node] = number;
      this.#pages[node] = pages[i]!;
    }
  }

  #locate(number: number, { nodes, pages }: Nodes): void {
    for (let i = 0; i < nodes.length; i++) {
      this.#numbers[nodes[i]!] = number;
      this.#pages[nodes[i]!] = pages[i]!;
    }
  }

  async #stored(node: number): Promise<Uint8Array<ArrayBuffer>> {
    const number = this.#numbers[node] ?? 0;
    const offset = this.#pages[node] ?? 0;
    if (number === 0) {
      const page = new Uint8Array(PAGE_BYTES);
      await withBaseFile(this.place, this.disk.id, 'base.digests', (file) =>
        fillSparse(file, node * PAGE_BYTES, page),
      );
      return page;
    }
    if (offset === 0) return new Uint8Array(PAGE_BYTES);
    const delta = this.#deltas.get(number)!.hold();
    try {
      return await delta.page(offset);
    } finally {
      await delta.release();
    }
  }
}

/** Calls `action` with a file of the base, or with undefined when the disk has none yet: it is all zero then. */
export async function withBaseFile<T>(
  { pool, directory }: StorePlace,
  diskId: number,
  name: BaseFile,
  action: (file: File | undefined) => Promise<T>,
): Promise<T> {
  try {
    return await pool.use(basePath(directory, diskId, name), action);
  } catch (error) {
    if (!hasCode(error, 'not_found')) throw error;
    return action(undefined);
  }
}
