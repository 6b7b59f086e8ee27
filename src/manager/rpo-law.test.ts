import assert from 'node:assert/strict';
import { test } from 'node:test';
import { advanceRpo, NO_RECORD, type RpoPoint, type RpoRecord } from './rpo-law.ts';

const RPO_MS = 5000;

function point(sequence: number, momentMs: number, acknowledgedMs: number): RpoPoint {
  return { sequence, momentMs, acknowledgedMs };
}

function look(record: RpoRecord, points: RpoPoint[], nowMs: number) {
  return advanceRpo(record, points, { rpoMs: RPO_MS, nowMs });
}

test('there is no violation before the first point, however long it takes', () => {
  assert.deepEqual(look(NO_RECORD, [], 1_000_000), { record: NO_RECORD, turns: [] });
});

test('a violation begins the moment the newest point is older than the RPO, and is told once', () => {
  const points = [point(1, 1000, 2000)];
  const first = look(NO_RECORD, points, 6000);
  assert.deepEqual(first.turns, []);
  const second = look(first.record, points, 9000);
  assert.deepEqual(second.turns, [{ kind: 'began', atMs: 6000 }]);
  assert.deepEqual(look(second.record, points, 60_000).turns, []);
});

test('a violation ends when a point is durable that is young enough by then, not with one that is too old', () => {
  const late = [point(1, 0, 100), point(2, 8000, 14_000)];
  const first = look(NO_RECORD, late, 14_000);
  assert.deepEqual(first.turns, [{ kind: 'began', atMs: 5000 }]);
  const second = look(first.record, [...late, point(3, 15_000, 16_000)], 17_000);
  assert.deepEqual(second.turns, [{ kind: 'ended', atMs: 16_000 }]);
});

test('a violation that came and went between two looks is told with its exact times', () => {
  const first = look(NO_RECORD, [point(1, 0, 100)], 1000);
  const points = [point(1, 0, 100), point(2, 6000, 7000), point(3, 9000, 9500)];
  assert.deepEqual(look(first.record, points, 10_000).turns, [
    { kind: 'began', atMs: 5000 },
    { kind: 'ended', atMs: 7000 },
  ]);
});

test('how often it is looked at changes nothing that is told', () => {
  const points = [0, 3000, 7500, 14_000, 19_000, 30_000].map((momentMs, index) =>
    point(index + 1, momentMs, momentMs + 700),
  );
  const often: unknown[] = [];
  let record = NO_RECORD;
  for (let nowMs = 0; nowMs <= 40_000; nowMs += 100) {
    const known = points.filter((one) => one.acknowledgedMs <= nowMs);
    const turn = look(record, known, nowMs);
    often.push(...turn.turns);
    record = turn.record;
  }
  let once: unknown[] = look(NO_RECORD, points, 40_000).turns;
  assert.deepEqual(often, once);
  assert.equal(often.length, 9);
  once = look(look(NO_RECORD, points.slice(0, 3), 9000).record, points, 40_000).turns;
  assert.deepEqual(often.slice(-once.length), once);
});

test('a violation that was open when the manager stopped is ended by the first good point after it', () => {
  const restarted: RpoRecord = { ...NO_RECORD, beganMs: 5000 };
  const old = point(4, 0, 100);
  const first = look(restarted, [old], 8000);
  assert.deepEqual(first.turns, []);
  const second = look(first.record, [old, point(5, 9000, 9100)], 9200);
  assert.deepEqual(second.turns, [{ kind: 'ended', atMs: 9100 }]);
});
