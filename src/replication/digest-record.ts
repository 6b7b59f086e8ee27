/**
 * The digest record of one disk: which digest each block has in the state that the replica's next point is a delta
 * against. Two sparse files, whose size follows the disk:
 *
 *   NAME.digests   4096 bytes of header, then 16 bytes for each block (level 0 of the digest tree)
 *   NAME.tree      4096 bytes of header, then 16 bytes for each group of 256 blocks (level 1)
 *
 * Header: 4 bytes magic "APDR", 2 bytes version, 2 bytes length of what follows, then the identity as UTF-8; the rest
 * is zero. Which point the record is of stands in the state file beside it (replica-record.ts), because all disks
 * advance together.
 *
 * Higher levels are held in memory: 64 KiB for a disk of a TiB. A group is checked against its level-1 node whenever
 * it is read, so a record that a crash or a failing disk left torn is noticed (storage_corrupt) and never believed.
 * A group whose node is zero is zero, whatever its bytes. Pure; bounded memory whatever the disk's size.
 */
import assert from 'node:assert/strict';
import { DIGEST_BYTES } from '#/disk/digest.ts';
import { levelCount, nextLevel, parentDigest, rootFromLevel1, TREE_FANOUT } from '#/disk/digest-tree.ts';
import type { File, FileSystem } from '#/disk/file-system.ts';
import { Failure } from '#/lib/failure.ts';
import { GROUP_BLOCKS } from './limits.ts';

const HEADER_BYTES = 4096;
const MAGIC = 0x41504452;
const VERSION = 1;
/** The level-1 nodes below one level-2 node; also the span of one cached page. */
const PAGE_NODES = TREE_FANOUT;
export const PAGE_BYTES: number = PAGE_NODES * DIGEST_BYTES;
const GROUP_DIGEST_BYTES = GROUP_BLOCKS * DIGEST_BYTES;
/** Level-1 pages read at once when the upper levels are built. */
const SCAN_PAGES = 64;

export type DigestRecordOptions = { fs: FileSystem; path: string; identity: string; blocks: number };

export class DigestRecord implements AsyncDisposable {
  readonly #path: string;
  readonly #digests: File;
  readonly #tree: File;
  #blocks: number;
  /** All nodes of level 2. */
  #level2: Uint8Array;
  #page: { index: number; nodes: Promise<Uint8Array> } | undefined;

  /** Opens the record, or makes an empty one: an empty record is one of a disk full of zeroes. */
  static async open({ fs, path, identity, blocks }: DigestRecordOptions): Promise<DigestRecord> {
    const digests = await openChecked(fs, `${path}.digests`, identity);
    try {
      const tree = await openChecked(fs, `${path}.tree`, identity);
      const record = new DigestRecord(path, { digests: digests.file, tree: tree.file }, blocks);
      try {
        if (digests.isNew !== tree.isNew) await record.clear();
        await record.#load();
        return record;
      } catch (error) {
        await tree.file[Symbol.asyncDispose]();
        throw error;
      }
    } catch (error) {
      await digests.file[Symbol.asyncDispose]();
      throw error;
    }
  }

  private constructor(path: string, files: { digests: File; tree: File }, blocks: number) {
    this.#path = path;
    this.#digests = files.digests;
    this.#tree = files.tree;
    this.#blocks = blocks;
    this.#level2 = new Uint8Array(levelCount(blocks, 2) * DIGEST_BYTES);
  }

  get blocks(): number {
    return this.#blocks;
  }

