/** Memory of long frames: lent to one at a time, and kept within its bound. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BodyPool } from './body-pool.ts';
import { BODIES_POOLED_MAX, BODY_BYTES_POOLED_MAX, BODY_BYTES_POOLED_MIN } from './limits.ts';

test('memory that was given back, by any part of it, is taken again, and never twice at once', () => {
  const pool = new BodyPool();
  const first = pool.take(BODY_BYTES_POOLED_MIN);
  assert.equal(first.length, BODY_BYTES_POOLED_MIN);
  const second = pool.take(BODY_BYTES_POOLED_MAX);
  assert.notEqual(first.buffer, second.buffer);
  pool.give(first.subarray(40));
  assert.throws(() => pool.give(first), assert.AssertionError);
  assert.equal(pool.take(BODY_BYTES_POOLED_MAX).buffer, first.buffer);
  assert.notEqual(pool.take(BODY_BYTES_POOLED_MAX).buffer, first.buffer);
});

test('short bodies have memory of their own, and no more than the bound is kept', () => {
  const pool = new BodyPool();
  const short = pool.take(BODY_BYTES_POOLED_MIN - 1);
  pool.give(short);
  const bodies = Array.from({ length: BODIES_POOLED_MAX + 1 }, () => pool.take(BODY_BYTES_POOLED_MAX));
  assert(bodies.every(({ buffer }) => buffer !== short.buffer));
  for (const body of bodies) pool.give(body);
  const again = Array.from({ length: BODIES_POOLED_MAX + 1 }, () => pool.take(BODY_BYTES_POOLED_MAX).buffer);
  const known = new Set(bodies.map(({ buffer }) => buffer));
  assert.equal(again.filter((buffer) => known.has(buffer)).length, BODIES_POOLED_MAX);
});
