/** The small parts that keep both sides bounded: the gate, the queue of bytes and the pool of buffers. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Failure, hasCode } from '#/lib/failure.ts';
import { BufferPool } from './buffer-pool.ts';
import { ByteQueue } from './byte-queue.ts';
import { InFlightGate } from './in-flight-gate.ts';

test('a gate lets in by count and bytes, in order, and an item above the bound alone', async () => {
  const gate = new InFlightGate({ count: 2, bytes: 100, waiting: 8 });
  const entered: string[] = [];
  const enter = async (name: string, bytes: number): Promise<void> => {
    await gate.enter(bytes);
    entered.push(name);
  };
  const all = [enter('a', 60), enter('b', 60), enter('c', 10), enter('d', 500), enter('e', 1)];
  const settle = (): Promise<unknown> => new Promise(setImmediate);
  await settle();
  assert.deepEqual(entered, ['a']);
  gate.leave(60);
  await settle();
  assert.deepEqual(entered, ['a', 'b', 'c']);
  gate.leave(60);
  await settle();
  assert.deepEqual(entered, ['a', 'b', 'c']);
  gate.leave(10);
  await settle();
  assert.deepEqual(entered, ['a', 'b', 'c', 'd']);
  gate.leave(500);
  await Promise.all(all);
  assert.equal(gate.loadBytes, 1);
});

test('a gate forgets who gave up, refuses who is too many and fails who waits', async () => {
  const gate = new InFlightGate({ count: 1, bytes: 100, waiting: 2 });
  await gate.enter(10);
  const controller = new AbortController();
  const reason = new Error('enough');
  const first = assert.rejects(gate.enter(20, controller.signal)!, reason);
  const second = gate.enter(30)!;
  assert.throws(
    () => gate.enter(1),
    (error) => hasCode(error, 'limit_exceeded'),
  );
  assert.equal(gate.loadBytes, 60);
  controller.abort(reason);
  await first;
  assert.equal(gate.loadBytes, 40);
  assert.throws(() => gate.enter(1, controller.signal), reason);
  gate.leave(10);
  await second;
  const third = gate.enter(1)!;
  gate.fail(new Failure('unreachable', 'gone'));
  await assert.rejects(third, { code: 'unreachable' });
});

test('a byte queue gives exact counts whatever the pieces, says when it is over, and ends after its last byte', async () => {
  const queue = new ByteQueue(4);
  let drained = 0;
  queue.onDrain = () => drained++;
  assert.equal(queue.push(Uint8Array.of(1, 2, 3)), true);
  assert.equal(queue.push(Uint8Array.of(4, 5, 6)), false);
  assert.deepEqual([...(await queue.read(4))], [1, 2, 3, 4]);
  assert.equal(drained, 1);
  const reading = queue.read(3);
  queue.push(Uint8Array.of(7));
  assert.deepEqual([...(await reading)], [5, 6, 7]);
  queue.push(Uint8Array.of(8));
  queue.end(new Failure('unreachable', 'gone'));
  assert.deepEqual([...(await queue.read(1))], [8]);
  await assert.rejects(queue.read(1), { code: 'unreachable' });
});

test('a buffer pool gives memory out again, never twice at once, and keeps no more than its bound', () => {
  const pool = new BufferPool(16_384);
  const a = pool.take(5000);
  const b = pool.take(5000);
  assert.equal(a.length, 5000);
  assert.notEqual(a.buffer, b.buffer);
  pool.give(a);
  pool.give(b);
  const again = [pool.take(8192).buffer, pool.take(4097).buffer];
  assert.deepEqual(new Set(again), new Set([a.buffer, b.buffer]));
  assert.notEqual(pool.take(8192).buffer, a.buffer);
  const large = pool.take(32_768);
  pool.give(large);
  assert.notEqual(pool.take(32_768).buffer, large.buffer);
});
