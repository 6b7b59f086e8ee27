/**
 * The fixed parts of a delta file (docs/storage-format.md, section 6): its header, footer and tables.
 *
 * A delta file holds what several disks changed after one recovery point up to another. It is, in this order: header,
 * segments as they came, pages of digests, for each disk three tables, footer. All integers are big-endian.
 *
 * Header, 64 + 16 * D bytes:
 *        0      4  magic "APD1"
 *        4      2  version, 1
 *        6      2  disk count D
 *        8     16  replica tag
 *       24     16  stamp of the last point
 *       40      8  first sequence
 *       48      8  last sequence
 *       56      4  part: a large point comes in several files, from 0
 *       60      4  crc32 of all other bytes of the header
 *       64   16*D  disks: id (4 bytes), zero (4 bytes), length of the disk in bytes (8 bytes)
 *
 * Footer, 32 * D + 32 bytes, at the end of the file:
 *        0   32*D  disks, in the header's order: offset of the tables (8 bytes), then for locations, zero runs and
 *                  nodes each the count (4 bytes) and the table's crc32 (4 bytes)
 *        .      8  offset where the segments end
 *        .      4  segment count
 *        .      2  disk count D
 *        .      2  version, 1
 *        .      8  offset of the footer
 *        .      4  crc32 of the footer up to here
 *        .      4  magic "APDE"
 *
 * Tables of one disk, one after another:
 *   location, 16 bytes: block (8), offset of its segment in the file (6), place of the block in the segment (2)
 *   zero run, 16 bytes: first block (8), count (8)
 *   node, 32 bytes: node of level 1 (4), zero (4), offset of its page of digests, or 0 when all are zero (8),
 *                   digest (16)
 * Each ascends by its first field; locations and zero runs share no block.
 * Pure.
 */
import { crc32 } from 'node:zlib';
import { DIGEST_BYTES } from '#/disk/digest.ts';
import { DISKS_MAX } from '#/wire/limits.ts';
import { corrupt, crcAround, getUint64, setUint64, toHex, viewOf } from './bytes.ts';

const HEADER_MAGIC = 0x41504431;
const FOOTER_MAGIC = 0x41504445;
const VERSION = 1;
const HEADER_FIXED_BYTES = 64;
const HEADER_DISK_BYTES = 16;
const HEADER_CRC_AT = 60;
const FOOTER_DISK_BYTES = 32;
export const TRAILER_BYTES = 32;
export const HEADER_BYTES_MAX: number = HEADER_FIXED_BYTES + HEADER_DISK_BYTES * DISKS_MAX;
export const FOOTER_BYTES_MAX: number = FOOTER_DISK_BYTES * DISKS_MAX + TRAILER_BYTES;

export type DeltaDisk = { id: number; bytes: number };

export type DeltaHeader = {
  tag: Uint8Array;
  stamp: string;
  first: number;
  last: number;
  part: number;
  disks: DeltaDisk[];
};

export type TableRef = { count: number; crc: number };
export type DiskTables = { offset: number; locations: TableRef; zeros: TableRef; nodes: TableRef };
export type DeltaFooter = { segmentsEnd: number; segmentCount: number; tables: DiskTables[] };

export const LOCATION_BYTES = 16;
export const ZERO_RUN_BYTES = 16;
export const NODE_BYTES = 32;

export function headerBytes(diskCount: number): number {
  return HEADER_FIXED_BYTES + HEADER_DISK_BYTES * diskCount;
}

export function encodeHeader(header: DeltaHeader): Uint8Array {
  const bytes = new Uint8Array(headerBytes(header.disks.length));
  const view = viewOf(bytes);
  view.setUint32(0, HEADER_MAGIC);
  view.setUint16(4, VERSION);
  view.setUint16(6, header.disks.length);
  bytes.set(header.tag, 8);
  for (let i = 0; i < 16; i++) bytes[24 + i] = Number.parseInt(header.stamp.slice(2 * i, 2 * i + 2), 16);
  setUint64(view, 40, header.first);
  setUint64(view, 48, header.last);
  view.setUint32(56, header.part);
  for (const [index, disk] of header.disks.entries()) {
    const at = HEADER_FIXED_BYTES + index * HEADER_DISK_BYTES;
    view.setUint32(at, disk.id);
    setUint64(view, at + 8, disk.bytes);
  }
  view.setUint32(HEADER_CRC_AT, crcAround(bytes, HEADER_CRC_AT));
  return bytes;
}

