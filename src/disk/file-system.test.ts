/** Both file systems under the one contract, and what only the real one can show: holes that give space back. */
import assert from 'node:assert/strict';
import { mkdtemp, open, rm, stat, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { hasCode } from '#/lib/failure.ts';
import { digestMemory } from './digest-memory.ts';
import { DirectWrites } from './direct-writes.ts';
import { fileSystemContract } from './file-system-contract.ts';
import type { File, FileSystem } from './file-system.ts';
import { MemoryFileSystem } from './memory-file-system.ts';
import { NodeFileSystem } from './node-file-system.ts';

const MIB = 1024 * 1024;

type Made = { files: FileSystem; root: string } & AsyncDisposable;

async function real(): Promise<Made> {
  const root = await mkdtemp(join(tmpdir(), 'antipode-files-'));
  return {
    files: new NodeFileSystem(root),
    root,
    [Symbol.asyncDispose]: () => rm(root, { recursive: true, force: true }),
  };
}

fileSystemContract('the memory', () =>
  Promise.resolve({ files: new MemoryFileSystem(), [Symbol.asyncDispose]: () => Promise.resolve() }),
);
fileSystemContract('a directory', real);

test('long writes past the cache and short ones through it are one file', async () => {
  await using made = await real();
  const block = 4096;
  const bytes = digestMemory(4 * MIB);
  bytes.set(randomBytes(bytes.length));
  const expected = Buffer.alloc(6 * MIB);
  const put = async (file: File, offset: number, part: Uint8Array): Promise<void> => {
    await file.write(offset, part);
    expected.set(part, offset);
  };
  await using file = await made.files.open('a', 'create');
  await file.truncate(expected.length);
  await put(file, 0, bytes.subarray(0, 16 * block));
  await put(file, 4 * block, bytes.subarray(0, MIB));
  await put(file, 5 * block + 7, bytes.subarray(5, 500));
  await put(file, MIB, bytes.subarray(block, block + 3 * MIB));
  await put(file, 2 * MIB, bytes.subarray(1, 1 + MIB));
  await Promise.all([4, 5].map((at) => put(file, at * MIB, bytes.subarray((at - 4) * MIB, (at - 3) * MIB))));
  await file.datasync();
  const found = Buffer.alloc(expected.length);
  assert.equal(await file.read(0, found), found.length);
  assert(found.equals(expected));
});

test('a write goes past the cache where file and memory allow it, and nothing is written where not', async () => {
  await using made = await real();
  const handle = await open(join(made.root, 'a'), 'w+');
  const bytes = digestMemory(2 * MIB).fill(5);
  try {
    await using direct = new DirectWrites(handle.fd);
    assert.equal(
      await direct.tryWrite(0, bytes.subarray(0, MIB)),
      true,
      'this file system has direct writes',
    );
    for (const [offset, part] of [
      [MIB + 1, bytes.subarray(0, MIB)],
      [MIB, bytes.subarray(1, MIB + 1)],
      [MIB, bytes.subarray(0, MIB - 1)],
      [MIB, bytes.subarray(0, 4096)],
      [MIB, new Uint8Array(MIB)],
    ] as const) {
      assert.equal(await direct.tryWrite(offset, part), false);
    }
    assert.equal((await handle.stat()).size, MIB);
    const more = [1, 2, 3].map((at) => direct.tryWrite(at * MIB, bytes.subarray(0, MIB)));
    assert.deepEqual(await Promise.all(more), [true, true, false], 'no more than two at a time');
  } finally {
    await handle.close();
  }
});

test('punching a long range of a real file gives its blocks back', async () => {
  await using made = await real();
  await using file = await made.files.open('a', 'create');
  await file.write(0, new Uint8Array(4 * 1024 * 1024).fill(1));
  await file.datasync();
  const before = await stat(join(made.root, 'a'));
  await file.punch(1024 * 1024 + 1, 2 * 1024 * 1024);
  const after = await stat(join(made.root, 'a'));
  assert.equal(after.size, before.size);
  const freedBytes = (before.blocks - after.blocks) * 512;
  assert.ok(freedBytes >= 2 * 1024 * 1024 - 8192, `${freedBytes} bytes given back`);
});

test('a range that is too short to punch is written as zeroes', async () => {
  await using made = await real();
  await using file = await made.files.open('a', 'create');
  await file.write(0, new Uint8Array(131_072).fill(1));
  await file.datasync();
  const before = await stat(join(made.root, 'a'));
  await file.punch(0, 32_768);
  await file.datasync();
  assert.equal((await stat(join(made.root, 'a'))).blocks, before.blocks);
});

test('a full device is storage_full', async () => {
  await using made = await real();
  await symlink('/dev/full', join(made.root, 'full'));
  await using file = await made.files.open('full', 'read-write');
  await assert.rejects(file.write(0, new Uint8Array(4096)), (error) => hasCode(error, 'storage_full'));
});

test('a memory of limited size is storage_full when it is used up', async () => {
  const files = new MemoryFileSystem(8192);
  await using file = await files.open('a', 'create');
  await file.write(0, new Uint8Array(8192));
  assert.equal(await files.freeBytes(), 0);
  await assert.rejects(file.write(8192, new Uint8Array(1)), (error) => hasCode(error, 'storage_full'));
});