  /** The root of the digest tree, 32 hex digits. */
  async root(): Promise<string> {
    return rootOf(this.#blocks, this.#level2, () => this.page(0));
  }

  /** A copy of all nodes of level 2. */
  level2(): Uint8Array {
    return Uint8Array.from(this.#level2);
  }

  /** The up to 256 level-1 nodes below one node of level 2. Not to be changed. */
  page(index: number): Promise<Uint8Array> {
    if (this.#page?.index !== index) this.#page = { index, nodes: this.#readPage(index) };
    return this.#page.nodes;
  }

  /** The level-1 node of a group; zero beyond the disk's end. */
  async node(group: number): Promise<Uint8Array> {
    if (group >= levelCount(this.#blocks, 1)) return new Uint8Array(DIGEST_BYTES);
    const page = await this.page(Math.floor(group / PAGE_NODES));
    const at = (group % PAGE_NODES) * DIGEST_BYTES;
    return page.subarray(at, at + DIGEST_BYTES);
  }

  /**
   * The digests of a group of a disk that has `blocks` blocks: cut or padded with zeroes when that is not this
   * record's count. Throws storage_corrupt when they are not what the group's node says.
   */
  async group(group: number, blocks: number = this.#blocks): Promise<Uint8Array> {
    const own = groupLength(group, this.#blocks);
    const digests = new Uint8Array(groupLength(group, blocks) * DIGEST_BYTES);
    const node = await this.node(group);
    if (own === 0 || isZero(node)) return digests;
    const stored = await this.#read(this.#digests, group * GROUP_DIGEST_BYTES, own * DIGEST_BYTES);
    if (Buffer.compare(parentDigest(stored), node) !== 0) {
      throw new Failure('storage_corrupt', `read the digest record ${this.#path}: group ${group} is torn`);
    }
    digests.set(stored.subarray(0, digests.length));
    return digests;
  }

  /** The first group from `group` on, below `end`, that is not all zero. */
  async nextOccupied(group: number, end: number): Promise<number | undefined> {
    const last = Math.min(end, levelCount(this.#blocks, 1));
    for (let at = group; at < last;) {
      const page = Math.floor(at / PAGE_NODES);
      if (isZero(this.#level2.subarray(page * DIGEST_BYTES, (page + 1) * DIGEST_BYTES))) {
        at = (page + 1) * PAGE_NODES;
        continue;
      }
      if (!isZero(await this.node(at))) return at;
      at++;
    }
    return undefined;
  }

  /** Nodes of any level, from level 2 upwards from memory. */
  async nodes(level: number, first: number, count: number): Promise<Uint8Array> {
    const bytes = count * DIGEST_BYTES;
    if (level === 0) return this.#read(this.#digests, first * DIGEST_BYTES, bytes);
    if (level === 1) return this.#read(this.#tree, first * DIGEST_BYTES, bytes);
    let nodes = this.#level2;
    for (let at = 2; at < level; at++) nodes = nextLevel(nodes);
    return nodes.slice(first * DIGEST_BYTES, (first + count) * DIGEST_BYTES);
  }

  /** Replaces groups that follow each other and their nodes. Not durable before `datasync`. */
  async writeGroups(first: number, digests: Uint8Array): Promise<void> {
    assert(first * GROUP_BLOCKS + digests.length / DIGEST_BYTES <= this.#blocks, 'digests beyond the disk');
    const nodes = nextLevel(digests);
    if (isZero(nodes)) await this.#digests.punch(HEADER_BYTES + first * GROUP_DIGEST_BYTES, digests.length);
    else await this.#digests.write(HEADER_BYTES + first * GROUP_DIGEST_BYTES, digests);
    await this.#tree.write(HEADER_BYTES + first * DIGEST_BYTES, nodes);
    this.#page = undefined;
    const lastPage = Math.floor((first + nodes.length / DIGEST_BYTES - 1) / PAGE_NODES);
    for (let page = Math.floor(first / PAGE_NODES); page <= lastPage; page++) await this.#updateLevel2(page);
  }

  /** Changes the disk's length: what is new is zero, what is beyond is gone. */
  async resize(blocks: number): Promise<void> {
    if (blocks === this.#blocks) return;
    const edge = Math.floor((Math.min(blocks, this.#blocks) - 1) / GROUP_BLOCKS);
    const atEdge = await this.group(edge, blocks);
    const keptGroups = Math.min(levelCount(blocks, 1), levelCount(this.#blocks, 1));
    await truncateKeeping(this.#digests, HEADER_BYTES + keptGroups * GROUP_DIGEST_BYTES);
    await truncateKeeping(this.#tree, HEADER_BYTES + keptGroups * DIGEST_BYTES);
    this.#blocks = blocks;
    await this.#load();
    await this.writeGroups(edge, atEdge);
  }

  /** Makes it the record of a disk full of zeroes. */
  async clear(): Promise<void> {
    await this.#digests.truncate(HEADER_BYTES);
    await this.#tree.truncate(HEADER_BYTES);
    this.#page = undefined;
    this.#level2.fill(0);
  }

  /** Computes the tree anew from the digests, for a record that was left torn. */
  async rebuild(): Promise<void> {
    const groups = levelCount(this.#blocks, 1);
    for (let group = 0; group < groups; group++) {
      const stored = await this.#read(
        this.#digests,
        group * GROUP_DIGEST_BYTES,
        groupLength(group, this.#blocks) * DIGEST_BYTES,
      );
      await this.#tree.write(HEADER_BYTES + group * DIGEST_BYTES, parentDigest(stored));
    }
    await this.#load();
  }

  async datasync(): Promise<void> {
    await this.#digests.datasync();
    await this.#tree.datasync();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#digests[Symbol.asyncDispose]();
    await this.#tree[Symbol.asyncDispose]();
  }

  async #load(): Promise<void> {
    this.#page = undefined;
    const pages = levelCount(this.#blocks, 2);
    this.#level2 = new Uint8Array(pages * DIGEST_BYTES);
    const groups = levelCount(this.#blocks, 1);
    for (let page = 0; page < pages; page += SCAN_PAGES) {
      const first = page * PAGE_NODES;
      const count = Math.min(groups - first, SCAN_PAGES * PAGE_NODES);
      const nodes = await this.#read(this.#tree, first * DIGEST_BYTES, count * DIGEST_BYTES);
      this.#level2.set(nextLevel(nodes), page * DIGEST_BYTES);
    }
  }

  async #updateLevel2(page: number): Promise<void> {
    this.#level2.set(parentDigest(await this.#readPage(page)), page * DIGEST_BYTES);
  }

  #readPage(index: number): Promise<Uint8Array> {
    const count = Math.min(PAGE_NODES, levelCount(this.#blocks, 1) - index * PAGE_NODES);
    return this.#read(this.#tree, index * PAGE_BYTES, count * DIGEST_BYTES);
  }

  /** Reads behind the header; what lies behind the end of a sparse file is zero. */
  async #read(file: File, offset: number, length: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(length);
    const count = await file.read(HEADER_BYTES + offset, bytes);
    bytes.fill(0, count);
    return bytes;
  }
}

/** Blocks of a group in a disk of `blocks` blocks. */
export function groupLength(group: number, blocks: number): number {
  return Math.max(0, Math.min(GROUP_BLOCKS, blocks - group * GROUP_BLOCKS));
}

/** The root, when `level2` are all nodes of level 2; a disk of one group has its root at level 1. */
export async function rootOf(
  blocks: number,
  level2: Uint8Array,
  firstPage: () => Promise<Uint8Array>,
): Promise<string> {
  if (levelCount(blocks, 1) === 1) return rootFromLevel1((await firstPage()).subarray(0, DIGEST_BYTES));
  return rootFromLevel1(level2);
}

export function isZero(bytes: Uint8Array): boolean {
  return bytes.every((byte) => byte === 0);
}

async function truncateKeeping(file: File, bytes: number): Promise<void> {
  if ((await file.bytes()) > bytes) await file.truncate(bytes);
}

/** Opens a file whose header carries the identity; another one's, or a torn one, is begun anew. */
async function openChecked(
  fs: FileSystem,
  path: string,
  identity: string,
): Promise<{ file: File; isNew: boolean }> {
  const file = await fs.open(path, 'create');
  try {
    const expected = header(identity);
    const found = new Uint8Array(HEADER_BYTES);
    const count = await file.read(0, found);
    if (count === HEADER_BYTES && Buffer.compare(found, expected) === 0) return { file, isNew: false };
    await file.truncate(0);
    await file.write(0, expected);
    await file.datasync();
    return { file, isNew: true };
  } catch (error) {
    await file[Symbol.asyncDispose]();
    throw error;
  }
}

function header(identity: string): Uint8Array {
  const text = new TextEncoder().encode(identity);
  assert(text.length <= HEADER_BYTES - 8, 'identity of a digest record is too long');
  const bytes = new Uint8Array(HEADER_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, MAGIC);
  view.setUint16(4, VERSION);
  view.setUint16(6, text.length);
  bytes.set(text, 8);
  return bytes;
}