/** Decodes the header that `bytes` begin with. Throws storage_corrupt that names the file and the field. */
export function decodeHeader(bytes: Uint8Array, tag: Uint8Array, where: string): DeltaHeader {
  if (bytes.length < HEADER_FIXED_BYTES) throw corrupt(where, 'length of the header');
  const view = viewOf(bytes);
  if (view.getUint32(0) !== HEADER_MAGIC) throw corrupt(where, 'magic');
  if (view.getUint16(4) !== VERSION) throw corrupt(where, `version ${view.getUint16(4)}`);
  const diskCount = view.getUint16(6);
  const length = headerBytes(diskCount);
  if (diskCount > DISKS_MAX || bytes.length < length) throw corrupt(where, 'disk count');
  if (view.getUint32(HEADER_CRC_AT) !== crcAround(bytes.subarray(0, length), HEADER_CRC_AT)) {
    throw corrupt(where, 'header checksum');
  }
  if (tag.some((byte, index) => byte !== bytes[8 + index]))
    throw corrupt(where, 'replica: it is of another one');
  const disks: DeltaDisk[] = [];
  for (let at = HEADER_FIXED_BYTES; at < length; at += HEADER_DISK_BYTES) {
    disks.push({ id: view.getUint32(at), bytes: getUint64(view, at + 8) });
  }
  const stamp = toHex(bytes.subarray(24, 40));
  return {
    tag,
    stamp,
    first: getUint64(view, 40),
    last: getUint64(view, 48),
    part: view.getUint32(56),
    disks,
  };
}

export function encodeFooter(footer: DeltaFooter, offset: number): Uint8Array {
  const fixedAt = footer.tables.length * FOOTER_DISK_BYTES;
  const bytes = new Uint8Array(fixedAt + TRAILER_BYTES);
  const view = viewOf(bytes);
  for (const [index, { offset: tablesAt, locations, zeros, nodes }] of footer.tables.entries()) {
    const at = index * FOOTER_DISK_BYTES;
    setUint64(view, at, tablesAt);
    for (const [place, table] of [locations, zeros, nodes].entries()) {
      view.setUint32(at + 8 + place * 8, table.count);
      view.setUint32(at + 12 + place * 8, table.crc);
    }
  }
  setUint64(view, fixedAt, footer.segmentsEnd);
  view.setUint32(fixedAt + 8, footer.segmentCount);
  view.setUint16(fixedAt + 12, footer.tables.length);
  view.setUint16(fixedAt + 14, VERSION);
  setUint64(view, fixedAt + 16, offset);
  view.setUint32(fixedAt + 24, crc32(bytes.subarray(0, fixedAt + 24)));
  view.setUint32(fixedAt + 28, FOOTER_MAGIC);
  return bytes;
}

/**
 * Decodes the footer from the last bytes of a file of `fileBytes` bytes; more than the footer may be given.
 * Throws storage_corrupt that names the file and the field.
 */
export function decodeFooter(tail: Uint8Array, fileBytes: number, where: string): DeltaFooter {
  const fixedAt = tail.length - TRAILER_BYTES;
  if (fixedAt < 0) throw corrupt(where, 'length');
  const view = viewOf(tail);
  if (view.getUint32(fixedAt + 28) !== FOOTER_MAGIC) throw corrupt(where, 'magic of the footer');
  const diskCount = view.getUint16(fixedAt + 12);
  const start = fixedAt - diskCount * FOOTER_DISK_BYTES;
  if (diskCount > DISKS_MAX || start < 0) throw corrupt(where, 'disk count of the footer');
  if (view.getUint32(fixedAt + 24) !== crc32(tail.subarray(start, fixedAt + 24))) {
    throw corrupt(where, 'checksum of the footer');
  }
  if (view.getUint16(fixedAt + 14) !== VERSION) throw corrupt(where, 'version of the footer');
  const offset = getUint64(view, fixedAt + 16);
  const segmentsEnd = getUint64(view, fixedAt);
  if (offset !== fileBytes - (tail.length - start) || segmentsEnd > offset) throw corrupt(where, 'length');
  const tables: DiskTables[] = [];
  for (let at = start; at < fixedAt; at += FOOTER_DISK_BYTES) {
    const table = (place: number): TableRef => ({
      count: view.getUint32(at + 8 + place * 8),
      crc: view.getUint32(at + 12 + place * 8),
    });
    const entry = { offset: getUint64(view, at), locations: table(0), zeros: table(1), nodes: table(2) };
    if (entry.offset < segmentsEnd || entry.offset + tablesBytes(entry) > offset)
      throw corrupt(where, 'tables');
    tables.push(entry);
  }
  return { segmentsEnd, segmentCount: view.getUint32(fixedAt + 8), tables };
}

