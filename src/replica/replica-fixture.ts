/** A source for tests of the replica: disks in memory, whose changes it packs into segments and points. */
import { hash } from 'node:crypto';
import { constants, zstdCompressSync } from 'node:zlib';
import { DIGEST_KEY } from '#/disk/digest-fixture.ts';
import { DIGEST_BYTES, digestBlocks } from '#/disk/digest.ts';
import { nextLevel, rootFromLevel1 } from '#/disk/digest-tree.ts';
import { blockCount, BLOCK_BYTES } from '#/disk/disk.ts';
import { isZero } from '#/disk/is-zero.ts';
import type { Clock } from '#/lib/clock.ts';
import { integerBelow, randomHex, type Random } from '#/lib/random.ts';
import { encodeSegment, type Run, type Segment } from '#/wire/segment.ts';
import type { PointRef } from '#/wire/messages.ts';
import type { CommitRequest, PointIntent, RecoveryPoint, Replica, ReplicaIdentity, View } from './replica.ts';

export const IDENTITY: ReplicaIdentity = {
  replicaId: 'r-1',
  vm: { uuid: '6f1de2a2-0c3b-4c8f-9a30-51c1b1f0a001', name: 'ledger' },
  siteId: 'east',
  digestKey: DIGEST_KEY,
};

export function fixedClock(nowMs = 1_700_000_000_000): Clock & { nowMs: number } {
  const clock = {
    nowMs,
    now: () => clock.nowMs,
    monotonicMs: () => clock.nowMs,
    sleep: () => Promise.resolve(),
  };
  return clock;
}

export type ModelDisks = Map<string, Uint8Array>;

/** A VM's disks; what its replica should hold at each point it was acknowledged. */
export class SourceModel {
  readonly disks: ModelDisks = new Map();
  /** Copies of the disks at acknowledged points, by sequence. */
  readonly points = new Map<number, ModelDisks>();
  readonly random: Random;
  /** The copy that the replica holds as its newest point. */
  base: { ref: PointRef; disks: ModelDisks } | undefined;
  epoch = 1;

  constructor(random: Random) {
    this.random = random;
  }

  addDisk(key: string, bytes: number): void {
    this.disks.set(key, new Uint8Array(bytes));
  }

  resize(key: string, bytes: number): void {
    const grown = new Uint8Array(bytes);
    grown.set(this.disks.get(key)!.subarray(0, bytes));
    this.disks.set(key, grown);
  }

  /** Writes to `count` random places: random bytes, compressible bytes, or zeroes. */
  scribble(count: number, blocksMax = 8): void {
    const keys = [...this.disks.keys()];
    for (let i = 0; i < count; i++) {
      const disk = this.disks.get(keys[integerBelow(this.random, keys.length)]!)!;
      const length = (1 + integerBelow(this.random, blocksMax)) * BLOCK_BYTES;
      const offset = integerBelow(this.random, blockCount(disk.length)) * BLOCK_BYTES;
      const target = disk.subarray(offset, offset + length);
      const kind = integerBelow(this.random, 4);
      if (kind === 0) target.fill(0);
      else if (kind === 1) target.fill(1 + integerBelow(this.random, 255));
      else target.set(repeated(this.random.bytes(64), target.length));
    }
  }

  intent(): PointIntent {
    const base = this.base?.ref;
    return {
      sequence: (base?.sequence ?? 0) + 1,
      stamp: randomHex(this.random, 16),
      momentMs: 1_700_000_000_000 + (base?.sequence ?? 0) * 5000,
      epoch: this.epoch,
      ...(base && { base }),
      disks: [...this.disks].map(([key, { length }]) => ({ key, bytes: length })),
    };
  }

  /** Segments for what differs from `held`, the disks as the replica has them. */
  segments(held: ModelDisks): Uint8Array[] {
    const segments: Uint8Array[] = [];
    for (const [disk, [key, content]] of [...this.disks].entries()) {
      segments.push(...diskSegments(disk, held.get(key) ?? new Uint8Array(0), content));
    }
    return segments;
  }

  /** Sends one point over what the replica said it has, and remembers it when it is acknowledged. */
  async send(replica: Replica, attachments: CommitRequest['attachments'] = []): Promise<RecoveryPoint> {
    const held = this.base?.disks ?? new Map<string, Uint8Array>();
    const intent = this.intent();
    const writer = await replica.begin(intent);
    const segments = this.segments(held);
    for (const segment of segments) {
      // What is released is used for something else, as the wire does.
      await writer.write(segment, () => segment.fill(0xff));
    }
    const point = await writer.commit(this.request(segments.length, attachments));
    this.acknowledged(intent);
    return point;
  }

