/** The loop over cycles, on a clock that leaps. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Failure } from '#/lib/failure.ts';
import { SeededRandom } from '#/lib/random.ts';
import { syncBlockCodec } from './block-codec.ts';
import { CrashingFileSystem, VirtualClock } from './crash-fixture.ts';
import { CycleGate } from './cycle-gate.ts';
import { MemoryReplica, rootOf } from './replica-fixture.ts';
import { Replicator, type ReplicatorEvent, type ReplicatorOptions } from './replicator.ts';
import { MemorySource, MemoryVmDisk } from './source-fixture.ts';

/** Runs until `isDone` holds after a change, or fails after very many changes. */
async function runUntil(
  options: Partial<ReplicatorOptions> & { source: MemorySource; link: MemoryReplica; clock: VirtualClock },
  isDone: (replicator: Replicator, events: ReplicatorEvent[]) => boolean,
): Promise<{ replicator: Replicator; events: ReplicatorEvent[] }> {
  const events: ReplicatorEvent[] = [];
  const stop = new AbortController();
  let changes = 0;
  const replicator: Replicator = new Replicator({
    codec: syncBlockCodec,
    random: new SeededRandom(3),
    fs: new CrashingFileSystem(),
    directory: 'r',
    replicaId: 'replica-1',
    order: { rpoMs: 5000, disks: [], scratchBytes: 1 },
    gate: new CycleGate(2),
    onEvent: (event) => events.push(event),
    onChange: () => {
      if (++changes > 10_000 || isDone(replicator, events)) stop.abort();
    },
    ...options,
  });
  await replicator.run(stop.signal);
  assert(changes <= 10_000, 'it never came to pass');
  return { replicator, events };
}

function world(): { source: MemorySource; link: MemoryReplica; clock: VirtualClock } {
  const clock = new VirtualClock();
  const source = new MemorySource([new MemoryVmDisk('vda', 2 ** 20)]);
  const freeze = source.freeze.bind(source);
  source.freeze = (request) => {
    source.nowMs = clock.now();
    return freeze(request);
  };
  return { source, link: new MemoryReplica(), clock };
}

test('points follow each other within the RPO, unchanged or powered off', async () => {
  const { source, link, clock } = world();
  const { replicator, events } = await runUntil({ source, link, clock }, ({ status }) => {
    source.isOn = (status.point?.sequence ?? 0) < 4;
    return status.point?.sequence === 8;
  });
  assert.equal(replicator.status.state, 'stopped');
  assert.deepEqual(
    events.map(({ kind }) => kind),
    ['first_copy_ended'],
  );
  assert.equal(link.points.length, 8);
});

test('a link that is away is told once, violations begin in time, and all is well afterwards', async () => {
  const { source, link, clock } = world();
  const open = link.open.bind(link);
  const { events } = await runUntil({ source, link, clock }, ({ status }, told) => {
    const isAway = link.points.length === 2 && clock.now() < 1_060_000;
    link.open = isAway ? () => Promise.reject(new Failure('unreachable', 'away')) : open;
    return status.point?.sequence === 4 && told.length > 3;
  });
  assert.deepEqual(
    events.map(({ kind }) => kind),
    ['first_copy_ended', 'failing_began', 'violation_began', 'violation_ended', 'failing_ended'],
  );
  const began = events.find(({ kind }) => kind === 'violation_began')!;
  assert(began.kind === 'violation_began' && began.atMs - began.momentMs === 5000);
});

test('told to stop while it waits for another try, it stops', async () => {
  const { source, link, clock } = world();
  link.open = () => Promise.reject(new Failure('unreachable', 'away'));
  const { replicator } = await runUntil({ source, link, clock }, ({ status }) => status.state === 'failing');
  assert.equal(replicator.status.state, 'stopped');
});

test('after a restart the age counts from the point that the record knows', async () => {
  const { source, link, clock } = world();
  const fs = new CrashingFileSystem();
  await runUntil({ source, link, clock, fs }, ({ status }) => status.point?.sequence === 2);
  clock.nowMs += 100_000;
  const { events } = await runUntil(
    { source, link, clock, fs },
    ({ status }) => status.point?.sequence === 3,
  );
  assert.deepEqual(
    events.map(({ kind }) => kind),
    ['violation_began', 'violation_ended'],
  );
});

test('a trigger starts a cycle that the law does not ask for yet', async () => {
  const { source, link, clock } = world();
  const startMs = clock.now();
  const order = { rpoMs: 3_600_000, disks: [], scratchBytes: 1 };
  clock.sleep = (_, signal) =>
    new Promise((_resolve, reject) => {
      signal?.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
      if (signal?.aborted === true) reject(signal.reason as Error);
    });
  await runUntil({ source, link, clock, order }, (replicator) => {
    if (replicator.status.state === 'waiting') queueMicrotask(() => replicator.trigger());
    return replicator.status.point?.sequence === 3;
  });
  assert.equal(clock.now(), startMs);
});

test('the next cycle that is asked for began after the asking, also when one was under way or failed', async () => {
  const { source, link, clock } = world();
  const stop = new AbortController();
  const open = link.open.bind(link);
  const asked: { after: number; sequence: number; roots: string[]; consistency: string }[] = [];
  let count = 0;
  const ask = (replicator: Replicator, after: number): void => {
    void replicator.nextCycle(stop.signal).then(({ point, roots, consistency }) => {
      asked.push({ after, sequence: point.sequence, roots, consistency });
    });
  };
  await runUntil({ source, link, clock }, (replicator) => {
    const { state, progress, point } = replicator.status;
    const sequence = point?.sequence ?? 0;
    // Within the second cycle: it does not count, and the third fails once.
    if (count === 0 && state === 'replicating' && sequence === 1 && progress !== undefined) {
      count++;
      ask(replicator, 2);
      source.isOn = false;
    }
    if (count === 1 && sequence === 2) {
      count++;
      link.open = () => {
        link.open = open;
        return Promise.reject(new Failure('unreachable', 'away for a moment'));
      };
    }
    return sequence === 4;
  });
  await Promise.resolve();
  assert.deepEqual(
    asked.map(({ after, sequence, consistency }) => [after, sequence, consistency]),
    [[2, 3, 'off']],
  );
  assert.deepEqual(asked[0]?.roots, [...link.state.values()].map(rootOf));
});

test('who waits for a cycle of a replication that is stopped is told', async () => {
  const { source, link, clock } = world();
  let waiting: Promise<unknown> | undefined;
  const { replicator } = await runUntil({ source, link, clock }, (one) => {
    link.open = () => Promise.reject(new Failure('unreachable', 'away'));
    waiting ??= one.nextCycle(new AbortController().signal);
    return one.status.state === 'failing';
  });
  await assert.rejects(waiting!, { code: 'cancelled' });
  await assert.rejects(replicator.nextCycle(new AbortController().signal), { code: 'cancelled' });
});
