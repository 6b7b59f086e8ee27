/**
 * Merges delta files that follow each other into one (docs/storage-format.md, section 9.2): of each block the newest,
 * of each node the newest page. Nothing is offered or changed by it before its log record.
 *
 * Segments that are mostly alive are copied as they are; what is left of the others is packed anew. Pure.
 */
import { constants, zstdCompressSync } from 'node:zlib';
import { DIGEST_BYTES } from '#/disk/digest.ts';
import { BLOCK_BYTES } from '#/disk/disk.ts';
import { levelCount } from '#/disk/digest-tree.ts';
import {
  blocksIn,
  encodeSegment,
  SEGMENT_BLOCKS_MAX,
  segmentPayload,
  type Run,
  type Segment,
} from '#/wire/segment.ts';
import { corrupt } from './bytes.ts';
import type { DeltaFile } from './delta-file.ts';
import type { Locations, Nodes } from './delta-format.ts';
import { DeltaWriter, type LiveBlock } from './delta-writer.ts';
import { MERGE_LIVE_MIN, NODE_BLOCKS, PAGE_BYTES } from './limits.ts';
import { Overlay } from './overlay.ts';

const ZSTD = { params: { [constants.ZSTD_c_compressionLevel]: 1 } };

/** The disks of a merged file: those of its last input that are still of use. */
export function mergedDisks(
  inputs: readonly DeltaFile[],
  isNeeded: (diskId: number) => boolean,
): { id: number; bytes: number }[] {
  return inputs.at(-1)!.header.disks.filter(({ id }) => isNeeded(id));
}

/** Writes the content of `inputs`, oldest first, into `writer`, whose header names the disks, and completes it. */
export async function mergeInto(writer: DeltaWriter, inputs: readonly DeltaFile[]): Promise<void> {
  const newest: Map<number, { delta: DeltaFile; page: number; digest: Uint8Array }>[] = [];
  for (const [disk, { id }] of writer.header.disks.entries()) {
    await mergeBlocks(
      writer,
      disk,
      inputs.map((delta) => ({ delta, place: delta.placeOf(id) })),
    );
    newest.push(await newestPages(inputs, id));
  }
  const nodes = await writer.finish(
    async (disk, node) => {
      const source = newest[disk]!.get(node);
      return source === undefined || source.page === 0
        ? new Uint8Array(PAGE_BYTES)
        : source.delta.page(source.page);
    },
    (disk) => [...newest[disk]!.keys()],
  );
  for (const [disk, table] of nodes.entries())
    checkNodes(table, newest[disk]!, writer.header.disks[disk]!.bytes);
}

type Input = { delta: DeltaFile; place: number };

async function mergeBlocks(writer: DeltaWriter, disk: number, inputs: Input[]): Promise<void> {
  const overlay = new Overlay();
  const tables: { input: Input; locations: Locations }[] = [];
  const zeroRuns: Run[] = [];
  for (const [index, input] of inputs.entries()) {
    if (input.place < 0) continue;
    const locations = await input.delta.locations(input.place);
    const zeros = await input.delta.zeros(input.place);
    overlay.lay(index + 1, locations, zeros);
    tables.push({ input, locations });
    for (const [at, first] of zeros.first.entries()) zeroRuns.push({ first, count: zeros.count[at]! });
  }
  const packer = new Packer(writer, disk);
  for (const { input, locations } of tables) {
    const slot = inputs.indexOf(input) + 1;
    for (const [offset, live] of liveSegments(overlay, slot, locations)) {
      const segment = await input.delta.segment(offset, Number.MAX_SAFE_INTEGER);
      await copyLive(packer, segment, live);
    }
  }
  await packer.flush();
  for (const run of zeroRuns) {
    for (const { first, count } of overlay.zerosIn(run.first, run.count)) writer.addZeros(disk, first, count);
  }
}

/** Segments of one input, in the order of the file, with the blocks in them that no later input has. */
function liveSegments(
  overlay: Overlay,
  slot: number,
  { blocks, offsets, places }: Locations,
): [number, { block: number; place: number }[]][] {
  const segments = new Map<number, { block: number; place: number }[]>();
  for (let i = 0; i < blocks.length; i++) {
    const source = overlay.source(blocks[i]!);
    if (source.kind !== 'segment' || source.slot !== slot) continue;
    const live = segments.get(offsets[i]!) ?? [];
    live.push({ block: blocks[i]!, place: places[i]! });
    segments.set(offsets[i]!, live);
  }
  return [...segments].sort(([a], [b]) => a - b);
}

