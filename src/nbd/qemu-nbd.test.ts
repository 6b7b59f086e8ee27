/** The client against QEMU's own server: dirty bitmaps of powered-off images, several contexts, fragmentation. */
import assert from 'node:assert/strict';
import { open, writeFile } from 'node:fs/promises';
import { test } from 'node:test';
import { diskContract } from '#/disk/disk-contract.ts';
import { hasCode } from '#/lib/failure.ts';
import { listContexts, NbdDisk, type DirtyExtent } from './nbd-client.ts';
import { RealServer, run, TemporaryDirectory } from './real-servers.ts';

const LIMIT = { timeout: 60_000 };
const GRAIN = 65_536;

/** A qcow2 image of 64 MiB with the bitmap `point-1`, older than the writes that `commands` make. */
async function image(directory: TemporaryDirectory, ...commands: string[]): Promise<string> {
  const path = directory.file('disk.qcow2');
  await run('qemu-img', 'create', '-q', '-f', 'qcow2', path, '64M');
  await run('qemu-io', '-c', 'write -q -P 1 32M 64k', path);
  await run('qemu-img', 'bitmap', '--add', '-g', '64k', path, 'point-1');
  await run('qemu-io', ...commands.flatMap((command) => ['-c', command]), path);
  return path;
}

async function allDirty(disk: NbdDisk): Promise<DirtyExtent[]> {
  const all: DirtyExtent[] = [];
  for (let at = 0; at < disk.bytes;) {
    const extents = await disk.dirtyExtents(at, disk.bytes - at);
    for (const extent of extents) {
      assert.equal(extent.offset, at);
      at += extent.length;
    }
    all.push(...extents);
  }
  return all.filter((extent) => extent.isDirty);
}

test('finds what changed since a bitmap of a powered-off image, beside its allocation', LIMIT, async () => {
  await using directory = await TemporaryDirectory.create();
  const path = await image(
    directory,
    'write -q -P 2 1M 64k',
    'write -q -P 3 8256k 4k',
    'write -q -z 32M 64k',
  );
  await using server = await RealServer.qemu('--read-only', '-f', 'qcow2', '-B', 'point-1', path);
  assert.deepEqual(await listContexts(server.address, ''), ['base:allocation', 'qemu:dirty-bitmap:point-1']);
  await using disk = await NbdDisk.connect({
    address: server.address,
    exportName: '',
    dirtyBitmap: 'point-1',
  });
  assert.deepEqual(await allDirty(disk), [
    { offset: 1024 * 1024, length: GRAIN, isDirty: true },
    { offset: 8256 * 1024, length: GRAIN, isDirty: true },
    { offset: 32 * 1024 * 1024, length: GRAIN, isDirty: true },
  ]);
  const [cleared] = await disk.extents(32 * 1024 * 1024, GRAIN);
  assert.deepEqual(cleared, { offset: 32 * 1024 * 1024, length: GRAIN, kind: 'zero' });
  const target = new Uint8Array(GRAIN);
  await disk.read(1024 * 1024, target);
  assert.ok(target.every((byte) => byte === 2));
});

test('a bitmap that the image does not have is not found', LIMIT, async () => {
  await using directory = await TemporaryDirectory.create();
  const path = await image(directory, 'write -q -P 2 0 64k');
  await using server = await RealServer.qemu('--read-only', '-f', 'qcow2', '-B', 'point-1', path);
  const connecting = NbdDisk.connect({ address: server.address, exportName: '', dirtyBitmap: 'point-2' });
  await assert.rejects(connecting, (error) => hasCode(error, 'not_found'));
});

test('a map with more extents than one answer holds arrives whole', LIMIT, async () => {
  await using directory = await TemporaryDirectory.create();
  const path = directory.file('disk.raw');
  const file = await open(path, 'w');
  await file.truncate(2 ** 30);
  for (let index = 0; index < 5000; index++)
    await file.write(new Uint8Array(4096).fill(1), 0, 4096, index * 131_072);
  await file.close();
  await using server = await RealServer.qemu('--read-only', '-f', 'raw', path);
  await using disk = await NbdDisk.connect({ address: server.address, exportName: '' });
  let dataCount = 0;
  for (let at = 0; at < disk.bytes;) {
    const extents = await disk.extents(at, disk.bytes - at);
    for (const extent of extents) {
      assert.equal(extent.offset, at);
      if (extent.kind === 'data') dataCount++;
      at += extent.length;
    }
  }
  assert.equal(dataCount, 5000);
});

for (const connections of [1, 4]) {
  diskContract(`a raw image served by qemu-nbd over ${connections} connections`, async (content) => {
    const directory = await TemporaryDirectory.create();
    await writeFile(directory.file('disk'), content);
    const server = await RealServer.qemu('--read-only', '-f', 'raw', directory.file('disk'));
    const disk = await NbdDisk.connect({ address: server.address, exportName: '', connections });
    const dispose = disk[Symbol.asyncDispose].bind(disk);
    disk[Symbol.asyncDispose] = async () => {
      await dispose();
      await server[Symbol.asyncDispose]();
      await directory[Symbol.asyncDispose]();
    };
    return disk;
  });
}
