/** Groups through the codec: what differs and nothing else, in segments that decode to the very blocks. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DIGEST_KEY } from '#/disk/digest-fixture.ts';
import { digestBlocks } from '#/disk/digest.ts';
import { parentDigest } from '#/disk/digest-tree.ts';
import { BLOCK_BYTES } from '#/disk/disk.ts';
import { chance, integerBelow, SeededRandom } from '#/lib/random.ts';
import { blocksIn, decodeSegment, joinSegment, segmentPayload, type Run } from '#/wire/segment.ts';
import { encodeGroup, extendRuns } from './block-codec.ts';
import { setRuns } from './pending-file.ts';

const FIRST = 512;
const BLOCKS = 256;

test('any group decodes to what it was: changed blocks as data or zeroes, unchanged ones not at all', () => {
  const seed = Date.now() % 1_000_000;
  console.log(`seed ${seed}`);
  for (let round = 0; round < 40; round++) check(new SeededRandom(seed + round), `seed ${seed + round}`);
});

function check(random: SeededRandom, what: string): void {
  const older = new Uint8Array(BLOCKS * BLOCK_BYTES);
  for (let block = 0; block < BLOCKS; block++) if (chance(random, 0.6)) fill(random, older, block);
  const newer = Uint8Array.from(older);
  const read: Run[] = [];
  const zero: Run[] = [];
  for (let block = 0; block < BLOCKS; block++) {
    if (chance(random, 0.3)) continue;
    if (chance(random, 0.3)) newer.fill(0, block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES);
    else if (chance(random, 0.5)) fill(random, newer, block);
    const isZero = newer.subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES).every((byte) => byte === 0);
    extendRuns(isZero && chance(random, 0.5) ? zero : read, FIRST + block);
  }
  const bytes = Buffer.concat(
    read.map(({ first, count }) =>
      newer.subarray((first - FIRST) * BLOCK_BYTES, (first - FIRST + count) * BLOCK_BYTES),
    ),
  );
  const change = encodeGroup({
    digestKey: DIGEST_KEY,
    disk: 3,
    first: FIRST,
    known: digestBlocks(DIGEST_KEY, older),
    read,
    bytes,
    zero,
    mayBeLong: chance(random, 0.5),
  });
  const result = Uint8Array.from(older);
  let count = 0;
  for (const encoded of change.segments) {
    const segment = decodeSegment(
      joinSegment(encoded),
      (disk) => (disk === 3 ? FIRST + BLOCKS : undefined),
      DIGEST_KEY,
    );
    assert(segment.kind === 'data');
    apply(result, segment.runs, segmentPayload(segment));
    count += blocksIn(segment.runs);
  }
  apply(result, change.zeroed, undefined);
  count += blocksIn(change.zeroed);
  assert.equal(Buffer.compare(result, newer), 0, what);
  assert.equal(change.changedCount, count, what);
  assert.equal(blocksIn(setRuns(change.changed)), count, what);
  assert.deepEqual(change.digests, digestBlocks(DIGEST_KEY, newer), what);
  if (count > 0) assert.deepEqual(change.node, parentDigest(change.digests), what);
  const differing = [...Array(BLOCKS).keys()].filter((block) => {
    const [from, to] = [block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES];
    return Buffer.compare(older.subarray(from, to), newer.subarray(from, to)) !== 0;
  });
  const bits = setRuns(change.changed).flatMap(({ first, count: n }) =>
    Array.from({ length: n }, (_, i) => first + i),
  );
  assert.deepEqual(bits, differing, what);
}

test('a group that does not shrink is one long segment where it may be, and else four', () => {
  const bytes = new SeededRandom(4).bytes(BLOCKS * BLOCK_BYTES);
  const known = new Uint8Array(BLOCKS * 16);
  const request = { digestKey: DIGEST_KEY, disk: 0, first: FIRST, known, bytes, zero: [] };
  const counts = [true, false].map((mayBeLong) => {
    const change = encodeGroup({ ...request, read: [{ first: FIRST, count: BLOCKS }], mayBeLong });
    return change.segments.map(({ payload }) => payload.length / BLOCK_BYTES);
  });
  assert.deepEqual(counts, [[256], [64, 64, 64, 64]]);
  const compressible = { ...request, bytes: new Uint8Array(bytes.length).fill(1), mayBeLong: true };
  const change = encodeGroup({ ...compressible, read: [{ first: FIRST, count: BLOCKS }] });
  assert.equal(change.segments.length, 4, 'what is decompressed as a whole is short');
});

/** Random bytes, or the same byte throughout, which compresses. */
function fill(random: SeededRandom, target: Uint8Array, block: number): void {
  const at = block * BLOCK_BYTES;
  target.fill(1 + integerBelow(random, 255), at, at + BLOCK_BYTES);
  if (chance(random, 0.5)) target.set(random.bytes(BLOCK_BYTES), at);
}

function apply(target: Uint8Array, runs: readonly Run[], payload: Uint8Array | undefined): void {
  let from = 0;
  for (const { first, count } of runs) {
    const at = (first - FIRST) * BLOCK_BYTES;
    const length = count * BLOCK_BYTES;
    if (payload === undefined) target.fill(0, at, at + length);
    else target.set(payload.subarray(from, from + length), at);
    from += length;
  }
}
