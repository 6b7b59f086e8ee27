/** The server under our own client and under the clients that users have: libnbd's tools and QEMU's. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import type { Disk, Extent } from '#/disk/disk.ts';
import { contractContent, diskContract } from '#/disk/disk-contract.ts';
import { MemoryDisk } from '#/disk/memory-disk.ts';
import { Failure, hasCode } from '#/lib/failure.ts';
import { listContexts, listExports, NbdDisk } from './nbd-client.ts';
import { NbdServer } from './nbd-server.ts';
import { run, TemporaryDirectory } from './real-servers.ts';

const LIMIT = { timeout: 60_000 };

/** A server on a socket in a directory of its own. */
class Served implements AsyncDisposable {
  readonly server = new NbdServer();
  readonly directory: TemporaryDirectory;

  private constructor(directory: TemporaryDirectory) {
    this.directory = directory;
  }

  static async start(exports: Record<string, Disk>): Promise<Served> {
    const served = new Served(await TemporaryDirectory.create());
    for (const [name, disk] of Object.entries(exports)) served.server.addExport(name, disk, `disk ${name}`);
    await served.server.listen(served.address);
    return served;
  }

  get address(): { kind: 'unix'; path: string } {
    return { kind: 'unix', path: this.directory.file('socket') };
  }

  uri(name: string): string {
    return `nbd+unix:///${name}?socket=${this.address.path}`;
  }

  connect(exportName: string, connections = 1): Promise<NbdDisk> {
    return NbdDisk.connect({ address: this.address, exportName, connections });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server[Symbol.asyncDispose]();
    await this.directory[Symbol.asyncDispose]();
  }
}

for (const connections of [1, 4]) {
  diskContract(`an export of our server over ${connections} connections`, async (content) => {
    const served = await Served.start({ vda: new MemoryDisk(content) });
    const disk = await served.connect('vda', connections);
    assert.equal(disk.connectionCount, connections);
    const dispose = disk[Symbol.asyncDispose].bind(disk);
    disk[Symbol.asyncDispose] = async () => {
      await dispose();
      await served[Symbol.asyncDispose]();
    };
    return disk;
  });
}

test('nbdinfo sees the exports, their sizes and that they are read-only', LIMIT, async () => {
  await using served = await Served.start({ vda: new MemoryDisk(contractContent()) });
  const { exports } = JSON.parse(await run('nbdinfo', '--json', '--list', served.uri(''))) as {
    exports: Record<string, unknown>[];
  };
  assert.equal(exports.length, 1);
  const seen = exports[0]!;
  assert.equal(seen['export-name'], 'vda');
  assert.equal(seen['description'], 'disk vda');
  assert.equal(seen['export-size'], contractContent().length);
  assert.equal(seen['is_read_only'], true);
  assert.equal(seen['can_multi_conn'], true);
  assert.equal(seen['block_size_maximum'], 32 * 1024 * 1024);
  assert.deepEqual(seen['contexts'], ['base:allocation']);
});

test('nbdinfo and qemu-img map holes where the disk has zeroes', LIMIT, async () => {
  const content = new Uint8Array(1024 * 1024);
  content.fill(1, 0, 65_536);
  content.fill(2, 524_288, 524_288 + 4096);
  await using served = await Served.start({ vda: new MemoryDisk(content) });
  const map = JSON.parse(await run('nbdinfo', '--map', '--json', served.uri('vda'))) as Record<
    string,
    number
  >[];
  assert.deepEqual(
    map.map((run) => [run['offset'], run['length'], run['type']]),
    [
      [0, 65_536, 0],
      [65_536, 458_752, 3],
      [524_288, 4096, 0],
      [528_384, 520_192, 3],
    ],
  );
  const argv = ['map', '--output=json', '-f', 'raw', served.uri('vda')];
  const qemu = JSON.parse(await run('qemu-img', ...argv)) as {
    start: number;
    length: number;
    zero: boolean;
  }[];
  assert.deepEqual(
    qemu.map((run) => [run.start, run.length, run.zero]),
    [
      [0, 65_536, false],
      [65_536, 458_752, true],
      [524_288, 4096, false],
      [528_384, 520_192, true],
    ],
  );
});

test('nbdcopy and qemu-img convert copy every byte', LIMIT, async () => {
  const content = contractContent();
  await using served = await Served.start({ vda: new MemoryDisk(content) });
  const copied = served.directory.file('copied');
  await run('nbdcopy', '--connections=4', served.uri('vda'), copied);
  assert.ok(Buffer.compare(await readFile(copied), content) === 0);
  const converted = served.directory.file('converted');
  await run('qemu-img', 'convert', '-f', 'raw', '-O', 'raw', served.uri('vda'), converted);
  assert.ok(Buffer.compare(await readFile(converted), content) === 0);
});

test('a qcow2 overlay on an export reads and writes as a disk of its own', LIMIT, async () => {
  const content = contractContent();
  await using served = await Served.start({ vda: new MemoryDisk(content) });
  const overlay = served.directory.file('overlay.qcow2');
  await run('qemu-img', 'create', '-f', 'qcow2', '-b', served.uri('vda'), '-F', 'raw', overlay);
  await run('qemu-io', '-c', 'write -P 0x5a 8192 4096', '-c', 'read -P 0x5a 8192 4096', overlay);
  await run('qemu-img', 'convert', '-O', 'raw', overlay, served.directory.file('flat'));
  const expected = content.slice();
  expected.fill(0x5a, 8192, 8192 + 4096);
  assert.ok(Buffer.compare(await readFile(served.directory.file('flat')), expected) === 0);
});

