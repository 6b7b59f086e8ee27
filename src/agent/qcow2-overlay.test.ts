import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { open, rm, mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { hasCode } from '#/lib/failure.ts';
import { createOverlay } from './qcow2-overlay.ts';

const run = promisify(execFile);
const MIB = 2 ** 20;
const GIB = 2 ** 30;
let directory: string;

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'antipode-overlay-'));
});

after(() => rm(directory, { recursive: true, force: true }));

async function sparse(name: string, bytes: number): Promise<string> {
  const path = join(directory, name);
  await using file = await open(path, 'w');
  await file.truncate(bytes);
  return path;
}

function rawBacking(path: string): { name: string; format: 'raw' } {
  return {
    name: `json:${JSON.stringify({ driver: 'raw', file: { driver: 'file', filename: path } })}`,
    format: 'raw',
  };
}

/** What qemu-img says of an image, without what is its own or differs by the file system. */
async function described(path: string): Promise<Record<string, unknown>> {
  const { stdout } = await run('qemu-img', ['info', '--output=json', path]);
  const { 'actual-size': _size, filename: _name, ...rest } = JSON.parse(stdout) as Record<string, unknown>;
  return rest;
}

for (const [bytes, words] of [
  [4096, 'a single block'],
  [512 * MIB, 'one whole L1 entry'],
  [512 * MIB + 4096, 'a little more than an L1 entry'],
  [100 * GIB, '100 GiB'],
  [5 * 1024 * GIB, '5 TiB, whose L1 table is longer than a cluster'],
] as const) {
  test(`QEMU finds an overlay for ${words} sound, and like its own`, async () => {
    const backing = rawBacking(await sparse('base', bytes));
    const ours = join(directory, `ours-${bytes}.qcow2`);
    await createOverlay(ours, bytes, backing);
    const theirs = join(directory, `theirs-${bytes}.qcow2`);
    const options = ['-q', '-u', '-f', 'qcow2', '-o', 'compat=1.1', '-F', 'raw', '-b', backing.name];
    await run('qemu-img', ['create', ...options, theirs, String(bytes)]);
    assert.deepEqual(await described(ours), await described(theirs));
    const { stdout } = await run('qemu-img', ['check', '--output=json', ours]);
    const check = JSON.parse(stdout) as Record<string, number>;
    assert.deepEqual(
      [check['check-errors'], check['leaks'], check['corruptions']],
      [0, undefined, undefined],
    );
  });
}

test('a read goes to the backing image, and a write stays in the overlay', async () => {
  const base = await sparse('data', 8 * MIB);
  await using file = await open(base, 'r+');
  await file.write(Buffer.alloc(4096, 0xab), 0, 4096, 3 * MIB);
  const overlay = join(directory, 'data.qcow2');
  await createOverlay(overlay, 8 * MIB, rawBacking(base));
  const commands = ['read -P 0xab 3M 4k', 'read -P 0 4M 4k', 'write -P 0xcd 5M 64k', 'read -P 0xcd 5M 64k'];
  const { stdout } = await run('qemu-io', [
    '-f',
    'qcow2',
    ...commands.flatMap((one) => ['-c', one]),
    overlay,
  ]);
  assert.doesNotMatch(stdout, /failed/i);
  await run('qemu-img', ['check', '-q', overlay]);
  const kept = Buffer.alloc(4096);
  await file.read(kept, 0, 4096, 5 * MIB);
  assert(kept.every((byte) => byte === 0));
});

test('a file that is there is never made anew, and what qcow2 cannot hold is refused', async () => {
  const base = rawBacking(await sparse('other', 4096));
  const path = join(directory, 'there.qcow2');
  await createOverlay(path, 4096, base);
  await assert.rejects(createOverlay(path, 4096, base), (error) => hasCode(error, 'storage_io'));
  const long = { name: `json:${'x'.repeat(1100)}`, format: 'raw' as const };
  const other = join(directory, 'refused.qcow2');
  await assert.rejects(createOverlay(other, 4096, long), (error) => hasCode(error, 'limit_exceeded'));
  await assert.rejects(createOverlay(other, 2 ** 52, base), (error) => hasCode(error, 'limit_exceeded'));
});
