/** A replica's file system that is full, as a real one is: a tmpfs in a mount namespace of the test's own. */
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import type { ServerTask } from '#/control/orders.ts';
import { failureIn, hasCode } from '#/lib/failure.ts';
import { DISK, RealServer } from './real-server-fixture.ts';
import { exported, replicate, SourceDisk, stampOf } from './source-disk-fixture.ts';

const run = promisify(execFile);
const MIB = 2 ** 20;
/** A little more than what the store keeps free for compaction. */
const STORE_BYTES = 280 * MIB;
const CLI = join(import.meta.dirname, '../cli/main.ts');

/** A server whose store is a file system of STORE_BYTES, which outlives the server and not the test. */
async function serverOnSmallStore(tasks: ServerTask[]) {
  const server = await RealServer.prepare({ tasks });
  const store = join(server.directory, 'store');
  await mkdir(store);
  const mount = `mount -t tmpfs -o size=${STORE_BYTES} tmpfs '${store}' && echo ready && cat`;
  const holder = spawn('unshare', ['--mount', 'sh', '-c', mount], { stdio: ['pipe', 'pipe', 'inherit'] });
  await once(holder.stdout, 'data');
  server.enter = ['nsenter', '--target', String(holder.pid), '--mount', '--'];
  const inside = async (...command: string[]): Promise<string> => {
    const [program, ...args] = [...server.enter, ...command];
    return (await run(program!, args)).stdout;
  };
  const ballast = join(store, '.ballast');
  return {
    server,
    inside,
    /** Others write to the file system until so many bytes are free. */
    leave: async (freeBytes: number): Promise<void> => {
      await inside('rm', '-f', ballast);
      const [blocks, bytes] = (await inside('stat', '-f', '-c', '%a %S', store)).split(' ').map(Number);
      await inside('fallocate', '-l', String(blocks! * bytes! - freeBytes), ballast);
    },
    makeRoom: () => inside('rm', ballast),
    async [Symbol.asyncDispose]() {
      await server[Symbol.asyncDispose]();
      const exited = once(holder, 'exit');
      holder.stdin.end();
      await exited;
    },
  };
}

function isFull(error: unknown): boolean {
  assert(hasCode(error, 'storage_full'), String(error));
  return true;
}

test('a full disk refuses the next point, keeps the older ones usable, and replication goes on with room', async () => {
  const view: ServerTask = { id: 'view-1', kind: 'open_view', replica_id: 'replica-1', sequence: 1 };
  await using own = await serverOnSmallStore([]);
  const { server } = own;
  await server.start();
  const disk = new SourceDisk();
  disk.change(0, 200);
  {
    await using session = await server.open();
    const whole = [0, 50, 100, 150].map((at): [number, number] => [at, 50]);
    await replicate(session, disk, 1, whole);
    disk.change(10, 20);
    await replicate(session, disk, 2, [[10, 20]]);
  }
  const second = Uint8Array.from(disk.bytes);
  disk.change(300, 50);

  // Less than the reserve is left: the point is refused before a byte of it is taken.
  await own.leave(100 * MIB);
  {
    await using session = await server.open();
    await assert.rejects(replicate(session, disk, 3, [[300, 50]]), (error) => {
      assert.match(failureIn(error)?.hint ?? '', /Make room at the replica/);
      return isFull(error);
    });
  }
  assert.match(String((await server.said('store.full'))['reason']), /\d+ bytes are free/);
  await own.makeRoom();

  // Nothing at all is left in the middle of a point; the server dies, and starts again on the full disk.
  {
    const session = await server.open();
    const base = { base: { sequence: 2, stamp: stampOf(2) } };
    await session.begin({ sequence: 3, stamp: stampOf(3), momentMs: 3000, ...base, disks: [DISK] });
    await session.segment(0, disk.segment(session, 300, 10));
    await own.leave(0);
    await assert.rejects(async () => {
      for (let index = 1; index < 5; index++) {
        await session.segment(index, disk.segment(session, 300 + index * 10, 10));
      }
      const attachments: [] = [];
      const commit = { stamp: stampOf(3), segmentCount: 5, roots: [disk.root(session)], attachments };
      await session.commit({ ...commit, consistency: 'crash' });
    }, isFull);
  }
  await server.stop('SIGKILL');
  await server.order({ revision: 2, tasks: [view] });
  await server.start();
  await server.said('task.done');
  assert.equal((await exported(server, 'view-1')).length, DISK.bytes);
  const target = join(server.directory, 'export');
  const replica = join(server.directory, 'store/replica-1');
  await own.inside(process.execPath, CLI, 'replica', 'export', replica, target, '--format', 'raw');
  assert.deepEqual(new Uint8Array(await readFile(join(target, 'vda.raw'))), second);

  // The next try is refused as well, until there is room again.
  await using session = await server.open();
  assert.equal(session.opened.head?.sequence, 2);
  await assert.rejects(replicate(session, disk, 3, [[300, 50]]), isFull);
  await server.said('store.full');
  await own.makeRoom();
  await using again = await server.open();
  assert.deepEqual(await replicate(again, disk, 3, [[300, 50]]), { sequence: 3, stamp: stampOf(3) });
  await server.said('store.has_room');
  await own.inside(process.execPath, CLI, 'replica', 'export', replica, `${target}-3`, '--format', 'raw');
  assert.deepEqual(new Uint8Array(await readFile(join(`${target}-3`, 'vda.raw'))), disk.bytes);
});