test('qemu-io cannot write to an export', LIMIT, async () => {
  await using served = await Served.start({ vda: new MemoryDisk(contractContent()) });
  await assert.rejects(
    run('qemu-io', '-f', 'raw', '-c', 'write 0 4096', served.uri('vda')),
    /Permission denied/,
  );
});

test('a read that the disk fails is an error of that read alone', LIMIT, async () => {
  const memory = new MemoryDisk(contractContent());
  const broken: Disk = {
    bytes: memory.bytes,
    read: async (offset, target) => {
      if (offset === 4096) throw new Failure('storage_corrupt', 'read block 1');
      await memory.read(offset, target);
    },
    extents: (offset, length) => memory.extents(offset, length),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
  await using served = await Served.start({ vda: broken });
  await using disk = await served.connect('vda');
  const reads = [0, 4096, 8192].map((offset) => disk.read(offset, new Uint8Array(4096)));
  const results = await Promise.allSettled(reads);
  assert.deepEqual(
    results.map((result) => result.status),
    ['fulfilled', 'rejected', 'fulfilled'],
  );
  assert.ok(hasCode((results[1] as PromiseRejectedResult).reason, 'nbd_error'));
});

test('exports come and go while others are read', LIMIT, async () => {
  await using served = await Served.start({ vda: new MemoryDisk(contractContent()) });
  served.server.addExport('vdb', new MemoryDisk(new Uint8Array(8192)));
  assert.deepEqual(
    (await listExports(served.address)).map((each) => each.name),
    ['vda', 'vdb'],
  );
  assert.deepEqual(await listContexts(served.address, 'vdb'), ['base:allocation']);
  await using a = await served.connect('vda');
  await using b = await served.connect('vdb');
  await served.server.removeExport('vdb');
  await assert.rejects(b.read(0, new Uint8Array(512)), (error) => hasCode(error, 'unreachable'));
  await assert.rejects(served.connect('vdb'), (error) => hasCode(error, 'not_found'));
  await a.read(0, new Uint8Array(512));
  assert.throws(
    () => served.server.addExport('vda', new MemoryDisk(new Uint8Array(512))),
    (error) => hasCode(error, 'already_exists'),
  );
});

test('closing answers what was asked before, and touches no disk after', LIMIT, async () => {
  const gate = Promise.withResolvers<void>();
  const entered = Promise.withResolvers<void>();
  let isReading = false;
  const slow: Disk = {
    bytes: 4096,
    read: async (_offset, target) => {
      isReading = true;
      entered.resolve();
      await gate.promise;
      target.fill(7);
      isReading = false;
    },
    extents: (offset, length): Promise<Extent[]> => Promise.resolve([{ offset, length, kind: 'data' }]),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
  await using served = await Served.start({ vda: slow });
  await using disk = await served.connect('vda');
  const target = new Uint8Array(4096);
  const read = disk.read(0, target);
  await entered.promise;
  const removed = served.server.removeExport('vda');
  gate.resolve();
  await read;
  assert.ok(target.every((byte) => byte === 7));
  await removed;
  assert.equal(isReading, false);
});

test('a socket file that a killed server left is taken over, a living server is not', LIMIT, async () => {
  await using served = await Served.start({ vda: new MemoryDisk(new Uint8Array(512)) });
  await using second = new NbdServer();
  await assert.rejects(second.listen(served.address), (error) => hasCode(error, 'already_exists'));
  const stale = { kind: 'unix', path: served.directory.file('stale') } as const;
  await run(
    process.execPath,
    '-e',
    `require('net').createServer().listen('${stale.path}', () => process.kill(process.pid, 9))`,
  ).catch(() => undefined);
  await second.listen(stale);
  second.addExport('vda', new MemoryDisk(new Uint8Array(512)));
  await using disk = await NbdDisk.connect({ address: stale, exportName: 'vda' });
  assert.equal(disk.bytes, 512);
});

test(
  'one connection too many is hung up on, and a place that is free again is given away',
  LIMIT,
  async () => {
    await using served = await Served.start({ vda: new MemoryDisk(new Uint8Array(512)) });
    const disks = await Promise.all(Array.from({ length: 64 }, () => served.connect('vda')));
    await assert.rejects(served.connect('vda'), (error) => hasCode(error, 'unreachable'));
    await Promise.all(disks.map((disk) => disk[Symbol.asyncDispose]()));
    while (served.server.connectionCount > 0) await new Promise(setImmediate);
    await using disk = await served.connect('vda');
    await disk.read(0, new Uint8Array(512));
  },
);

test('serves over TCP', LIMIT, async () => {
  const content = contractContent();
  await using server = new NbdServer();
  server.addExport('vda', new MemoryDisk(content));
  const address = await server.listen({ kind: 'tcp', host: '127.0.0.1', port: 0 });
  await using disk = await NbdDisk.connect({ address, exportName: 'vda', connections: 2 });
  const target = new Uint8Array(content.length);
  await disk.read(0, target);
  assert.ok(Buffer.compare(target, content) === 0);
});
