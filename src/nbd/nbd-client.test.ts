/** The client against nbdkit: content, holes, errors, delays, limits and the loss of the server. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { test } from 'node:test';
import { diskContract } from '#/disk/disk-contract.ts';
import { Failure, hasCode } from '#/lib/failure.ts';
import { listContexts, listExports, NbdDisk } from './nbd-client.ts';
import { RealServer, TemporaryDirectory } from './real-servers.ts';

const LIMIT = { timeout: 60_000 };

/** A disk together with the server behind it. */
async function served(server: RealServer, options: { connections?: number } = {}): Promise<NbdDisk> {
  const disk = await NbdDisk.connect({ address: server.address, exportName: '', ...options });
  const dispose = disk[Symbol.asyncDispose].bind(disk);
  disk[Symbol.asyncDispose] = async () => {
    await dispose();
    await server[Symbol.asyncDispose]();
  };
  return disk;
}

async function dataServed(
  content: Uint8Array,
  filters: string[] = [],
  settings: string[] = [],
): Promise<RealServer> {
  await using directory = await TemporaryDirectory.create();
  await writeFile(directory.file('disk'), content);
  // The data plugin reads the file once, before it serves.
  return await RealServer.nbdkit(...filters, 'data', `data=<${directory.file('disk')}`, ...settings);
}

diskContract('an NBD export of nbdkit over one connection', async (content) =>
  served(await dataServed(content)),
);
diskContract('an NBD export of nbdkit over four connections', async (content) =>
  served(await dataServed(content), { connections: 4 }),
);
diskContract('an NBD export without structured replies', async (content) =>
  served(await dataServed(content, ['--no-sr'])),
);
diskContract('an NBD export that takes whole sectors of at most 64 KiB only', async (content) => {
  const settings = ['minimum=512', 'preferred=4096', 'maximum=65536', 'error-policy=error'];
  const server = await dataServed(
    content,
    ['--filter=blocksize-policy'],
    settings.map((setting) => `blocksize-${setting}`),
  );
  return served(server);
});

test('finds the holes of a sparse export', LIMIT, async () => {
  await using disk = await served(
    await RealServer.nbdkit('data', 'size=1G', 'data=@0x10000000 1 @0x20000000 2'),
  );
  const extents = await disk.extents(0, 2 ** 28);
  assert.deepEqual(extents, [{ offset: 0, length: 2 ** 28, kind: 'zero' }]);
  assert.equal((await disk.extents(2 ** 28, 4096))[0]!.kind, 'data');
});

test('a read that fails leaves the other reads alone', LIMIT, async () => {
  await using disk = await served(await RealServer.nbdkit('eval', ...failsAt(65_536)));
  const good = new Uint8Array(4096);
  const reads = [0, 65_536, 131_072].map((offset) => disk.read(offset, good.slice()));
  const results = await Promise.allSettled(reads);
  assert.deepEqual(
    results.map((result) => result.status),
    ['fulfilled', 'rejected', 'fulfilled'],
  );
  const reason = (results[1] as PromiseRejectedResult).reason as Failure;
  assert.equal(reason.code, 'nbd_error');
  assert.match(String((reason.cause as Error).message), /EIO/);
  await disk.read(0, good);
});

/** An nbdkit script whose read fails with EIO at one offset. */
function failsAt(offset: number): string[] {
  const script = `if [ $4 -eq ${offset} ]; then echo EIO broken sector >&2; exit 1; fi; head -c $3 /dev/zero`;
  return ['get_size=echo 1048576', `pread=${script}`];
}

test('an aborted read ends at once while the server still sleeps over it', LIMIT, async () => {
  await using disk = await served(await RealServer.nbdkit('--filter=delay', 'pattern', '1M', 'delay-read=2'));
  const controller = new AbortController();
  const reason = new Error('changed my mind');
  const target = new Uint8Array(65_536);
  const started = performance.now();
  const read = disk.read(0, target, controller.signal);
  controller.abort(reason);
  await assert.rejects(read, reason);
  assert.ok(performance.now() - started < 1500);
});

test('a server that is killed fails every read with unreachable', LIMIT, async () => {
  await using server = await RealServer.nbdkit('--filter=delay', 'pattern', '1M', 'delay-read=30');
  await using disk = await NbdDisk.connect({ address: server.address, exportName: '' });
  const reads = [0, 1, 2].map((block) => disk.read(block * 4096, new Uint8Array(4096)));
  const settled = Promise.allSettled(reads);
  await server.kill();
  for (const result of await settled) {
    assert.ok(result.status === 'rejected' && hasCode(result.reason, 'unreachable'));
  }
  await assert.rejects(disk.read(0, new Uint8Array(512)), (error) => hasCode(error, 'unreachable'));
});

test('lists exports and meta contexts, and names what is missing', LIMIT, async () => {
  await using server = await RealServer.nbdkit('--filter=exportname', 'memory', '1M', 'exportname=vda', 'exportname=vdb',
    'exportname-strict=true', 'exportname-list=explicit'); // prettier-ignore
  assert.deepEqual(
    (await listExports(server.address)).map((each) => each.name),
    ['vda', 'vdb'],
  );
  assert.deepEqual(await listContexts(server.address, 'vda'), ['base:allocation']);
  const missing = NbdDisk.connect({ address: server.address, exportName: 'vdz' });
  await assert.rejects(missing, (error) => error instanceof Failure);
  const noBitmap = NbdDisk.connect({ address: server.address, exportName: 'vda', dirtyBitmap: 'point-1' });
  await assert.rejects(noBitmap, (error) => hasCode(error, 'not_found'));
});

test('nobody at the address is unreachable', LIMIT, async () => {
  const address = { kind: 'unix', path: '/nonexistent/socket' } as const;
  await assert.rejects(NbdDisk.connect({ address, exportName: '' }), (error) =>
    hasCode(error, 'unreachable'),
  );
});
