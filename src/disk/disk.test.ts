/** Every disk of this folder and every wrapper under the one contract, and what each adds to it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Clock } from '#/lib/clock.ts';
import { Failure, hasCode } from '#/lib/failure.ts';
import { CountedDisk } from './counted-disk.ts';
import { diskContract } from './disk-contract.ts';
import type { Disk } from './disk.ts';
import { FaultyDisk, type FaultRule } from './faulty-disk.ts';
import { FileDisk } from './file-disk.ts';
import { isZero } from './is-zero.ts';
import { MemoryDisk } from './memory-disk.ts';
import { MemoryFileSystem } from './memory-file-system.ts';
import { ThrottledDisk } from './throttled-disk.ts';

/** Time that passes when somebody sleeps, and only then. */
function steppedClock(): Clock & { nowMs: number } {
  return {
    nowMs: 0,
    now() {
      return this.nowMs;
    },
    monotonicMs() {
      return this.nowMs;
    },
    async sleep(ms, signal) {
      signal?.throwIfAborted();
      const until = this.nowMs + ms;
      await Promise.resolve();
      this.nowMs = Math.max(this.nowMs, until);
    },
  };
}

async function fileDisk(content: Uint8Array): Promise<Disk> {
  const file = await new MemoryFileSystem().open('disk', 'create');
  await file.write(0, content);
  return FileDisk.open(file);
}

const noFault: FaultRule = () => undefined;

diskContract('memory', async (content) => new MemoryDisk(content));
diskContract('a file', fileDisk);
diskContract('a file whose owner knows its zeroes', async (content) => {
  const file = await new MemoryFileSystem().open('disk', 'create');
  await file.write(0, content);
  const map = new MemoryDisk(content);
  return FileDisk.open(file, (offset, length, signal) => map.extents(offset, length, signal));
});
diskContract('a throttled disk', async (content) => {
  return new ThrottledDisk(new MemoryDisk(content), { bytesPerSecond: 1e6, clock: steppedClock() });
});
diskContract('a faulty disk without faults', async (content) => {
  return new FaultyDisk(new MemoryDisk(content), { rule: noFault, clock: steppedClock() });
});
diskContract('a counted disk', async (content) => new CountedDisk(new MemoryDisk(content)));

test('a file of an odd length ends with zeroes up to a whole sector', async () => {
  const file = await new MemoryFileSystem().open('disk', 'create');
  await file.write(0, new Uint8Array(700).fill(3));
  await using disk = await FileDisk.open(file);
  assert.equal(disk.bytes, 1024);
  const target = new Uint8Array(1024).fill(9);
  await disk.read(0, target);
  assert.ok(target.subarray(0, 700).every((byte) => byte === 3));
  assert.ok(target.subarray(700).every((byte) => byte === 0));
});

test('throttled reads together take the time of all their bytes', async () => {
  const clock = steppedClock();
  const disk = new ThrottledDisk(new MemoryDisk(new Uint8Array(65_536)), { bytesPerSecond: 4096, clock });
  await Promise.all([0, 4096, 8192].map((offset) => disk.read(offset, new Uint8Array(4096))));
  assert.equal(clock.nowMs, 3000);
});

test('a throttled read that is aborted gives its time back', async () => {
  const clock = steppedClock();
  const controller = new AbortController();
  const waiting: Clock = {
    ...clock,
    sleep: (ms, signal) =>
      signal === undefined
        ? clock.sleep(ms)
        : new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error))),
  };
  const disk = new ThrottledDisk(new MemoryDisk(new Uint8Array(65_536)), {
    bytesPerSecond: 4096,
    clock: waiting,
  });
  const read = disk.read(0, new Uint8Array(40_960), controller.signal);
  const reason = new Error('enough');
  controller.abort(reason);
  await assert.rejects(read, reason);
  await disk.read(0, new Uint8Array(4096));
  assert.equal(clock.nowMs, 1000);
});

test('a faulty disk fails and delays the reads its rule chooses and no others', async () => {
  const clock = steppedClock();
  const rule: FaultRule = ({ offset, index }) => {
    if (offset === 4096) return { kind: 'fail', failure: new Failure('storage_io', 'read a broken sector') };
    return index === 2 ? { kind: 'delay', ms: 70 } : undefined;
  };
  const disk = new FaultyDisk(new MemoryDisk(new Uint8Array(65_536)), { rule, clock });
  const block = new Uint8Array(4096);
  await disk.read(0, block);
  await assert.rejects(disk.read(4096, block), (error) => hasCode(error, 'storage_io'));
  assert.equal(clock.nowMs, 0);
  await disk.read(8192, block);
  assert.equal(clock.nowMs, 70);
});

test('a counted disk counts', async () => {
  const disk = new CountedDisk(new MemoryDisk(new Uint8Array(8192)));
  await Promise.all([disk.read(0, new Uint8Array(4096)), disk.read(4096, new Uint8Array(4096))]);
  await assert.rejects(disk.read(8192, new Uint8Array(1)));
  await disk.extents(0, 8192);
  assert.deepEqual(
    [disk.readCount, disk.readBytes, disk.extentsCount, disk.inFlightCount, disk.inFlightPeak],
    [3, 8192, 1, 0, 2],
  );
});

test('zero is every byte zero, wherever the other one hides', () => {
  for (const length of [0, 1, 15, 4096, 65_536, 65_537, 200_000]) {
    const bytes = new Uint8Array(length);
    assert.equal(isZero(bytes), true);
    for (const at of [0, 1, length >> 1, length - 2, length - 1]) {
      if (at < 0 || at >= length) continue;
      bytes[at] = 1;
      assert.equal(isZero(bytes), false, `${at} of ${length}`);
      bytes[at] = 0;
    }
  }
});
