import assert from 'node:assert/strict';
import { test } from 'node:test';
import { wantedPoints } from '#/lib/wanted-points.ts';
import type { RetentionPolicy } from './replica.ts';
import { DEFAULT_RETENTION } from './replica.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

/** Points by the minute of their moment; what is kept, in the same way. */
function kept(minutes: number[], nowMinute: number, policy: RetentionPolicy): string {
  const points = minutes.map((minute, index) => ({ sequence: index + 1, momentMs: minute * MINUTE }));
  const wanted = wantedPoints(points, policy, nowMinute * MINUTE);
  return points
    .filter(({ sequence }) => wanted.has(sequence))
    .map(({ momentMs }) => momentMs / MINUTE)
    .join(' ');
}

function every(step: number, from: number, to: number): number[] {
  return Array.from({ length: Math.floor((to - from) / step) + 1 }, (_, index) => from + index * step);
}

const SCENARIOS: [
  what: string,
  minutes: number[],
  nowMinute: number,
  policy: RetentionPolicy,
  kept: string,
][] = [
  ['everything of the last hour', every(10, 0, 50), 55, DEFAULT_RETENTION, '0 10 20 30 40 50'],
  [
    'the oldest of each hour beyond it',
    every(10, 0, 170),
    175,
    DEFAULT_RETENTION,
    '0 60 120 130 140 150 160 170',
  ],
  ['nothing older than the last tier', [0, 600, 1430, 1439], 1441, DEFAULT_RETENTION, '600 1430 1439'],
  ['the newest, however old it is', [0, 1, 2], 100_000, DEFAULT_RETENTION, '2'],
  ['what a clock set back calls the future', [500, 510], 100, DEFAULT_RETENTION, '500 510'],
  [
    'coarser tiers within finer ones',
    every(30, 0, 26 * 60),
    26 * 60,
    {
      keepAllMs: 0,
      tiers: [
        { everyMs: 6 * HOUR, forMs: 12 * HOUR },
        { everyMs: 24 * HOUR, forMs: 72 * HOUR },
      ],
    },
    '0 870 1080 1440 1560',
  ],
];

for (const [what, minutes, nowMinute, policy, expected] of SCENARIOS) {
  test(`retention keeps ${what}`, () => assert.equal(kept(minutes, nowMinute, policy), expected));
}

test('what retention keeps as time goes by is what it would have kept at once', () => {
  let points: { sequence: number; momentMs: number }[] = [];
  const all: typeof points = [];
  for (let minute = 0; minute < 30 * 60; minute += 7) {
    const point = { sequence: minute / 7 + 1, momentMs: minute * MINUTE };
    all.push(point);
    points.push(point);
    const wanted = wantedPoints(points, DEFAULT_RETENTION, minute * MINUTE);
    points = points.filter(({ sequence }) => wanted.has(sequence));
  }
  const now = all.at(-1)!.momentMs;
  // A tier's oldest point leaves with its age, and the next one of its hour was given up long before.
  const atOnce = [...wantedPoints(all, DEFAULT_RETENTION, now)].sort((a, b) => a - b);
  const inSteps = points.map(({ sequence }) => sequence);
  assert.deepEqual(inSteps.slice(-30), atOnce.slice(-30));
  assert.ok(Math.abs(inSteps.length - atOnce.length) <= 1);
});
