/** Block digests against their definition in plain arithmetic, and the pool of threads. */
import assert from 'node:assert/strict';
import { hkdfSync } from 'node:crypto';
import { test } from 'node:test';
import { hasCode } from '#/lib/failure.ts';
import { SeededRandom } from '#/lib/random.ts';
import { DIGEST_KEY } from './digest-fixture.ts';
import { digestBlocks, haveDigests } from './digest.ts';
import { BLOCK_BYTES } from './disk.ts';
import { isZero } from './is-zero.ts';
import { allocateShared, WorkerPool } from './worker-pool.ts';

const OTHER_KEY = 'a1'.repeat(32);
const MODULUS = 2n ** 64n;
const WORD_KEY_BYTES = 4192;

/** docs/storage-format.md, section 1, word by word, of a block that is not zero. */
function reference(key: string, block: Uint8Array): string {
  const keys = hkdfSync(
    'sha256',
    Buffer.from(key, 'hex'),
    '',
    'antipode block digest 1',
    WORD_KEY_BYTES + 288,
  );
  const view = new DataView(keys);
  const words = new DataView(block.buffer, block.byteOffset, BLOCK_BYTES);
  const sums: bigint[] = [];
  for (let pass = 0; pass < 4; pass++) {
    let sum = 0n;
    for (let stride = 0; stride < BLOCK_BYTES; stride += 32) {
      for (let at = stride; at < stride + 16; at += 4) {
        const first = (words.getUint32(at, true) + view.getUint32(at + pass * 32, true)) >>> 0;
        const second = (words.getUint32(at + 16, true) + view.getUint32(at + 16 + pass * 32, true)) >>> 0;
        sum = (sum + BigInt(first) * BigInt(second)) % MODULUS;
      }
    }
    sums.push(sum % 2n ** 32n, sum / 2n ** 32n);
  }
  const digest = Buffer.alloc(16);
  for (let word = 0; word < 4; word++) {
    const factor = (index: number): bigint => view.getBigUint64(WORD_KEY_BYTES + word * 72 + index * 8, true);
    let total = factor(0);
    for (const [index, sum] of sums.entries()) total = (total + sum * factor(index + 1)) % MODULUS;
    digest.writeUInt32LE(Number(total / 2n ** 32n), word * 4);
  }
  return digest.toString('hex');
}

function hexAt(digests: Uint8Array, index: number): string {
  return Buffer.from(digests.subarray(index * 16, index * 16 + 16)).toString('hex');
}

test('digests are what their definition says, over several batches, and zero for the zero block', () => {
  const random = new SeededRandom(1);
  const bytes = random.bytes(35 * BLOCK_BYTES);
  bytes.fill(0, 17 * BLOCK_BYTES, 18 * BLOCK_BYTES);
  bytes.fill(0xff, 18 * BLOCK_BYTES, 19 * BLOCK_BYTES);
  for (const key of [DIGEST_KEY, OTHER_KEY, DIGEST_KEY]) {
    const digests = digestBlocks(key, bytes);
    assert.equal(digests.length, 35 * 16);
    for (let block = 0; block < 35; block++) {
      const content = bytes.subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES);
      assert.equal(
        hexAt(digests, block),
        block === 17 ? '0'.repeat(32) : reference(key, content),
        `${block}`,
      );
    }
    assert(haveDigests(key, bytes, digests));
    digests[34 * 16 + 15]! ^= 1;
    assert(!haveDigests(key, bytes, digests));
  }
});

test('every bit of a block counts', () => {
  const block = new SeededRandom(3).bytes(BLOCK_BYTES);
  const digest = digestBlocks(DIGEST_KEY, block);
  for (let bit = 0; bit < BLOCK_BYTES * 8; bit += 7) {
    block[bit >> 3]! ^= 1 << (bit & 7);
    assert(!haveDigests(DIGEST_KEY, block, digest), `bit ${bit}`);
    block[bit >> 3]! ^= 1 << (bit & 7);
  }
  const single = new Uint8Array(BLOCK_BYTES);
  for (let at = 0; at < BLOCK_BYTES; at++) {
    single[at] = 1;
    assert.notEqual(hexAt(digestBlocks(DIGEST_KEY, single), 0), '0'.repeat(32));
    single[at] = 0;
  }
});

