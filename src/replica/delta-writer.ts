/**
 * One delta file while it is being written: segments are appended as they come; `finish` adds the pages of digests,
 * the tables and the footer (docs/storage-format.md, section 6).
 *
 * Nothing is durable before `datasync`. Pure.
 */
import { crc32 } from 'node:zlib';
import { blockCount } from '#/disk/disk.ts';
import type { File } from '#/disk/file-system.ts';
import { decodeSegment, type Segment } from '#/wire/segment.ts';
import { DeltaChanges, patchPage, touchedNodes, type Changes, type TouchedNode } from './delta-changes.ts';
import {
  encodeFooter,
  encodeHeader,
  encodeLocations,
  encodeNodes,
  encodeZeroRuns,
  headerBytes,
  type DeltaHeader,
  type DiskTables,
  type Nodes,
} from './delta-format.ts';
import { nodeOf } from './disk-tree.ts';
import { DELTA_ZERO_RUNS_MAX, NODE_BLOCKS, PAGE_BYTES } from './limits.ts';
import { readSegmentAt } from './segment-scan.ts';
import { AppendQueue } from './write-queue.ts';

/** Pages that are looked up at the same time. */
const PAGES_AHEAD = 16;

/** The page of digests of a node as it was before this delta. A copy that may be changed. */
export type PageSource = (place: number, node: number) => Promise<Uint8Array>;

export type LiveBlock = { block: number; place: number; digest: Uint8Array };

export class DeltaWriter implements AsyncDisposable {
  readonly header: DeltaHeader;
  readonly #file: File;
  readonly #queue: AppendQueue;
  readonly #changes: DeltaChanges[];
  #segmentCount = 0;

  /** Writes the header into an empty file, which the writer then owns. */
  static async begin(file: File, header: DeltaHeader): Promise<DeltaWriter> {
    const changes = header.disks.map(() => new DeltaChanges());
    const writer = new DeltaWriter(file, header, 0, changes);
    await writer.#queue.append(encodeHeader(header));
    return writer;
  }

  /**
   * Goes on with a file that was left: its segments are read and checked one by one, and what stands behind the last
   * good one is cut off.
   */
  static async resume(file: File, header: DeltaHeader, digestKey: string): Promise<DeltaWriter> {
    const end = await file.bytes();
    let at = headerBytes(header.disks.length);
    const changes = header.disks.map(() => new DeltaChanges());
    let count = 0;
    for (;;) {
      const bytes = await readSegmentAt(file, at, end);
      const segment = bytes && tryDecode(bytes, header, digestKey);
      if (bytes === undefined || segment === undefined) break;
      note(changes, segment, at);
      at += bytes.length;
      count++;
    }
    await file.truncate(at);
    const writer = new DeltaWriter(file, header, at, changes);
    writer.#segmentCount = count;
    return writer;
  }

  private constructor(file: File, header: DeltaHeader, offset: number, changes: DeltaChanges[]) {
    this.#file = file;
    this.header = header;
    this.#queue = new AppendQueue(file, offset);
    this.#changes = changes;
  }

  get segmentCount(): number {
    return this.#segmentCount;
  }

  /** Whether the file has as many blocks, or runs of zeroes, as one may have. */
  isFull(blocksMax: number): boolean {
    let blocks = 0;
    let zeroRuns = 0;
    for (const each of this.#changes) {
      blocks += each.blockCount;
      zeroRuns += each.zeroRunCount;
    }
    return blocks >= blocksMax || zeroRuns >= DELTA_ZERO_RUNS_MAX;
  }

