import assert from 'node:assert/strict';
import { test } from 'node:test';
import { crc32 } from 'node:zlib';
import { readLedger, type LedgerDisk } from './ledger-reader.ts';

const SLOTS = 16;

/** A disk of 16 slots onto which the records 1..count were written in turn. */
function diskWith(count: number): LedgerDisk & { sectors: Buffer } {
  const sectors = Buffer.alloc(SLOTS * 512 * 2);
  for (let n = 1; n <= count; n++) {
    const head = `ledger1 n=${String(n).padStart(10, '0')} t=1700000000000 boot=0123abcd `;
    const text = Buffer.from(head.padEnd(499, '.'));
    const crc = ` crc=${crc32(text).toString(16).padStart(8, '0')}`;
    Buffer.concat([text, Buffer.from(crc)]).copy(sectors, ((n - 1) % SLOTS) * 512);
  }
  return {
    sectors,
    bytes: sectors.length,
    read: async (offset, target) => {
      target.set(sectors.subarray(offset, offset + target.length));
    },
  };
}

test('the last record is found for every number of records, over three rounds of the disk', async () => {
  for (let count = 0; count <= SLOTS * 3 + 1; count++) {
    const found = await readLedger(diskWith(count), diskWith(count));
    assert.equal(found.a.last?.number ?? 0, count);
    assert.equal(found.verdict, 'good');
  }
});

test('disk B may be one record behind, and neither two behind nor ahead', async () => {
  const verdict = async (a: number, b: number) => (await readLedger(diskWith(a), diskWith(b))).verdict;
  assert.equal(await verdict(20, 19), 'good');
  assert.equal(await verdict(1, 0), 'good');
  assert.equal(await verdict(20, 18), 'inconsistent');
  assert.equal(await verdict(19, 20), 'inconsistent');
});

test('a changed byte in the last record makes the record before it the last and the disk torn', async () => {
  for (let byte = 0; byte < 512; byte++) {
    const disk = diskWith(21);
    disk.sectors[4 * 512 + byte]! ^= 0x01;
    const { a } = await readLedger(disk, diskWith(21));
    assert.deepEqual([a.last?.number, a.isTorn], [20, true], `byte ${byte}`);
  }
});

test('a lost record before the last one is seen', async () => {
  const disk = diskWith(12);
  disk.sectors.fill(0, 9 * 512, 10 * 512);
  const { verdict } = await readLedger(disk, diskWith(12));
  assert.notEqual(verdict, 'good');
});