test('the digest of a block of ones under one key never changes', () => {
  assert.equal(
    hexAt(digestBlocks(DIGEST_KEY, new Uint8Array(BLOCK_BYTES).fill(1)), 0),
    '9e51f94dfdfc83d183da69929c525071',
  );
});

test('a short last block counts as padded with zeroes, whatever was digested before', () => {
  digestBlocks(DIGEST_KEY, new Uint8Array(4 * BLOCK_BYTES).fill(7));
  const bytes = new Uint8Array(BLOCK_BYTES + 512).fill(5);
  const whole = new Uint8Array(BLOCK_BYTES);
  whole.fill(5, 0, 512);
  assert.equal(hexAt(digestBlocks(DIGEST_KEY, bytes), 1), reference(DIGEST_KEY, whole));
  assert.equal(hexAt(digestBlocks(DIGEST_KEY, new Uint8Array(512)), 0), '0'.repeat(32));
  assert.equal(digestBlocks(DIGEST_KEY, new Uint8Array(0)).length, 0);
});

/** A function of one argument that is there already: what a pool runs in these tests. */
function zeroPool(options: { threads: number; queueMax?: number }): WorkerPool<Uint8Array, boolean> {
  const module = new URL('./is-zero.ts', import.meta.url);
  return new WorkerPool({ module, name: 'isZero', ...options });
}

test('threads see shared and private memory alike', async () => {
  await using pool = zeroPool({ threads: 2 });
  const batches = Array.from({ length: 12 }, (_, index) => {
    const content = new Uint8Array((index + 1) * BLOCK_BYTES).fill(index % 3, -1);
    if (index % 2 === 0) return content;
    const shared = allocateShared(content.length);
    shared.set(content);
    return shared;
  });
  const expected = batches.map((batch) => isZero(batch));
  assert.deepEqual(await Promise.all(batches.map((batch) => pool.run(batch))), expected);
});

test('a pool refuses what its queue has no place for, and works on', async () => {
  await using pool = zeroPool({ threads: 1, queueMax: 1 });
  const block = new Uint8Array(BLOCK_BYTES).fill(1);
  const results = await Promise.allSettled(Array.from({ length: 5 }, () => pool.run(block)));
  const refused = results.filter((result) => result.status === 'rejected');
  assert.equal(refused.length, 2);
  assert.ok(refused.every((result) => hasCode(result.reason, 'limit_exceeded')));
  assert.equal(await pool.run(block), false);
});

test('closing a pool fails what has no result yet', async () => {
  const pool = zeroPool({ threads: 1 });
  const settled = assert.rejects(pool.run(new Uint8Array(BLOCK_BYTES)), (error) =>
    hasCode(error, 'cancelled'),
  );
  await pool[Symbol.asyncDispose]();
  await settled;
  await assert.rejects(pool.run(new Uint8Array(1)), (error) => hasCode(error, 'cancelled'));
});

test('a Failure thrown on a thread arrives as itself and the thread lives on', async () => {
  const module = new URL('./relative-path.ts', import.meta.url);
  await using pool = new WorkerPool<string, undefined>({ module, name: 'checkRelativePath', threads: 1 });
  await assert.rejects(pool.run('../out'), (error) => hasCode(error, 'usage_invalid'));
  await pool.run('a/b');
});

test('a bug on a thread fails the requests of the pool instead of leaving them open', async () => {
  const module = new URL('./is-zero.ts', import.meta.url);
  await using pool = new WorkerPool<undefined, undefined>({ module, name: 'isZero', threads: 1 });
  await assert.rejects(pool.run(undefined), TypeError);
  await assert.rejects(pool.run(undefined), TypeError);
});
