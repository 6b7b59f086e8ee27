import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MemoryFileSystem } from '#/disk/memory-file-system.ts';
import { hasCode } from '#/lib/failure.ts';
import { SeededRandom } from '#/lib/random.ts';
import { difference, fixedClock, IDENTITY, SourceModel } from './replica-fixture.ts';
import { createReplica, openReplica } from './stored-replica.ts';
import type { Replica } from './replica.ts';

const MIB = 1024 * 1024;

async function setUp(seed = 1): Promise<{ files: MemoryFileSystem; model: SourceModel; replica: Replica }> {
  const files = new MemoryFileSystem(2 ** 36);
  const model = new SourceModel(new SeededRandom(seed));
  model.addDisk('vda', 3 * MIB + 512);
  model.addDisk('vdb', 2 * MIB);
  model.scribble(40);
  const replica = await createReplica({ files, clock: fixedClock(), directory: 'r' }, IDENTITY);
  return { files, model, replica };
}

async function assertPoints(replica: Replica, model: SourceModel): Promise<void> {
  for (const { sequence } of replica.points()) {
    await using view = await replica.openView(sequence);
    assert.equal(await difference(view, model.points.get(sequence)!), undefined, `point ${sequence}`);
  }
}

test('a first copy and deltas open as what the source was, also after the replica is opened again', async () => {
  const { files, model, replica } = await setUp();
  await model.send(replica);
  for (let i = 0; i < 10; i++) {
    model.scribble(i * 3);
    await model.send(replica);
  }
  assert.deepEqual(
    replica.points().map(({ sequence }) => sequence),
    [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11],
  );
  await assertPoints(replica, model);
  const before = replica.points();
  await replica[Symbol.asyncDispose]();
  await using again = await openReplica({ files, clock: fixedClock(), directory: 'r' });
  assert.deepEqual(again.points(), before);
  assert.deepEqual(
    (await again.state()).disks.map(({ root }) => root),
    model.roots(),
  );
  await assertPoints(again, model);
  model.scribble(5);
  await model.send(again);
  await assertPoints(again, model);
  const report = await again.verify();
  assert.deepEqual(report.problems, []);
});

test('compaction keeps what retention wants, and what is kept stays what it was', async () => {
  const { model, replica } = await setUp(2);
  await using _ = replica;
  for (let i = 0; i < 60; i++) {
    model.scribble(4);
    await model.send(replica);
  }
  const nowMs = replica.head()!.momentMs;
  const policy = { keepAllMs: 50_000, tiers: [{ everyMs: 100_000, forMs: 200_000 }] };
  let steps = 0;
  while (await replica.compact(policy, nowMs)) steps++;
  assert.ok(steps > 3);
  assert.ok(replica.points().length < 20);
  await assertPoints(replica, model);
  assert.deepEqual((await replica.verify()).problems, []);
  model.scribble(20);
  await model.send(replica);
  await assertPoints(replica, model);
  await assert.rejects(replica.openView(2), (error) => hasCode(error, 'point_expired'));
  await assert.rejects(replica.openView(99), (error) => hasCode(error, 'not_found'));
});