function tablesBytes({ locations, zeros, nodes }: DiskTables): number {
  return locations.count * LOCATION_BYTES + zeros.count * ZERO_RUN_BYTES + nodes.count * NODE_BYTES;
}

/** Where a table of a disk begins. */
export function tableOffset(tables: DiskTables, kind: 'locations' | 'zeros' | 'nodes'): number {
  if (kind === 'locations') return tables.offset;
  const zerosAt = tables.offset + tables.locations.count * LOCATION_BYTES;
  return kind === 'zeros' ? zerosAt : zerosAt + tables.zeros.count * ZERO_RUN_BYTES;
}

/** Data blocks of one disk in a delta file, ascending: the block, its segment's offset, its place in there. */
export type Locations = { blocks: Float64Array; offsets: Float64Array; places: Uint16Array };
/** Runs of zero blocks, ascending. */
export type ZeroRuns = { first: Float64Array; count: Float64Array };
/** Nodes of level 1 that the delta touches, ascending, with the offset of each page of digests, or 0. */
export type Nodes = { nodes: Uint32Array; pages: Float64Array; digests: Uint8Array };

export function encodeLocations({ blocks, offsets, places }: Locations): Uint8Array {
  const bytes = new Uint8Array(blocks.length * LOCATION_BYTES);
  const view = viewOf(bytes);
  for (let i = 0, at = 0; i < blocks.length; i++, at += LOCATION_BYTES) {
    setUint64(view, at, blocks[i]!);
    view.setUint16(at + 8, Math.floor(offsets[i]! / 2 ** 32));
    view.setUint32(at + 10, offsets[i]! >>> 0);
    view.setUint16(at + 14, places[i]!);
  }
  return bytes;
}

export function decodeLocations(bytes: Uint8Array): Locations {
  const count = bytes.length / LOCATION_BYTES;
  const view = viewOf(bytes);
  const blocks = new Float64Array(count);
  const offsets = new Float64Array(count);
  const places = new Uint16Array(count);
  for (let i = 0, at = 0; i < count; i++, at += LOCATION_BYTES) {
    blocks[i] = getUint64(view, at);
    offsets[i] = view.getUint16(at + 8) * 2 ** 32 + view.getUint32(at + 10);
    places[i] = view.getUint16(at + 14);
  }
  return { blocks, offsets, places };
}

export function encodeZeroRuns({ first, count }: ZeroRuns): Uint8Array {
  const bytes = new Uint8Array(first.length * ZERO_RUN_BYTES);
  const view = viewOf(bytes);
  for (let i = 0; i < first.length; i++) {
    setUint64(view, i * ZERO_RUN_BYTES, first[i]!);
    setUint64(view, i * ZERO_RUN_BYTES + 8, count[i]!);
  }
  return bytes;
}

export function decodeZeroRuns(bytes: Uint8Array): ZeroRuns {
  const count = bytes.length / ZERO_RUN_BYTES;
  const view = viewOf(bytes);
  const runs = { first: new Float64Array(count), count: new Float64Array(count) };
  for (let i = 0; i < count; i++) {
    runs.first[i] = getUint64(view, i * ZERO_RUN_BYTES);
    runs.count[i] = getUint64(view, i * ZERO_RUN_BYTES + 8);
  }
  return runs;
}

export function encodeNodes({ nodes, pages, digests }: Nodes): Uint8Array {
  const bytes = new Uint8Array(nodes.length * NODE_BYTES);
  const view = viewOf(bytes);
  for (let i = 0, at = 0; i < nodes.length; i++, at += NODE_BYTES) {
    view.setUint32(at, nodes[i]!);
    setUint64(view, at + 8, pages[i]!);
    bytes.set(digests.subarray(i * DIGEST_BYTES, (i + 1) * DIGEST_BYTES), at + 16);
  }
  return bytes;
}

export function decodeNodes(bytes: Uint8Array): Nodes {
  const count = bytes.length / NODE_BYTES;
  const view = viewOf(bytes);
  const table = {
    nodes: new Uint32Array(count),
    pages: new Float64Array(count),
    digests: new Uint8Array(count * DIGEST_BYTES),
  };
  for (let i = 0, at = 0; i < count; i++, at += NODE_BYTES) {
    table.nodes[i] = view.getUint32(at);
    table.pages[i] = getUint64(view, at + 8);
    table.digests.set(bytes.subarray(at + 16, at + 32), i * DIGEST_BYTES);
  }
  return table;
}
