/** The RPO law: when cycles start, and the exact times of violations. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { retryDelayMs, RpoLaw } from './rpo-law.ts';

test('a cycle starts at once without a point, and later so early that it ends within the RPO', () => {
  const law = new RpoLaw(5000);
  assert.equal(law.nextStartMs(123), 123);
  law.acknowledged(10_000, 10_400, 400);
  assert.equal(law.nextStartMs(10_400), 10_000 + 5000 - 400 - 250);
  law.acknowledged(14_000, 15_200, 1200);
  assert.equal(law.expectedMs(), 1200);
  for (let i = 0; i < 8; i++) law.acknowledged(20_000, 20_300, 300);
  assert(law.expectedMs() < 500, `${law.expectedMs()} ms after eight cycles of 300 ms`);
});

test('a violation begins exactly when the newest point reaches the age of the RPO, whenever it is noticed', () => {
  const law = new RpoLaw(5000);
  law.acknowledged(10_000, 10_400, undefined);
  assert.deepEqual(law.look(14_999), []);
  assert.deepEqual(law.look(17_123), [{ kind: 'violation_began', atMs: 15_000, momentMs: 10_000 }]);
  assert.deepEqual(law.look(18_000), []);
  // A point that is too old on arrival does not end it.
  assert.deepEqual(law.acknowledged(11_000, 18_500, undefined), []);
  assert.deepEqual(law.acknowledged(18_600, 19_000, undefined), [
    { kind: 'violation_ended', atMs: 19_000, momentMs: 18_600 },
  ]);
});

test('a late acknowledgement that ends a violation nobody had noticed tells both its times', () => {
  const law = new RpoLaw(1000);
  law.acknowledged(0, 10, undefined);
  const events = law.acknowledged(2000, 2100, undefined);
  assert.deepEqual(
    events.map(({ kind, atMs }) => [kind, atMs]),
    [
      ['violation_began', 1000],
      ['violation_ended', 2100],
    ],
  );
});

test('a cycle longer than half the RPO is announced once, and so is its end', () => {
  const law = new RpoLaw(1000);
  assert.deepEqual(law.acknowledged(0, 500, 500), []);
  assert.equal(law.acknowledged(600, 990, 501)[0]?.kind, 'risk_began');
  assert.deepEqual(law.acknowledged(1300, 1590, 600), []);
  assert.equal(law.acknowledged(2000, 2100, 100)[0]?.kind, 'risk_ended');
});

test('tries after failures come ever later, but not later than the law, nor than a quarter of the RPO', () => {
  const law = new RpoLaw(900_000);
  const delays = [1, 2, 3, 4, 20].map((failures) => retryDelayMs(failures, law, 0));
  assert.deepEqual(delays, [500, 1000, 2000, 4000, 60_000]);
  const short = new RpoLaw(5000);
  assert.equal(retryDelayMs(20, short, 0), 1250);
  law.acknowledged(0, 100, 100);
  assert.equal(retryDelayMs(20, law, 850_000), 900_000 - 100 - 45_000 - 850_000);
});