  /** Appends a segment that was checked; `segment` is `bytes`, decoded. */
  async write(bytes: Uint8Array, segment: Segment): Promise<void> {
    note(this.#changes, segment, this.#queue.offset);
    this.#segmentCount++;
    await this.#queue.append(bytes);
  }

  /** Appends a segment of which only these blocks count: a merge leaves out what was written again later. */
  async writeLive(bytes: Uint8Array, disk: number, live: readonly LiveBlock[]): Promise<void> {
    this.#changes[disk]!.addPlaced(live, this.#queue.offset);
    this.#segmentCount++;
    await this.#queue.append(bytes);
  }

  /** Says that blocks are zero, without a segment: those that a shrinking disk loses. */
  addZeros(place: number, first: number, count: number): void {
    this.#changes[place]!.addZeros([{ first, count }]);
  }

  /**
   * Completes the file. `edges` are nodes of which only the count of blocks changes. Returns for each disk of the
   * header the nodes that changed.
   */
  async finish(pages: PageSource, edges: (place: number) => readonly number[]): Promise<Nodes[]> {
    const segmentsEnd = this.#queue.offset;
    const inOrder = this.#changes.map((changes) => changes.inOrder());
    const nodes: Nodes[] = [];
    for (const [place, changes] of inOrder.entries()) {
      const touched = withEdges([...touchedNodes(changes)], edges(place));
      nodes.push(await this.#writePages({ place, changes, touched }, pages));
    }
    const tables: DiskTables[] = [];
    for (const [place, changes] of inOrder.entries()) {
      tables.push(await this.#writeTables(changes, nodes[place]!));
    }
    const footer = { segmentsEnd, segmentCount: this.#segmentCount, tables };
    await this.#queue.append(encodeFooter(footer, this.#queue.offset));
    await this.#queue.drain();
    return nodes;
  }

  /** Resolves when all that was appended has arrived in the file. */
  drain(): Promise<void> {
    return this.#queue.drain();
  }

  datasync(): Promise<void> {
    return this.#file.datasync();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#queue.settle();
    await this.#file[Symbol.asyncDispose]();
  }

  async #writePages(
    { place, changes, touched }: { place: number; changes: Changes; touched: TouchedNode[] },
    pages: PageSource,
  ): Promise<Nodes> {
    const blocks = blockCount(this.header.disks[place]!.bytes);
    const table: Nodes = {
      nodes: Uint32Array.from(touched, ({ node }) => node),
      pages: new Float64Array(touched.length),
      digests: new Uint8Array(touched.length * 16),
    };
    for (let from = 0; from < touched.length; from += PAGES_AHEAD) {
      const some = touched.slice(from, from + PAGES_AHEAD);
      const before = await Promise.all(some.map((each) => pageBefore(each, place, pages)));
      for (const [index, page] of before.entries()) {
        patchPage(page, changes, some[index]!);
        const digest = nodeOf(page, some[index]!.node, blocks);
        table.digests.set(digest, (from + index) * 16);
        if (digest.every((byte) => byte === 0)) continue;
        table.pages[from + index] = this.#queue.offset;
        await this.#queue.append(page);
      }
    }
    return table;
  }

  async #writeTables(changes: Changes, nodes: Nodes): Promise<DiskTables> {
    const offset = this.#queue.offset;
    const locations = encodeLocations(changes.locations);
    const zeros = encodeZeroRuns(changes.zeros);
    const touched = encodeNodes(nodes);
    for (const table of [locations, zeros, touched]) await this.#queue.append(table);
    return {
      offset,
      locations: { count: changes.locations.blocks.length, crc: crc32(locations) },
      zeros: { count: changes.zeros.first.length, crc: crc32(zeros) },
      nodes: { count: nodes.nodes.length, crc: crc32(touched) },
    };
  }
}

function note(changes: DeltaChanges[], segment: Segment, offset: number): void {
  const disk = changes[segment.disk]!;
  if (segment.kind === 'zero') disk.addZeros(segment.runs);
  else disk.addData(segment.runs, segment.digests, offset);
}

function tryDecode(bytes: Uint8Array, header: DeltaHeader, digestKey: string): Segment | undefined {
  try {
    return decodeSegment(bytes, (disk) => diskBlocks(header, disk), digestKey);
  } catch {
    // A torn tail is what a crash leaves; the sender sends it again.
    return undefined;
  }
}

function diskBlocks(header: DeltaHeader, disk: number): number | undefined {
  const entry = header.disks[disk];
  return entry && blockCount(entry.bytes);
}

/** A node that is zero all over needs no look at what it was. */
async function pageBefore(touched: TouchedNode, place: number, pages: PageSource): Promise<Uint8Array> {
  if (touched.zeros[0]?.count === NODE_BLOCKS) return new Uint8Array(PAGE_BYTES);
  return pages(place, touched.node);
}

function withEdges(touched: TouchedNode[], edges: readonly number[]): TouchedNode[] {
  const known = new Set(touched.map(({ node }) => node));
  for (const node of edges) {
    if (!known.has(node)) touched.push({ node, from: 0, end: 0, zeros: [] });
  }
  return touched.sort((a, b) => a.node - b.node);
}