async function copyLive(
  packer: Packer,
  segment: Segment & { kind: 'data' },
  live: { block: number; place: number }[],
): Promise<void> {
  const withDigests = live.map(({ block, place }) => ({
    block,
    place,
    digest: segment.digests.subarray(place * DIGEST_BYTES, (place + 1) * DIGEST_BYTES),
  }));
  if (live.length >= blocksIn(segment.runs) * MERGE_LIVE_MIN) {
    await packer.copy(segment, withDigests);
    return;
  }
  const payload = segmentPayload(segment);
  for (const each of withDigests) {
    await packer.add(each, payload.subarray(each.place * BLOCK_BYTES, (each.place + 1) * BLOCK_BYTES));
  }
}

/** Puts single blocks together into segments of full length. */
class Packer {
  readonly #writer: DeltaWriter;
  readonly #disk: number;
  #blocks: { block: number; digest: Uint8Array; bytes: Uint8Array }[] = [];

  constructor(writer: DeltaWriter, disk: number) {
    this.#writer = writer;
    this.#disk = disk;
  }

  copy(segment: Segment & { kind: 'data' }, live: LiveBlock[]): Promise<void> {
    const bytes = encodeSegment({ ...segment, disk: this.#disk });
    return this.#writer.writeLive(bytes, this.#disk, live);
  }

  async add({ block, digest }: LiveBlock, bytes: Uint8Array): Promise<void> {
    this.#blocks.push({ block, digest, bytes });
    if (this.#blocks.length === SEGMENT_BLOCKS_MAX) await this.flush();
  }

  async flush(): Promise<void> {
    if (this.#blocks.length === 0) return;
    const blocks = this.#blocks.sort((a, b) => a.block - b.block);
    this.#blocks = [];
    const runs: Run[] = [];
    const digests = new Uint8Array(blocks.length * DIGEST_BYTES);
    const raw = new Uint8Array(blocks.length * BLOCK_BYTES);
    for (const [index, { block, digest, bytes }] of blocks.entries()) {
      const last = runs.at(-1);
      if (last !== undefined && last.first + last.count === block) last.count++;
      else runs.push({ first: block, count: 1 });
      digests.set(digest, index * DIGEST_BYTES);
      raw.set(bytes, index * BLOCK_BYTES);
    }
    const packed = zstdCompressSync(raw, ZSTD);
    const isSmaller = packed.length < raw.length;
    const segment: Segment = {
      kind: 'data',
      disk: this.#disk,
      runs,
      digests,
      encoding: isSmaller ? 'zstd' : 'raw',
      payload: isSmaller ? packed : raw,
    };
    await this.#writer.write(encodeSegment(segment), segment);
  }
}

async function newestPages(
  inputs: readonly DeltaFile[],
  diskId: number,
): Promise<Map<number, { delta: DeltaFile; page: number; digest: Uint8Array }>> {
  const newest = new Map<number, { delta: DeltaFile; page: number; digest: Uint8Array }>();
  for (const delta of inputs) {
    const place = delta.placeOf(diskId);
    if (place < 0) continue;
    const { nodes, pages, digests } = await delta.nodes(place);
    for (const [index, node] of nodes.entries()) {
      const digest = digests.subarray(index * DIGEST_BYTES, (index + 1) * DIGEST_BYTES);
      newest.set(node, { delta, page: pages[index]!, digest });
    }
  }
  return newest;
}

/** I1: what the merged file says of a node is what its newest input said. */
function checkNodes(
  { nodes, digests }: Nodes,
  newest: Map<number, { delta: DeltaFile; digest: Uint8Array }>,
  diskBytes: number,
): void {
  const end = levelCount(Math.ceil(diskBytes / BLOCK_BYTES), 1);
  for (const [index, node] of nodes.entries()) {
    const source = newest.get(node);
    const digest = digests.subarray(index * DIGEST_BYTES, (index + 1) * DIGEST_BYTES);
    if (node >= end || (source !== undefined && Buffer.compare(source.digest, digest) === 0)) continue;
    throw corrupt(source?.delta.path ?? 'merged delta', `digests of blocks from ${node * NODE_BLOCKS}`);
  }
}
