import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MemoryFileSystem } from '#/disk/memory-file-system.ts';
import { hasCode } from '#/lib/failure.ts';
import { SeededRandom } from '#/lib/random.ts';
import { wantedPoints } from '#/lib/wanted-points.ts';
import { BareReplica } from './bare-replica.ts';
import { nextStep } from './compaction-plan.ts';
import type { PointEntry } from './log-record.ts';
import { applyRecord, EMPTY_STATE, type LogState } from './log-state.ts';
import { difference, fixedClock, IDENTITY, SourceModel } from './replica-fixture.ts';
import { createReplica } from './stored-replica.ts';

const NOTHING = { keepAllMs: 0, tiers: [] };

function pointAt(sequence: number, momentMs: number): PointEntry {
  return {
    sequence,
    stamp: '0'.repeat(32),
    momentMs,
    acknowledgedMs: momentMs,
    epoch: 1,
    consistency: 'crash',
    disks: [{ id: 1, key: 'vda', bytes: 4096, root: '0'.repeat(32) }],
    attachments: [],
    bytes: 0,
  };
}

/** The default policy, six times as fast. */
const FAST = { keepAllMs: 600_000, tiers: [{ everyMs: 600_000, forMs: 6_000_000 }] };

test('hours of a point each 5 seconds keep few files, and each byte is rewritten a few times', () => {
  const deltaBytes = 1_000_000;
  let state: LogState = EMPTY_STATE;
  let written = 0;
  let rewritten = 0;
  let mostDeltas = 0;
  for (let sequence = 1, nowMs = 0; nowMs < 4 * 3_600_000; sequence++, nowMs += 5_000) {
    const deltas =
      sequence === 1
        ? []
        : [{ number: state.nextDelta, first: sequence, last: sequence, level: 0, bytes: deltaBytes }];
    state = applyRecord(state, { kind: 'point', point: pointAt(sequence, nowMs), deltas });
    written += deltaBytes;
    for (let steps = 0; ; steps++) {
      assert.ok(steps < 50);
      const settled = state.points.filter(({ momentMs }) => nowMs - momentMs >= FAST.keepAllMs);
      const step = nextStep({
        state,
        wanted: wantedPoints(state.points, FAST, nowMs),
        pinned: new Set(),
        settledThrough: settled.at(-1)?.sequence ?? 0,
        freeBytes: Infinity,
        blocksOf: ({ bytes }) => bytes / 4096,
      });
      if (step === undefined) break;
      if (step.kind === 'prune') state = applyRecord(state, { kind: 'pruned', sequences: step.sequences });
      else if (step.kind === 'advance') {
        rewritten += step.delta.bytes;
        state = applyRecord(state, { kind: 'advanced', removed: step.delta.number, base: step.delta.last });
      } else {
        const { deltas: inputs } = step;
        const bytes = inputs.reduce((sum, each) => sum + each.bytes, 0);
        rewritten += bytes;
        const level = Math.max(...inputs.map((each) => each.level)) + 1;
        const delta = {
          number: state.nextDelta,
          first: inputs[0]!.first,
          last: inputs.at(-1)!.last,
          level,
          bytes,
        };
        state = applyRecord(state, { kind: 'merged', removed: inputs.map(({ number }) => number), delta });
      }
    }
    mostDeltas = Math.max(mostDeltas, state.deltas.length);
  }
  assert.ok(rewritten / written < 4, `rewritten ${(rewritten / written).toFixed(2)} times`);
  assert.ok(mostDeltas < 120 + 12 + 32, `${mostDeltas} delta files`);
  assert.ok(state.points.length <= 120 + 12);
});

