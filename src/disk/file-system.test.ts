/** Both file systems under the one contract, and what only the real one can show: holes that give space back. */
import assert from 'node:assert/strict';
import { mkdtemp, rm, stat, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { hasCode } from '#/lib/failure.ts';
import { fileSystemContract } from './file-system-contract.ts';
import type { FileSystem } from './file-system.ts';
import { MemoryFileSystem } from './memory-file-system.ts';
import { NodeFileSystem } from './node-file-system.ts';

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
