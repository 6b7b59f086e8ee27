import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { hash, randomBytes } from 'node:crypto';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import type { ServerTask } from '#/control/orders.ts';
import { nextLevel, rootFromLevel1 } from '#/disk/digest-tree.ts';
import { hasCode } from '#/lib/failure.ts';
import type { ReplicaSession } from '#/replication/link.ts';
import { encodeSegment } from '#/wire/segment.ts';
import { DISK, RealServer, replicaOrder } from './real-server-fixture.ts';

const run = promisify(execFile);
const BLOCK = 4096;

/** The source's disk, with what it says about itself. */
class SourceDisk {
  readonly bytes = new Uint8Array(DISK.bytes);

  change(first: number, count: number): void {
    this.bytes.set(randomBytes(count * BLOCK), first * BLOCK);
  }

  segment(first: number, count: number): Uint8Array {
    const payload = this.bytes.slice(first * BLOCK, (first + count) * BLOCK);
    const runs = [{ first, count }];
    return encodeSegment({
      kind: 'data',
      disk: 0,
      runs,
      digests: digestsOf(payload),
      encoding: 'raw',
      payload,
    });
  }

  root(): string {
    return rootFromLevel1(nextLevel(digestsOf(this.bytes)));
  }
}

function digestsOf(bytes: Uint8Array): Uint8Array {
  const digests = new Uint8Array((bytes.length / BLOCK) * 16);
  for (let at = 0, block = 0; at < bytes.length; at += BLOCK, block++) {
    const piece = bytes.subarray(at, at + BLOCK);
    if (piece.some((byte) => byte !== 0))
      digests.set(hash('sha256', piece, 'buffer').subarray(0, 16), block * 16);
  }
  return digests;
}

function stampOf(sequence: number): string {
  return sequence.toString(16).padStart(32, '0');
}

const DEFINITION = new TextEncoder().encode('<domain><name>ledger</name></domain>');

/** Sends one point of `ranges` and has it acknowledged. */
async function replicate(
  session: ReplicaSession,
  disk: SourceDisk,
  sequence: number,
  ranges: [number, number][],
) {
  const base = sequence > 1 ? { base: { sequence: sequence - 1, stamp: stampOf(sequence - 1) } } : {};
  const stamp = stampOf(sequence);
  let index = await session.begin({ sequence, stamp, momentMs: sequence * 1000, ...base, disks: [DISK] });
  for (const [first, count] of ranges.slice(index))
    await session.segment(index++, disk.segment(first, count));
  const attachment = {
    kind: 'definition' as const,
    sha256: hash('sha256', DEFINITION),
    bytes: DEFINITION.length,
  };
  for (const sha256 of await session.offerAttachments([attachment]))
    await session.attachment(sha256, DEFINITION);
  const commit = { stamp, segmentCount: index, roots: [disk.root()], attachments: [attachment] };
  return await session.commit({ ...commit, consistency: 'crash' });
}

test('a replica is filled, survives kill -9, grows by a delta, and its points are served over NBD', async () => {
  await using server = await RealServer.prepare({});
  await server.start();
  const disk = new SourceDisk();
  disk.change(0, 200);
  {
    await using session = await server.open();
    assert.equal(session.opened.head, undefined);
    const ranges: [number, number][] = [0, 50, 100, 150].map((first) => [first, 50]);
    assert.deepEqual(await replicate(session, disk, 1, ranges), { sequence: 1, stamp: stampOf(1) });
  }
  const first = Uint8Array.from(disk.bytes);
  await server.stop('SIGKILL');

  const openTasks: ServerTask[] = [
    { id: 'view-1', kind: 'open_view', replica_id: 'replica-1', sequence: 0 },
    { id: 'view-9', kind: 'open_view', replica_id: 'replica-1', sequence: 9 },
  ];
  await server.order({ revision: 2, tasks: openTasks });
  await server.start();
  assert.equal((await server.said('task.done'))['task'], 'view-1');
  assert.equal((await server.said('task.failed'))['code'], 'not_found');
  disk.change(40, 20);
  {
    await using session = await server.open();
    assert.deepEqual(session.opened.head, { sequence: 1, stamp: stampOf(1), momentMs: 1000 });
    await replicate(session, disk, 2, [[40, 20]]);
  }
  await server.stop('SIGKILL');

  // The newest point is another one by now, and the view is still of the one it was opened for.
  await server.start();
  await server.said('task.done');
  assert.deepEqual(await exported(server, 'view-1'), first);
  const attached = await readFile(join(server.directory, 'run/views/view-1/attachments/definition.xml'));
  assert.deepEqual(new Uint8Array(attached), DEFINITION);
  assert.equal(await server.stop('SIGTERM'), 0);

  const closeTask: ServerTask = { id: 'close-1', kind: 'close_view', open_task_id: 'view-1' };
  const newest: ServerTask = { id: 'view-2', kind: 'open_view', replica_id: 'replica-1', sequence: 0 };
  await server.order({ revision: 3, tasks: [closeTask, newest] });
  await server.start();
  await server.said('task.done');
  await server.said('task.done');
  await assert.rejects(stat(join(server.directory, 'run/views/view-1')));
  assert.deepEqual(await exported(server, 'view-2'), disk.bytes);
  await server.stop('SIGTERM');

  await server.order({
    revision: 4,
    tasks: [{ id: 'gone', kind: 'delete_replica', replica_id: 'replica-1' }],
  });
  await server.start();
  await server.said('task.done');
  await assert.rejects(stat(join(server.directory, 'store/replica-1')));
  await assert.rejects(stat(join(server.directory, 'run/views/view-2')));
  assert.equal(await server.stop('SIGTERM'), 0);
});

