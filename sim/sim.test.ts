import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runSeed } from './run-seed.ts';

/** Seeds that every change is tested with; batches of fresh ones run beside the tests. */
const SEEDS = [1, 2, 3, 4, 5, 6];
const again = (seed: number): string => `again: ./antipode sim --seed ${seed} --trace`;

test('the same seed gives the same run to the last event', async () => {
  const first = await runSeed(2);
  const second = await runSeed(2);
  assert.equal(second.traceHash, first.traceHash, again(2));
  assert.equal(second.events, first.events, again(2));
  const other = await runSeed(4);
  assert.notEqual(other.traceHash, first.traceHash, 'another seed is another run');
});

test('a fixed batch of seeds holds every invariant and converges', async () => {
  let points = 0;
  let checked = 0;
  for (const seed of SEEDS) {
    const outcome = await runSeed(seed);
    assert.deepEqual(outcome.violations, [], again(seed));
    points += outcome.points;
    checked += outcome.checks.points;
  }
  assert(points > 50 && checked > 100, `the batch is worth something: ${points} points, ${checked} compared`);
});

test('in a world in which nothing goes wrong the newest point is never older than the RPO', async () => {
  for (const seed of [1, 3]) {
    const { violations, points, virtualMs, oldestMs, rpoMs } = await runSeed(seed, { faults: [] });
    assert.deepEqual(violations, [], again(seed));
    assert(points >= virtualMs / rpoMs - 1, `${points} points in ${virtualMs} ms`);
    assert(oldestMs <= rpoMs, `the newest point was ${oldestMs} ms old, the RPO is ${rpoMs}; ${again(seed)}`);
  }
});
