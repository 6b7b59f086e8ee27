/**
 * I1: a recovery point, read through the production view, equals the source at its moment, byte for byte, on all
 * disks, and its ledger records are in order across them.
 */
import { BLOCK_BYTES } from '#/disk/disk.ts';
import { integerBelow, type Random } from '#/lib/random.ts';
import type { View } from '#/replica/replica.ts';
import { LEDGER_BLOCK, LEDGER_DISKS, recordIn } from './guest.ts';
import { isZeroIn, readPages, type DiskPages } from './guest-pages.ts';
import type { PointLedger } from './point-ledger.ts';

export type Reading = { random: Random; pause?: () => Promise<void> };

/** Most that one read asks for; the lengths are drawn, and so are not aligned to anything but sectors. */
const READ_SECTORS_MAX = 400;
const SECTOR_BYTES = 512;
const READ_BYTES_MAX = READ_SECTORS_MAX * SECTOR_BYTES;

/** What is wrong with the point, or undefined. Rejects as its reads do. */
export async function comparePoint(
  view: View,
  ledger: PointLedger,
  reading: Reading,
): Promise<string | undefined> {
  const { sequence, momentMs, disks } = view.point;
  const moment = ledger.moment(momentMs);
  if (!moment) return `point ${sequence} is of moment ${momentMs}, which never was`;
  const records = new Map<string, number>();
  for (const [index, { key, bytes }] of disks.entries()) {
    const truth = moment.find((disk) => disk.key === key);
    const disk = view.disks[index];
    if (!truth || !disk || truth.bytes !== bytes || disk.bytes !== bytes) {
      return `point ${sequence}: ${key} has ${disk?.bytes} bytes, at the source ${truth?.bytes}`;
    }
    const wrong = (await compareDisk(disk, truth, reading)) ?? (await compareExtents(disk, truth));
    if (wrong !== undefined) return `point ${sequence}, ${key}: ${wrong}`;
    if (LEDGER_DISKS.includes(key)) records.set(key, await ledgerRecord(disk));
  }
  const wrong = orderOf(records);
  return wrong === undefined ? undefined : `point ${sequence}: ${wrong}`;
}

/** The second disk has the first one's record, or the one before it. */
function orderOf(records: Map<string, number>): string | undefined {
  const [a, b] = LEDGER_DISKS.map((key) => records.get(key));
  if (a === undefined || b === undefined || b === a || b === a - 1) return undefined;
  return `record ${b} on the second disk, ${a} on the first`;
}

type Readable = View['disks'][number];

async function compareDisk(
  disk: Readable,
  truth: DiskPages,
  { random, pause }: Reading,
): Promise<string | undefined> {
  const buffers = { found: new Uint8Array(READ_BYTES_MAX), expected: new Uint8Array(READ_BYTES_MAX) };
  for (let at = 0; at < truth.bytes;) {
    const length = Math.min(truth.bytes - at, SECTOR_BYTES * (1 + integerBelow(random, READ_SECTORS_MAX)));
    const found = buffers.found.subarray(0, length);
    const expected = buffers.expected.subarray(0, length);
    await disk.read(at, found);
    readPages(truth, at, expected);
    if (Buffer.compare(found, expected) !== 0) {
      const byte = found.findIndex((value, index) => value !== expected[index]);
      return `byte ${at + byte} (block ${Math.floor((at + byte) / BLOCK_BYTES)}) is not the source's`;
    }
    at += length;
    await pause?.();
  }
  return undefined;
}

/** What the map calls zero must be zero. */
async function compareExtents(disk: Readable, truth: DiskPages): Promise<string | undefined> {
  for (let at = 0; at < truth.bytes;) {
    for (const { offset, length, kind } of await disk.extents(at, truth.bytes - at)) {
      if (offset !== at || length < 1) return `extent at ${offset}, expected at ${at}`;
      at += length;
      if (kind === 'zero' && !isZeroIn(truth, offset, length)) return `extent at ${offset} is called zero`;
    }
  }
  return undefined;
}

async function ledgerRecord(disk: Readable): Promise<number> {
  const block = new Uint8Array(BLOCK_BYTES);
  await disk.read(LEDGER_BLOCK * BLOCK_BYTES, block);
  return recordIn(block);
}