  request(segmentCount: number, attachments: CommitRequest['attachments'] = []): CommitRequest {
    return { segmentCount, roots: this.roots(), attachments, consistency: 'crash' };
  }

  acknowledged({ sequence, stamp }: PointRef): void {
    const disks = copyDisks(this.disks);
    this.points.set(sequence, disks);
    this.base = { ref: { sequence, stamp }, disks };
  }

  roots(): string[] {
    return [...this.disks.values()].map(rootOf);
  }
}

export function copyDisks(disks: ModelDisks): ModelDisks {
  return new Map([...disks].map(([key, content]) => [key, content.slice()]));
}

export function rootOf(content: Uint8Array): string {
  return rootFromLevel1(nextLevel(digestBlocks(DIGEST_KEY, content)));
}

/** What differs between a view and the model; undefined when nothing does. */
export async function difference(view: View, model: ModelDisks): Promise<string | undefined> {
  const keys = view.point.disks.map(({ key }) => key);
  if (keys.join() !== [...model.keys()].join())
    return `disks ${keys.join()} instead of ${[...model.keys()].join()}`;
  for (const [index, key] of keys.entries()) {
    const expected = model.get(key)!;
    const disk = view.disks[index]!;
    if (disk.bytes !== expected.length) return `${key} of ${disk.bytes} bytes instead of ${expected.length}`;
    const found = new Uint8Array(disk.bytes);
    await disk.read(0, found);
    if (Buffer.compare(found, expected) === 0) continue;
    const at = found.findIndex((byte, offset) => byte !== expected[offset]);
    if (at >= 0) return `${key} differs at byte ${at}, block ${Math.floor(at / BLOCK_BYTES)}`;
  }
  return undefined;
}

export function sha256(bytes: Uint8Array): string {
  return hash('sha256', bytes);
}

function diskSegments(disk: number, held: Uint8Array, content: Uint8Array): Uint8Array[] {
  const segments: Uint8Array[] = [];
  const zeroes: Run[] = [];
  let blocks: number[] = [];
  const flush = (): void => {
    if (blocks.length > 0) segments.push(dataSegment(disk, blocks, content));
    blocks = [];
  };
  for (let block = 0; block < blockCount(content.length); block++) {
    const now = blockOf(content, block);
    if (Buffer.compare(now, blockOf(held, block)) === 0) continue;
    if (isZero(now)) extend(zeroes, block);
    else if (blocks.push(block) === 64) flush();
  }
  flush();
  if (zeroes.length > 0) segments.push(encodeSegment({ kind: 'zero', disk, runs: zeroes }));
  return segments;
}

export function dataSegment(disk: number, blocks: number[], content: Uint8Array): Uint8Array {
  const runs: Run[] = [];
  for (const block of blocks) extend(runs, block);
  const raw = Buffer.concat(blocks.map((block) => blockOf(content, block)));
  const packed = zstdCompressSync(raw, { params: { [constants.ZSTD_c_compressionLevel]: 1 } });
  const isSmaller = packed.length < raw.length;
  const segment: Segment = {
    kind: 'data',
    disk,
    runs,
    digests: digestBlocks(DIGEST_KEY, raw).subarray(0, blocks.length * DIGEST_BYTES),
    encoding: isSmaller ? 'zstd' : 'raw',
    payload: isSmaller ? packed : raw,
  };
  return encodeSegment(segment);
}

function extend(runs: Run[], block: number): void {
  const last = runs.at(-1);
  if (last !== undefined && last.first + last.count === block) last.count++;
  else runs.push({ first: block, count: 1 });
}

/** A block padded to its full length; zero beyond the end. */
function blockOf(content: Uint8Array, block: number): Uint8Array {
  const bytes = new Uint8Array(BLOCK_BYTES);
  bytes.set(content.subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES));
  return bytes;
}

/** Bytes that are neither random nor alike: a pattern, some of it worn. */
function repeated(pattern: Uint8Array, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length; at++) bytes[at] = pattern[at % pattern.length]! ^ (at >>> 6);
  return bytes;
}
