/**
 * The tests that every Disk and every wrapper of one passes: the contract of `disk.ts`, executable.
 *
 * A suite names itself and says how to make a disk that holds given bytes; it is called from a `.test.ts` file.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { hasCode } from '#/lib/failure.ts';
import { integerBelow, SeededRandom } from '#/lib/random.ts';
import { EXTENTS_MAX, type Disk, type Extent } from './disk.ts';

export type DiskMaker = (content: Uint8Array) => Promise<Disk>;

/** Data, a long run of zeroes, data, and an end inside a block: 512 bytes more than a whole number of them. */
export function contractContent(): Uint8Array {
  const content = new Uint8Array(2 * 1024 * 1024 + 512);
  const random = new SeededRandom(7);
  content.set(random.bytes(300_000), 0);
  content.set(random.bytes(200_000), 1_500_000);
  content.set(random.bytes(512), content.length - 512);
  return content;
}

export function diskContract(name: string, make: DiskMaker): void {
  describe(`${name} as a disk`, { timeout: 60_000 }, () => {
    readContract(make);
    extentsContract(make);
    refusalContract(make);
  });
}

function readContract(make: DiskMaker): void {
  test('reads back what it holds, in one piece', async () => {
    const content = contractContent();
    await using disk = await make(content);
    assert.equal(disk.bytes, content.length);
    const target = new Uint8Array(content.length).fill(0xaa);
    await disk.read(0, target);
    assert.ok(Buffer.compare(target, content) === 0);
  });

  test('reads any range, many at a time', async () => {
    const seed = Date.now() % 2 ** 32;
    const random = new SeededRandom(seed);
    const content = contractContent();
    await using disk = await make(content);
    await Promise.all(
      Array.from({ length: 64 }, async () => {
        const offset = integerBelow(random, content.length);
        const length = integerBelow(random, Math.min(100_000, content.length - offset)) + 1;
        const around = new Uint8Array(length + 2).fill(0xaa);
        await disk.read(offset, around.subarray(1, -1));
        const isEqual =
          Buffer.compare(around.subarray(1, -1), content.subarray(offset, offset + length)) === 0;
        assert.ok(
          isEqual && around[0] === 0xaa && around.at(-1) === 0xaa,
          `seed ${seed}, ${length} at ${offset}`,
        );
      }),
    );
  });

  test('fills memory that is shared between threads', async () => {
    const content = contractContent();
    await using disk = await make(content);
    const target = new Uint8Array(new SharedArrayBuffer(65_536));
    await disk.read(4096, target);
    assert.ok(Buffer.compare(target, content.subarray(4096, 4096 + 65_536)) === 0);
  });

  test('reads nothing where nothing is asked for', async () => {
    await using disk = await make(contractContent());
    await disk.read(disk.bytes, new Uint8Array(0));
  });
}

function extentsContract(make: DiskMaker): void {
  test('lists extents in order, without gaps, and says zero only of zeroes', async () => {
    const content = contractContent();
    await using disk = await make(content);
    for (let offset = 0; offset < disk.bytes;) {
      const extents = await disk.extents(offset, disk.bytes - offset);
      assert.ok(extents.length > 0 && extents.length <= EXTENTS_MAX);
      for (const extent of extents) offset = checkExtent(extent, offset, content);
    }
  });

  test('keeps extents inside the range that was asked for', async () => {
    const content = contractContent();
    await using disk = await make(content);
    for (const [offset, length] of [
      [512, 1],
      [299_999, 3],
      [1_000_000, 600_000],
      [content.length - 700, 700],
    ] as const) {
      const extents = await disk.extents(offset, length);
      assert.ok(extents.length > 0);
      const end = extents.reduce((at, extent) => checkExtent(extent, at, content), offset);
      assert.ok(end <= offset + length);
    }
  });

  test('has no extents in an empty range', async () => {
    await using disk = await make(contractContent());
    assert.deepEqual(await disk.extents(4096, 0), []);
  });
}

function checkExtent(extent: Extent, offset: number, content: Uint8Array): number {
  assert.equal(extent.offset, offset);
  assert.ok(extent.length > 0);
  const end = offset + extent.length;
  assert.ok(end <= content.length);
  if (extent.kind === 'zero') assert.ok(content.subarray(offset, end).every((byte) => byte === 0));
  return end;
}

function refusalContract(make: DiskMaker): void {
  test('refuses a range that leaves the disk', async () => {
    await using disk = await make(contractContent());
    const isUsage = (error: unknown): boolean => hasCode(error, 'usage_invalid');
    await assert.rejects(disk.read(disk.bytes - 511, new Uint8Array(512)), isUsage);
    await assert.rejects(disk.read(-512, new Uint8Array(512)), isUsage);
    await assert.rejects(disk.extents(disk.bytes, 1), isUsage);
    await assert.rejects(disk.extents(0, disk.bytes + 512), isUsage);
  });

  test('ends with the reason of a signal that was aborted before, and goes on for others', async () => {
    const content = contractContent();
    await using disk = await make(content);
    const reason = new Error('enough');
    await assert.rejects(disk.read(0, new Uint8Array(512), AbortSignal.abort(reason)), reason);
    await assert.rejects(disk.extents(0, 512, AbortSignal.abort(reason)), reason);
    const target = new Uint8Array(512);
    await disk.read(0, target);
    assert.ok(Buffer.compare(target, content.subarray(0, 512)) === 0);
  });
}
