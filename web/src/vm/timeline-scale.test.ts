import assert from 'node:assert/strict';
import { test } from 'node:test';
import { columnsOf, lateSpans, pan, place, pointAt, ticksOf, zoom, type Dated } from './timeline-scale.ts';

const BOUNDS = { fromMs: 0, toMs: 1_000_000 };
const point = (sequence: number, momentMs: number): Dated => ({
  sequence,
  moment_ms: momentMs,
  acknowledged_ms: momentMs + 100,
  delta_bytes: 10,
});

test('what is under the pointer stays there while one zooms, and the ends are never passed', () => {
  const seen = { fromMs: 200_000, toMs: 600_000 };
  const near = zoom(seen, 0.5, 300_000, BOUNDS);
  assert.equal(near.toMs - near.fromMs, 200_000);
  assert.equal(place(300_000, near, 100), place(300_000, seen, 100));
  assert.deepEqual(zoom(seen, 100, 300_000, BOUNDS), BOUNDS);
  const finest = zoom(seen, 1e-9, 300_000, BOUNDS);
  assert.equal(Math.round(finest.toMs - finest.fromMs), 5000);
  assert.deepEqual(pan(seen, 9e9, BOUNDS), { fromMs: 600_000, toMs: 1_000_000 });
  assert.deepEqual(pan(seen, -9e9, BOUNDS), { fromMs: 0, toMs: 400_000 });
});

test('points that are too near to each other are one column that leads to the newest', () => {
  const points = [point(1, 0), point(2, 10), point(3, 20), point(4, 500_000)];
  const columns = columnsOf(points, BOUNDS, 1000, 3);
  assert.deepEqual(
    columns.map(({ count, deltaBytes, newest }) => [newest.sequence, count, deltaBytes]),
    [
      [3, 3, 30],
      [4, 1, 10],
    ],
  );
});

test('late is when the newest point was too old, not where old points were thinned', () => {
  const points = [point(1, 0), point(2, 60_000), point(3, 65_000), point(4, 90_000)];
  const late = lateSpans(points, 10_000, 40_000, 95_000);
  assert.deepEqual(late, [{ fromMs: 75_000, toMs: 90_100 }]);
  assert.deepEqual(lateSpans([point(1, 0)], 1000, 10_000, 3000), [{ fromMs: 1000, toMs: 3000 }]);
});

test('labels are at round times and never crowd, from seconds to months', () => {
  for (const widthMs of [5000, 60_000, 3_600_000, 86_400_000, 90 * 86_400_000]) {
    const seen = { fromMs: 1_700_000_123_456, toMs: 1_700_000_123_456 + widthMs };
    const ticks = ticksOf(seen, 900, 90);
    assert(ticks.length >= 1 && ticks.length <= 10, `${widthMs}: ${ticks.length}`);
    for (const { atMs } of ticks) assert(atMs >= seen.fromMs && atMs <= seen.toMs && atMs % 1000 === 0);
  }
});

test('a moment leads to the newest point that is not younger', () => {
  const points = [point(1, 100), point(2, 200)];
  assert.deepEqual(
    [50, 100, 199, 200, 999].map((ms) => pointAt(points, ms)?.sequence),
    [1, 1, 1, 2, 2],
  );
  assert.equal(pointAt([], 5), undefined);
});
