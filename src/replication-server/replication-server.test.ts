import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import type { ServerTask } from '#/control/orders.ts';
import { hasCode } from '#/lib/failure.ts';
import { DISK, RealServer, replicaOrder } from './real-server-fixture.ts';
import { DEFINITION, exported, replicate, SourceDisk, stampOf } from './source-disk-fixture.ts';

const run = promisify(execFile);

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
  for (let index = 0; index < 20; index++) await cut.segment(index, disk.segment(cut, ...ranges[index]!));
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
