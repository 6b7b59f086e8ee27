import assert from 'node:assert/strict';
import { test } from 'node:test';
import { zstdCompressSync } from 'node:zlib';
import { DIGEST_KEY } from '#/disk/digest-fixture.ts';
import { digestBlocks } from '#/disk/digest.ts';
import { BLOCK_BYTES } from '#/disk/disk.ts';
import { Failure } from '#/lib/failure.ts';
import { decodeSegment, encodeSegment, segmentPayload, type Segment } from './segment.ts';

const blocks = (): number => 1_000_000;
const small: Segment = {
  kind: 'data',
  disk: 1,
  runs: [
    { first: 7, count: 1 },
    { first: 2 ** 33, count: 1 },
  ],
  digests: new Uint8Array(32).fill(0xab),
  encoding: 'zstd',
  payload: new Uint8Array(zstdCompressSync(new Uint8Array(2 * BLOCK_BYTES))),
};

test('a zero segment, byte for byte', () => {
  const bytes = encodeSegment({ kind: 'zero', disk: 2, runs: [{ first: 2 ** 32 + 5, count: 9 }] });
  const checksum = Buffer.from(bytes.subarray(20, 24)).toString('hex');
  assert.equal(
    Buffer.from(bytes).toString('hex'),
    `4150533102000002000000010000000900000000${checksum}00010000000500000009`,
  );
  assert.equal(checksum, 'd338c309');
});

test('what was encoded decodes to the same segment', () => {
  const decoded = decodeSegment(encodeSegment(small), () => 2 ** 34, DIGEST_KEY);
  assert.deepEqual(decoded, { ...small, digests: decoded.kind === 'data' ? decoded.digests : undefined });
  assert(decoded.kind === 'data');
  assert.deepEqual(Uint8Array.from(decoded.digests), small.digests);
  assert.deepEqual(segmentPayload(decoded), Buffer.alloc(2 * BLOCK_BYTES));
});

const CONTENT = new Uint8Array(2 * BLOCK_BYTES).map((_, index) => index % 251);
const RAW: Segment = {
  ...small,
  digests: digestBlocks(DIGEST_KEY, CONTENT),
  encoding: 'raw',
  payload: CONTENT,
};

test('a segment of bytes as they are is checked by the digests, under the key of its replica', () => {
  const bytes = encodeSegment(RAW);
  const decoded = decodeSegment(bytes, () => 2 ** 34, DIGEST_KEY);
  assert(decoded.kind === 'data');
  assert.deepEqual(segmentPayload(decoded), CONTENT);
  assert.throws(() => decodeSegment(bytes, () => 2 ** 34, 'a0'.repeat(32)), /wrong digest/);
});

for (const [name, segment] of Object.entries({ compressed: small, 'as they are': RAW })) {
  test(`every prefix and every flipped bit of a segment of bytes ${name} is refused`, () => {
    refusesDamage(encodeSegment(segment));
  });
}

function refusesDamage(bytes: Uint8Array): void {
  const refuse = (damaged: Uint8Array, what: string): void => {
    assert.throws(
      () => decodeSegment(damaged, () => 2 ** 34, DIGEST_KEY),
      (error) => error instanceof Failure && error.code === 'protocol_corrupt',
      what,
    );
  };
  for (let n = 0; n < bytes.length; n++) refuse(bytes.subarray(0, n), `prefix ${n}`);
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const damaged = bytes.slice();
    damaged[bit >> 3]! ^= 1 << (bit & 7);
    refuse(damaged, `bit ${bit}`);
  }
}

test('a segment outside its disk, or of no disk, is refused', () => {
  const bytes = encodeSegment({ kind: 'zero', disk: 0, runs: [{ first: 999_999, count: 2 }] });
  assert.throws(() => decodeSegment(bytes, blocks, DIGEST_KEY), /wrong run/);
  assert.throws(() => decodeSegment(bytes, () => undefined, DIGEST_KEY), /wrong disk/);
});

test('a payload that decompresses to another length is refused', () => {
  const payload = new Uint8Array(zstdCompressSync(new Uint8Array(3 * BLOCK_BYTES)));
  const decoded = decodeSegment(encodeSegment({ ...small, payload }), () => 2 ** 34, DIGEST_KEY);
  assert(decoded.kind === 'data');
  assert.throws(() => segmentPayload(decoded), Failure);
});
