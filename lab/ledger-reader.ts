/**
 * Finds on the ledger's disks, from outside, what the guest itself finds at boot (lab/guest/init.sh has the
 * format).
 *
 * | bytes    | a record, one sector of text                                                |
 * |----------|-----------------------------------------------------------------------------|
 * | 0..498   | `ledger1 n=0000000042 t=1700000000000 boot=89abcdef `, filled up with dots  |
 * | 499..511 | ` crc=` and the CRC-32 of bytes 0..498 in hexadecimal                       |
 */
import { open } from 'node:fs/promises';
import { crc32 } from 'node:zlib';
import type { Disk } from '#/disk/disk.ts';
import { Failure } from '#/lib/failure.ts';

/** What the reader needs of a disk. */
export type LedgerDisk = Pick<Disk, 'bytes' | 'read'>;

export interface LedgerRecord {
  readonly number: number;
  /** The guest's clock when it began the record. */
  readonly timeMs: number;
  /** Random for each boot of the guest. */
  readonly boot: string;
}

export interface LedgerEnd {
  /** The last good record; undefined when the disk has none. */
  readonly last: LedgerRecord | undefined;
  /** A sector beside the last record, or one before it, is neither a record nor as new. */
  readonly isTorn: boolean;
}

export interface LedgerFound {
  readonly a: LedgerEnd;
  readonly b: LedgerEnd;
  readonly verdict: 'good' | 'torn' | 'inconsistent';
}

const SECTOR_BYTES = 512;
const TEXT_BYTES = 499;
const SLOTS_MAX = 65_536;
/** Records before the last one that are looked at too. */
const CHECKED_BACK = 64;
const RECORD = /^ledger1 n=(\d{10}) t=(\d{13}) boot=([0-9a-f]{8}) \.+ crc=([0-9a-f]{8})$/;

export async function readLedger(a: LedgerDisk, b: LedgerDisk): Promise<LedgerFound> {
  const slots = Math.min(SLOTS_MAX, Math.floor(Math.min(a.bytes, b.bytes) / SECTOR_BYTES / 2));
  const ends = { a: await readEnd(a, slots), b: await readEnd(b, slots) };
  const [lastA, lastB] = [ends.a.last?.number ?? 0, ends.b.last?.number ?? 0];
  if (ends.a.isTorn || ends.b.isTorn) return { ...ends, verdict: 'torn' };
  return { ...ends, verdict: lastA === lastB || lastA === lastB + 1 ? 'good' : 'inconsistent' };
}

/** The same from two raw images, such as an exported recovery point. */
export async function readLedgerFiles(pathA: string, pathB: string): Promise<LedgerFound> {
  await using a = await openImage(pathA);
  await using b = await openImage(pathB);
  return await readLedger(a, b);
}

async function openImage(path: string): Promise<LedgerDisk & AsyncDisposable> {
  const file = await open(path, 'r');
  const { size } = await file.stat();
  return {
    bytes: size,
    read: async (offset, target) => {
      const { bytesRead } = await file.read(target, 0, target.length, offset);
      if (bytesRead !== target.length) throw new Failure('storage_io', `read ${path} at ${offset}: short`);
    },
    [Symbol.asyncDispose]: () => file.close(),
  };
}

type Slot = LedgerRecord | 'empty' | 'torn';

/**
 * Sectors 0..i hold the numbers of the newest round in a row; those after hold the round before, or
 * nothing.
 */
async function readEnd(disk: LedgerDisk, slots: number): Promise<LedgerEnd> {
  const first = await readSlot(disk, 0);
  if (typeof first === 'string') {
    const previous = await readSlot(disk, slots - 1);
    return { last: typeof previous === 'string' ? undefined : previous, isTorn: first === 'torn' };
  }
  const isOfRound = (slot: Slot, index: number): slot is LedgerRecord =>
    typeof slot !== 'string' && slot.number === first.number + index;
  let last = { index: 0, record: first };
  for (let high = slots; high - last.index > 1;) {
    const middle = Math.floor((last.index + high) / 2);
    const slot = await readSlot(disk, middle);
    if (isOfRound(slot, middle)) last = { index: middle, record: slot };
    else high = middle;
  }
  let isTorn = last.index + 1 < slots && (await readSlot(disk, last.index + 1)) === 'torn';
  for (let back = 1; back <= Math.min(CHECKED_BACK, last.index); back++) {
    const index = last.index - back;
    if (!isOfRound(await readSlot(disk, index), index)) isTorn = true;
  }
  return { last: last.record, isTorn };
}

async function readSlot(disk: LedgerDisk, index: number): Promise<Slot> {
  const sector = new Uint8Array(SECTOR_BYTES);
  await disk.read(index * SECTOR_BYTES, sector);
  if (sector.every((byte) => byte === 0)) return 'empty';
  const match = RECORD.exec(Buffer.from(sector).toString('latin1'));
  if (match === null || Number.parseInt(match[4]!, 16) !== crc32(sector.subarray(0, TEXT_BYTES)))
    return 'torn';
  return { number: Number(match[1]), timeMs: Number(match[2]), boot: match[3]! };
}
