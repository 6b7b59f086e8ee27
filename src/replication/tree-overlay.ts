/**
 * The digest tree of a disk as it will be after the running cycle: the record's, with the nodes of changed groups
 * laid over it. It tells the root that goes into `commit` at the cost of what changed. Memory: 16 bytes for each
 * MiB of disk in whose 256 MiB something changed.
 */
import { DIGEST_BYTES } from '#/disk/digest.ts';
import { levelCount, parentDigest } from '#/disk/digest-tree.ts';
import { PAGE_BYTES, rootOf, type DigestRecord } from './digest-record.ts';
import { GROUP_BLOCKS } from './limits.ts';

const PAGE_NODES: number = PAGE_BYTES / DIGEST_BYTES;

export class TreeOverlay {
  readonly #record: DigestRecord;
  readonly #blocks: number;
  readonly #pages = new Map<number, Uint8Array>();

  /** `blocks` is the disk's count now; where it is not the record's, the group at the edge has another node. */
  static async over(record: DigestRecord, blocks: number): Promise<TreeOverlay> {
    const overlay = new TreeOverlay(record, blocks);
    if (blocks !== record.blocks) {
      const edge = Math.floor((Math.min(blocks, record.blocks) - 1) / GROUP_BLOCKS);
      await overlay.set(edge, parentDigest(await record.group(edge, blocks)));
    }
    return overlay;
  }

  private constructor(record: DigestRecord, blocks: number) {
    this.#record = record;
    this.#blocks = blocks;
  }

  async set(group: number, node: Uint8Array): Promise<void> {
    const index = Math.floor(group / PAGE_NODES);
    const page = this.#pages.get(index) ?? (await this.#pageOfRecord(index));
    this.#pages.set(index, page);
    page.set(node, (group % PAGE_NODES) * DIGEST_BYTES);
  }

  /** The root, 32 hex digits. */
  async root(): Promise<string> {
    const level2 = new Uint8Array(levelCount(this.#blocks, 2) * DIGEST_BYTES);
    level2.set(this.#record.level2().subarray(0, level2.length));
    for (const [index, page] of this.#pages) level2.set(parentDigest(page), index * DIGEST_BYTES);
    return rootOf(this.#blocks, level2, async () => this.#pages.get(0) ?? (await this.#pageOfRecord(0)));
  }

  /** The record's nodes, as many as the disk has now. */
  async #pageOfRecord(index: number): Promise<Uint8Array> {
    const count = Math.min(PAGE_NODES, levelCount(this.#blocks, 1) - index * PAGE_NODES);
    const page = new Uint8Array(count * DIGEST_BYTES);
    if (index < levelCount(this.#record.blocks, 2)) {
      page.set((await this.#record.page(index)).subarray(0, page.length));
    }
    return page;
  }
}
