/**
 * A delta file that is whole: its tables, pages and segments, each checked when it is read.
 *
 * It stays on disk as long as somebody holds it, also after compaction has put another in its place. Pure.
 */
import assert from 'node:assert/strict';
import { crc32 } from 'node:zlib';
import type { File } from '#/disk/file-system.ts';
import { decodeSegment, type Segment } from '#/wire/segment.ts';
import { corrupt } from './bytes.ts';
import {
  decodeFooter,
  decodeHeader,
  decodeLocations,
  decodeNodes,
  decodeZeroRuns,
  FOOTER_BYTES_MAX,
  HEADER_BYTES_MAX,
  LOCATION_BYTES,
  NODE_BYTES,
  tableOffset,
  ZERO_RUN_BYTES,
  type DeltaFooter,
  type DeltaHeader,
  type Locations,
  type Nodes,
  type ZeroRuns,
} from './delta-format.ts';
import { pathIn, removeIfThere } from './files.ts';
import type { HandlePool } from './handle-pool.ts';
import { PAGE_BYTES } from './limits.ts';
import type { DeltaEntry } from './log-record.ts';
import { readSegmentAt } from './segment-scan.ts';
import type { StorePlace } from './store-place.ts';

const ROW_BYTES = { locations: LOCATION_BYTES, zeros: ZERO_RUN_BYTES, nodes: NODE_BYTES };

export function deltaName(number: number): string {
  return `${String(number).padStart(12, '0')}.delta`;
}

export function deltaPath(directory: string, number: number): string {
  return pathIn(pathIn(directory, 'deltas'), deltaName(number));
}

export type DeltaPlace = { pool: HandlePool; path: string; tag: Uint8Array; digestKey: string };

export class DeltaFile {
  readonly entry: DeltaEntry;
  readonly header: DeltaHeader;
  readonly footer: DeltaFooter;
  readonly #place: DeltaPlace;
  #holders = 1;

  /** Opens a file that the log names. Throws not_found, storage_corrupt. */
  static async open(place: DeltaPlace, entry: DeltaEntry): Promise<DeltaFile> {
    const { header, footer } = await place.pool.use(place.path, (file) => readEnds(file, place));
    if (header.first !== entry.first || header.last !== entry.last) throw corrupt(place.path, 'sequences');
    return new DeltaFile(place, entry, { header, footer });
  }

  private constructor(
    place: DeltaPlace,
    entry: DeltaEntry,
    ends: { header: DeltaHeader; footer: DeltaFooter },
  ) {
    this.#place = place;
    this.entry = entry;
    this.header = ends.header;
    this.footer = ends.footer;
  }

  get path(): string {
    return this.#place.path;
  }

  /** The place of a disk in this file, or -1. */
  placeOf(diskId: number): number {
    return this.header.disks.findIndex(({ id }) => id === diskId);
  }

  async locations(place: number): Promise<Locations> {
    const table = decodeLocations(await this.#table(place, 'locations'));
    this.#checkAscending(table.blocks, place);
    return table;
  }

  async zeros(place: number): Promise<ZeroRuns> {
    const table = decodeZeroRuns(await this.#table(place, 'zeros'));
    this.#checkAscending(table.first, place);
    return table;
  }

  async nodes(place: number): Promise<Nodes> {
    const table = decodeNodes(await this.#table(place, 'nodes'));
    this.#checkAscending(table.nodes, place);
    return table;
  }

  /** A page of digests; whoever asks compares it with its node. */
  async page(offset: number): Promise<Uint8Array<ArrayBuffer>> {
    const page = new Uint8Array(PAGE_BYTES);
    const count = await this.#place.pool.use(this.path, (file) => file.read(offset, page));
    if (count !== PAGE_BYTES) throw corrupt(this.path, `page of digests at ${offset}`);
    return page;
  }

  /** The segment at an offset, checked against its checksum and digests. */
  async segment(offset: number, diskBlocks: number): Promise<Segment & { kind: 'data' }> {
    const { segmentsEnd } = this.footer;
    const bytes = await this.#place.pool.use(this.path, (file) => readSegmentAt(file, offset, segmentsEnd));
    if (bytes === undefined) throw corrupt(this.path, `segment at ${offset}`);
    try {
      const segment = decodeSegment(bytes, () => diskBlocks, this.#place.digestKey);
      if (segment.kind === 'data') return segment;
    } catch (error) {
      throw corrupt(this.path, `segment at ${offset}`, error);
    }
    throw corrupt(this.path, `kind of the segment at ${offset}`);
  }

  /** Keeps the file until a `release` of its own. */
  hold(): this {
    assert(this.#holders > 0, 'hold of a delta file that is gone');
    this.#holders++;
    return this;
  }

  /** Removes the file with its last holder. What cannot be removed is removed when the replica is opened next. */
  async release(): Promise<void> {
    assert(this.#holders > 0, 'release of a delta file that is gone');
    if (--this.#holders > 0) return;
    await this.#place.pool.close(this.path);
    await removeIfThere(this.#place.pool.files, this.path);
  }

  async #table(place: number, kind: 'locations' | 'zeros' | 'nodes'): Promise<Uint8Array> {
    const tables = this.footer.tables[place];
    assert(tables, 'no such disk in the delta file');
    const bytes = new Uint8Array(tables[kind].count * ROW_BYTES[kind]);
    const at = tableOffset(tables, kind);
    const count = await this.#place.pool.use(this.path, (file) => file.read(at, bytes));
    if (count !== bytes.length || crc32(bytes) !== tables[kind].crc) {
      throw corrupt(this.path, `table of ${kind} of disk ${this.header.disks[place]?.id}`);
    }
    return bytes;
  }

  #checkAscending(keys: Float64Array | Uint32Array, place: number): void {
    for (let i = 1; i < keys.length; i++) {
      if (!(keys[i]! > keys[i - 1]!)) throw corrupt(this.path, `order in a table of disk ${place}`);
    }
  }
}

async function readEnds(
  file: File,
  { path, tag }: DeltaPlace,
): Promise<{ header: DeltaHeader; footer: DeltaFooter }> {
  const bytes = await file.bytes();
  const start = new Uint8Array(Math.min(bytes, HEADER_BYTES_MAX));
  const end = new Uint8Array(Math.min(bytes, FOOTER_BYTES_MAX));
  if ((await file.read(0, start)) !== start.length) throw corrupt(path, 'length');
  if ((await file.read(bytes - end.length, end)) !== end.length) throw corrupt(path, 'length');
  const header = decodeHeader(start, tag, path);
  const footer = decodeFooter(end, bytes, path);
  if (footer.tables.length !== header.disks.length) throw corrupt(path, 'disk count of the footer');
  return { header, footer };
}

/** Opens a delta file by its log entry. Throws not_found, storage_corrupt. */
export function openDelta(
  { pool, directory, tag, digestKey }: StorePlace,
  entry: DeltaEntry,
): Promise<DeltaFile> {
  const path = deltaPath(directory, entry.number);
  return DeltaFile.open({ pool, path, tag, digestKey }, entry);
}