test('an open view keeps its point, its files and its bytes while everything around it is compacted', async () => {
  const files = new MemoryFileSystem();
  await using replica = await createReplica({ files, clock: fixedClock() }, IDENTITY);
  const model = new SourceModel(new SeededRandom(4));
  model.addDisk('vda', 1_400_320);
  for (let i = 0; i < 12; i++) {
    model.scribble(12);
    await model.send(replica);
  }
  const later = fixedClock().now() + 1e9;
  const view = await replica.openView(6);
  while (await replica.compact(NOTHING, later));
  assert.deepEqual(
    replica.points().map(({ sequence }) => sequence),
    [6, 12],
  );
  model.scribble(12);
  await model.send(replica);
  while (await replica.compact(NOTHING, later));
  assert.equal(await difference(view, model.points.get(6)!), undefined);
  await view[Symbol.asyncDispose]();
  while (await replica.compact(NOTHING, later));
  assert.deepEqual(
    replica.points().map(({ sequence }) => sequence),
    [13],
  );
  assert.deepEqual(await files.list('deltas'), []);
  await using head = await replica.openView(13);
  assert.equal(await difference(head, model.disks), undefined);
});

test('a bookmarked point keeps its bytes whatever the retention wants, until the bookmark is taken away', async () => {
  const files = new MemoryFileSystem();
  await using replica = await createReplica({ files, clock: fixedClock() }, IDENTITY);
  const model = new SourceModel(new SeededRandom(5));
  model.addDisk('vda', 1_400_320);
  for (let i = 0; i < 12; i++) {
    model.scribble(12);
    await model.send(replica);
  }
  const later = fixedClock().now() + 1e9;
  const sequences = (): number[] => replica.points().map(({ sequence }) => sequence);
  while (await replica.compact({ ...NOTHING, kept: [4, 7, 99] }, later));
  assert.deepEqual(sequences(), [4, 7, 12]);
  for (const sequence of sequences()) {
    await using view = await replica.openView(sequence);
    assert.equal(await difference(view, model.points.get(sequence) ?? model.disks), undefined);
  }
  assert.deepEqual((await replica.verify()).problems, []);
  while (await replica.compact({ ...NOTHING, kept: [7] }, later));
  assert.deepEqual(sequences(), [7, 12]);
});

test('views and points go on while compaction runs', async () => {
  const files = new MemoryFileSystem();
  await using replica = await createReplica({ files, clock: fixedClock() }, IDENTITY);
  const model = new SourceModel(new SeededRandom(8));
  model.addDisk('vda', 1_400_320);
  model.addDisk('vdb', 65_536);
  const policy = { keepAllMs: 40_000, tiers: [{ everyMs: 60_000, forMs: 200_000 }] };
  for (let i = 0; i < 60; i++) {
    model.scribble(5);
    const sequences = replica.points().map(({ sequence }) => sequence);
    const [, , found] = await Promise.all([
      model.send(replica),
      replica.compact(policy, model.intent().momentMs),
      look(sequences[i % Math.max(1, sequences.length)]),
    ]);
    assert.equal(found, undefined);
  }
  assert.deepEqual((await replica.verify()).problems, []);

  async function look(sequence: number | undefined): Promise<string | undefined> {
    if (sequence === undefined) return undefined;
    try {
      await using view = await replica.openView(sequence);
      return await difference(view, model.points.get(sequence)!);
    } catch (error) {
      if (hasCode(error, 'point_expired')) return undefined;
      throw error;
    }
  }
});

test('a reader without the lock gets a point’s bytes or learns that it expired, whatever compaction does', async () => {
  const files = new MemoryFileSystem();
  await using replica = await createReplica({ files, clock: fixedClock() }, IDENTITY);
  const model = new SourceModel(new SeededRandom(21));
  model.addDisk('vda', 1_400_320);
  for (let i = 0; i < 6; i++) {
    model.scribble(15);
    await model.send(replica);
  }
  const bare = await BareReplica.open(files);
  await using early = await bare.openView(2);
  await using late = await bare.openView(6);
  assert.equal(await difference(early, model.points.get(2)!), undefined);
  const later = fixedClock().now() + 1e9;
  while (await replica.compact(NOTHING, later)) {
    const found = await difference(early, model.points.get(2)!).catch((error: unknown) => error);
    assert.ok(found === undefined || hasCode(found, 'point_expired'));
    assert.equal(await difference(late, model.points.get(6)!), undefined);
  }
  await assert.rejects(difference(early, model.points.get(2)!), (error) => hasCode(error, 'point_expired'));
  await assert.rejects(bare.openView(3), (error) => hasCode(error, 'point_expired'));
  assert.deepEqual((await bare.verify()).problems, []);
});
