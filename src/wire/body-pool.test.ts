/** Memory of long frames: lent to one at a time, and kept within its bound. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { DIGEST_KEY } from '#/disk/digest-fixture.ts';
import { digestBlocks } from '#/disk/digest.ts';
import { BLOCK_BYTES } from '#/disk/disk.ts';
import { BodyPool } from './body-pool.ts';
import { BODIES_POOLED_MAX, BODY_BYTES_POOLED_MAX, BODY_BYTES_POOLED_MIN } from './limits.ts';

test('memory that was given back, by any part of it, is taken again, and never twice at once', () => {
  const pool = new BodyPool();
  const first = pool.take(BODY_BYTES_POOLED_MIN);
  assert.equal(first.length, BODY_BYTES_POOLED_MIN);
  const second = pool.take(BODY_BYTES_POOLED_MAX);
  assert(areApart(first, second));
  pool.give(first.subarray(40));
  assert.throws(() => pool.give(first), assert.AssertionError);
  assert(!areApart(pool.take(BODY_BYTES_POOLED_MAX), first));
  assert(areApart(pool.take(BODY_BYTES_POOLED_MAX), first));
});

test('short bodies have memory of their own, and no more than the bound is kept', () => {
  const pool = new BodyPool();
  const short = pool.take(BODY_BYTES_POOLED_MIN - 1);
  pool.give(short);
  const bodies = Array.from({ length: BODIES_POOLED_MAX + 1 }, () => pool.take(BODY_BYTES_POOLED_MAX));
  assert(bodies.every(({ buffer }) => buffer !== short.buffer));
  for (const body of bodies) pool.give(body);
  const again = Array.from({ length: BODIES_POOLED_MAX + 1 }, () => pool.take(BODY_BYTES_POOLED_MAX));
  assert.equal(again.filter(({ buffer }) => buffer === bodies[0]!.buffer).length, BODIES_POOLED_MAX);
  for (const [index, one] of again.entries()) {
    assert(again.slice(0, index).every((other) => areApart(one, other)));
  }
});

test('blocks at the end of a body begin where a block of the memory begins, and are digested there', () => {
  const body = new BodyPool().take(40 + 16 * 16 + 16 * BLOCK_BYTES);
  body.set(randomBytes(body.length));
  const blocks = body.subarray(body.length - 16 * BLOCK_BYTES);
  assert.equal(blocks.byteOffset % BLOCK_BYTES, 0);
  assert.deepEqual(digestBlocks(DIGEST_KEY, blocks), digestBlocks(DIGEST_KEY, Uint8Array.from(blocks)));
});

function areApart(a: Uint8Array, b: Uint8Array): boolean {
  const isBefore = a.byteOffset + a.length <= b.byteOffset;
  return a.buffer !== b.buffer || isBefore || b.byteOffset + b.length <= a.byteOffset;
}
