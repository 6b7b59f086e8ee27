/** Block digests, on this thread and on others. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { hasCode } from '#/lib/failure.ts';
import { SeededRandom } from '#/lib/random.ts';
import { digestBlocks, writeBlockDigest } from './digest.ts';
import { DigestWorkers } from './digest-workers.ts';
import { BLOCK_BYTES } from './disk.ts';
import { allocateShared, WorkerPool } from './worker-pool.ts';

function reference(block: Uint8Array): string {
  return createHash('sha256').update(block).digest('hex').slice(0, 32);
}

function hexAt(digests: Uint8Array, index: number): string {
  return Buffer.from(digests.subarray(index * 16, index * 16 + 16)).toString('hex');
}

test('a digest is the first half of SHA-256, and zero for the zero block', () => {
  const bytes = new Uint8Array(3 * BLOCK_BYTES);
  bytes.set(new SeededRandom(1).bytes(BLOCK_BYTES));
  bytes[3 * BLOCK_BYTES - 1] = 1;
  const digests = digestBlocks(bytes);
  assert.equal(digests.length, 48);
  assert.equal(hexAt(digests, 0), reference(bytes.subarray(0, BLOCK_BYTES)));
  assert.equal(hexAt(digests, 1), '0'.repeat(32));
  assert.equal(hexAt(digests, 2), reference(bytes.subarray(2 * BLOCK_BYTES)));
});

test('the digest of a block of ones never changes', () => {
  assert.equal(
    hexAt(digestBlocks(new Uint8Array(BLOCK_BYTES).fill(1)), 0),
    '3431383721510cf1c211de027cf958c1',
  );
});

test('a short last block counts as padded with zeroes', () => {
  const bytes = new Uint8Array(BLOCK_BYTES + 512).fill(5);
  const whole = new Uint8Array(BLOCK_BYTES);
  whole.fill(5, 0, 512);
  assert.equal(hexAt(digestBlocks(bytes), 1), reference(whole));
  assert.equal(hexAt(digestBlocks(new Uint8Array(512)), 0), '0'.repeat(32));
  assert.equal(digestBlocks(new Uint8Array(0)).length, 0);
});

test('writing the digest of a zero block clears what was there and says so', () => {
  const digests = new Uint8Array(48).fill(9);
  assert.equal(writeBlockDigest(new Uint8Array(BLOCK_BYTES), digests, 16), false);
  assert.deepEqual([digests[15], digests[16], digests[31], digests[32]], [9, 0, 0, 9]);
  assert.equal(writeBlockDigest(new Uint8Array(BLOCK_BYTES).fill(1), digests, 16), true);
});

test('threads give the same digests for shared and for private memory', async () => {
  await using workers = new DigestWorkers({ threads: 2 });
  const random = new SeededRandom(2);
  const batches = Array.from({ length: 12 }, (_, index) => {
    const content = random.bytes((index + 1) * BLOCK_BYTES);
    if (index % 2 === 0) return content;
    const shared = allocateShared(content.length);
    shared.set(content);
    return shared;
  });
  const digests = await Promise.all(batches.map((batch) => workers.digest(batch)));
  for (const [index, batch] of batches.entries()) assert.deepEqual(digests[index], digestBlocks(batch));
});

test('a pool refuses what its queue has no place for, and works on', async () => {
  await using workers = new DigestWorkers({ threads: 1, queueMax: 1 });
  const block = new Uint8Array(BLOCK_BYTES).fill(1);
  const results = await Promise.allSettled(Array.from({ length: 5 }, () => workers.digest(block)));
  const refused = results.filter((result) => result.status === 'rejected');
  assert.equal(refused.length, 2);
  assert.ok(refused.every((result) => hasCode(result.reason, 'limit_exceeded')));
  assert.deepEqual(await workers.digest(block), digestBlocks(block));
});

test('closing a pool fails what has no result yet', async () => {
  const workers = new DigestWorkers({ threads: 1 });
  const digest = workers.digest(new Uint8Array(BLOCK_BYTES));
  const settled = assert.rejects(digest, (error) => hasCode(error, 'cancelled'));
  await workers[Symbol.asyncDispose]();
  await settled;
  await assert.rejects(workers.digest(new Uint8Array(1)), (error) => hasCode(error, 'cancelled'));
});

test('a Failure thrown on a thread arrives as itself and the thread lives on', async () => {
  const module = new URL('./relative-path.ts', import.meta.url);
  await using pool = new WorkerPool<string, undefined>({ module, name: 'checkRelativePath', threads: 1 });
  await assert.rejects(pool.run('../out'), (error) => hasCode(error, 'usage_invalid'));
  await pool.run('a/b');
});

test('a bug on a thread fails the requests of the pool instead of leaving them open', async () => {
  const module = new URL('./digest.ts', import.meta.url);
  await using pool = new WorkerPool<undefined, undefined>({ module, name: 'digestBlocks', threads: 1 });
  await assert.rejects(pool.run(undefined), TypeError);
  await assert.rejects(pool.run(undefined), TypeError);
});