test('a first copy that kill -9 of the server cuts goes on where it was', async () => {
  await using server = await RealServer.prepare({});
  await server.start();
  const disk = new SourceDisk();
  disk.change(0, 400);
  const ranges = Array.from({ length: 40 }, (_, i): [number, number] => [i * 10, 10]);
  const cut = await server.open();
  await cut.begin({ sequence: 1, stamp: stampOf(1), momentMs: 1000, disks: [DISK] });
  for (let index = 0; index < 20; index++) await cut.segment(index, disk.segment(...ranges[index]!));
  await server.stop('SIGKILL');
  await assert.rejects(
    cut.commit({
      stamp: stampOf(1),
      segmentCount: 20,
      roots: ['00'.repeat(16)],
      attachments: [],
      consistency: 'crash',
    }),
    (error) => hasCode(error, 'unreachable'),
  );
  await server.start();
  await using session = await server.open();
  await replicate(session, disk, 1, ranges);
  await session[Symbol.asyncDispose]();
  await server.stop('SIGTERM');
  await server.order({ tasks: [{ id: 'view-1', kind: 'open_view', replica_id: 'replica-1', sequence: 1 }] });
  await server.start();
  await server.said('task.done');
  assert.deepEqual(await exported(server, 'view-1'), disk.bytes);
});

test('who may not write a replica is told why', async () => {
  await using server = await RealServer.prepare({ replicas: [replicaOrder(3)] });
  await server.start();
  await assert.rejects(server.open({ site: 'east', epoch: 3 }), (error) => hasCode(error, 'forbidden'));
  await assert.rejects(server.open({ epoch: 2 }), (error) => hasCode(error, 'epoch_stale'));
  await using session = await server.open({ epoch: 3 });
  await assert.rejects(server.open({ agent: 'agent-2', epoch: 3 }), (error) =>
    hasCode(error, 'replica_busy'),
  );
  await using newer = await server.open({ epoch: 3 });
  const begin = { sequence: 1, stamp: stampOf(1), momentMs: 1, disks: [DISK] };
  await assert.rejects(session.begin(begin), (error) => hasCode(error, 'replica_busy'));
  assert.equal(await newer.begin(begin), 0);
  await server.stop('SIGTERM');
  await server.order({ replicas: [] });
  await server.start();
  await assert.rejects(server.open({ epoch: 3 }), (error) => hasCode(error, 'not_found'));
});

test('a second server on the same store, and a wrong configuration, stop with a reason and a code', async () => {
  await using server = await RealServer.prepare({});
  await server.start();
  const config = join(server.directory, 'config.json');
  assert.deepEqual(await exitOf(config), [4, 'conflict']);
  const wrong = join(server.directory, 'wrong.json');
  await writeFile(wrong, JSON.stringify({ ...JSON.parse(await readFile(config, 'utf8')), colour: 'blue' }));
  const [code, , reason] = await exitOf(wrong);
  assert.deepEqual([code, /colour: unknown key/.test(reason ?? '')], [2, true]);
});

async function exitOf(config: string): Promise<[number, string?, string?]> {
  const main = join(import.meta.dirname, 'main.ts');
  const failed = (await run(process.execPath, [main, '--config', config]).then(
    () => assert.fail('it runs'),
    (error: unknown) => error,
  )) as { code: number; stderr: string };
  const line = JSON.parse(failed.stderr.trim().split('\n').at(-1)!) as { code: string; reason: string };
  return failed.code === 2 ? [2, line.code, line.reason] : [failed.code, line.code];
}

/** The bytes of a view's disk, as nbdcopy reads them from its socket. */
async function exported(server: RealServer, taskId: string): Promise<Uint8Array> {
  const uri = `nbd+unix:///${DISK.key}?socket=${join(server.directory, 'run/views', taskId, 'nbd.sock')}`;
  const { stdout } = await run('nbdinfo', ['--json', uri]);
  assert.match(stdout, new RegExp(`"export-size": ${DISK.bytes}`));
  const path = join(server.directory, `${taskId}.raw`);
  await run('nbdcopy', [uri, path]);
  return new Uint8Array(await readFile(path));
}
