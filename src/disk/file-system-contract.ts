/**
 * The tests that every FileSystem passes: what `file-system.ts` promises of one that does not crash, executable.
 *
 * Called from a `.test.ts` file with a maker of empty file systems.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { hasCode, type FailureCode } from '#/lib/failure.ts';
import type { FileSystem } from './file-system.ts';

export type FileSystemMaker = () => Promise<{ files: FileSystem } & AsyncDisposable>;

export function fileSystemContract(name: string, make: FileSystemMaker): void {
  describe(`${name} as a file system`, { timeout: 60_000 }, () => {
    contentContract(make);
    openContract(make);
    nameContract(make);
    directoryContract(make);
  });
}

const code =
  (expected: FailureCode) =>
  (error: unknown): boolean =>
    hasCode(error, expected);

async function content(files: FileSystem, path: string): Promise<number[]> {
  await using file = await files.open(path, 'read');
  const target = new Uint8Array(await file.bytes());
  assert.equal(await file.read(0, target), target.length);
  return [...target];
}

async function put(files: FileSystem, path: string, bytes: number[]): Promise<void> {
  await using file = await files.open(path, 'create');
  await file.write(0, Uint8Array.from(bytes));
  await file.datasync();
}

function contentContract(make: FileSystemMaker): void {
  test('reads what was written, and short at the end of the file', async () => {
    await using made = await make();
    await using file = await made.files.open('a', 'create');
    await file.write(0, Uint8Array.of(1, 2, 3));
    const target = new Uint8Array(5).fill(9);
    assert.equal(await file.read(1, target), 2);
    assert.deepEqual([...target], [2, 3, 9, 9, 9]);
    assert.equal(await file.read(3, target), 0);
    assert.equal(await file.read(100, target), 0);
  });

  test('reads zeroes between the old end and a write beyond it', async () => {
    await using made = await make();
    await put(made.files, 'a', [1]);
    await using file = await made.files.open('a', 'read-write');
    await file.write(4, Uint8Array.of(5));
    assert.deepEqual(await content(made.files, 'a'), [1, 0, 0, 0, 5]);
  });

  test('forgets what was cut off, also when the file grows again', async () => {
    await using made = await make();
    await put(made.files, 'a', [1, 2, 3, 4]);
    await using file = await made.files.open('a', 'read-write');
    await file.truncate(2);
    assert.equal(await file.bytes(), 2);
    await file.truncate(4);
    assert.deepEqual(await content(made.files, 'a'), [1, 2, 0, 0]);
  });

  test('punches ranges of any alignment to zeroes and keeps the length', async () => {
    await using made = await make();
    const bytes = 512 * 1024;
    for (const [offset, length] of [
      [1, 3],
      [0, 4096],
      [100, 300_000],
      [65_536, 131_072],
      [bytes - 100_000, 200_000],
      [bytes + 4096, 131_072],
    ] as const) {
      await using file = await made.files.open('a', 'create');
      const expected = new Uint8Array(bytes).fill(7);
      await file.write(0, expected);
      await file.punch(offset, length);
      expected.fill(0, offset, offset + length);
      const target = new Uint8Array(bytes);
      assert.equal(await file.bytes(), bytes);
      assert.equal(await file.read(0, target), bytes);
      assert.ok(Buffer.compare(target, expected) === 0, `${length} at ${offset}`);
    }
  });
}

function openContract(make: FileSystemMaker): void {
  test('opens only what exists, unless it may create', async () => {
    await using made = await make();
    await assert.rejects(made.files.open('a', 'read'), code('not_found'));
    await assert.rejects(made.files.open('a', 'read-write'), code('not_found'));
    await assert.rejects(made.files.open('missing/a', 'create'), code('not_found'));
    await (await made.files.open('a', 'create-new'))[Symbol.asyncDispose]();
    await assert.rejects(made.files.open('a', 'create-new'), code('already_exists'));
  });

  test('creating a file that exists keeps its content', async () => {
    await using made = await make();
    await put(made.files, 'a', [1, 2]);
    await (await made.files.open('a', 'create'))[Symbol.asyncDispose]();
    assert.deepEqual(await content(made.files, 'a'), [1, 2]);
  });

  test('refuses to write through a file that is open for reading', async () => {
    await using made = await make();
    await put(made.files, 'a', [1]);
    await using file = await made.files.open('a', 'read');
    await assert.rejects(file.write(0, Uint8Array.of(2)), code('storage_io'));
    assert.deepEqual(await content(made.files, 'a'), [1]);
  });

  test('refuses paths that leave the root or are not plain', async () => {
    await using made = await make();
    for (const path of ['../a', 'a/../../b', '/a', 'a//b', './a', '', 'a\0b', 'a/', 'x'.repeat(256)]) {
      const opening = async (): Promise<unknown> => made.files.open(path, 'create');
      await assert.rejects(opening, code('usage_invalid'), JSON.stringify(path));
    }
  });
}

function nameContract(make: FileSystemMaker): void {
  test('renames over another file, and the replaced one stays readable while it is open', async () => {
    await using made = await make();
    await put(made.files, 'old', [1]);
    await put(made.files, 'new', [2]);
    await using file = await made.files.open('old', 'read');
    await made.files.rename('new', 'old');
    await made.files.syncDirectory('');
    assert.deepEqual(await content(made.files, 'old'), [2]);
    assert.deepEqual(await made.files.list(''), ['old']);
    const target = new Uint8Array(1);
    await file.read(0, target);
    assert.equal(target[0], 1);
  });

  test('a removed file stays readable, writable and punchable while it is open', async () => {
    await using made = await make();
    await using file = await made.files.open('a', 'create');
    await file.write(0, new Uint8Array(262_144).fill(1));
    await made.files.remove('a');
    await file.punch(0, 131_072);
    const target = new Uint8Array(262_144);
    assert.equal(await file.read(0, target), target.length);
    assert.ok(target[0] === 0 && target[131_071] === 0 && target[131_072] === 1);
    assert.deepEqual(await made.files.list(''), []);
  });

  test('names that are missing are not found', async () => {
    await using made = await make();
    await assert.rejects(made.files.remove('a'), code('not_found'));
    await assert.rejects(made.files.rename('a', 'b'), code('not_found'));
    await put(made.files, 'a', [1]);
    await assert.rejects(made.files.rename('a', 'missing/b'), code('not_found'));
    assert.deepEqual(await content(made.files, 'a'), [1]);
  });
}

function directoryContract(make: FileSystemMaker): void {
  test('makes directories with their parents, again without complaint, and lists them sorted', async () => {
    await using made = await make();
    await made.files.makeDirectory('b/c');
    await made.files.makeDirectory('b/c');
    await put(made.files, 'b/z', [1]);
    await put(made.files, 'b/a', [1]);
    assert.deepEqual(await made.files.list(''), ['b']);
    assert.deepEqual(await made.files.list('b'), ['a', 'c', 'z']);
    assert.deepEqual(await made.files.list('b/c'), []);
    await made.files.syncDirectory('b/c');
  });

  test('removes only empty directories', async () => {
    await using made = await make();
    await made.files.makeDirectory('b');
    await put(made.files, 'b/a', [1]);
    await assert.rejects(made.files.removeDirectory('b'), code('storage_io'));
    await made.files.remove('b/a');
    await made.files.removeDirectory('b');
    assert.deepEqual(await made.files.list(''), []);
    await assert.rejects(made.files.removeDirectory('b'), code('not_found'));
  });

  test('a missing directory is not found, a file is no directory', async () => {
    await using made = await make();
    await assert.rejects(made.files.list('b'), code('not_found'));
    await assert.rejects(made.files.syncDirectory('b'), code('not_found'));
    await put(made.files, 'a', [1]);
    await assert.rejects(made.files.makeDirectory('a'), code('already_exists'));
  });

  test('says how many bytes can still be written', async () => {
    await using made = await make();
    assert.ok((await made.files.freeBytes()) > 0);
  });
}
