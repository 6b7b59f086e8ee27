import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ManualClock } from '#/lib/manual-clock.ts';
import { CallDeadlines } from './call-deadlines.ts';

/** Moves time on, a step at a time, so that timers that are set again are heard. */
async function pass(clock: ManualClock, ms: number): Promise<void> {
  for (let at = 0; at < ms; at += 10) {
    clock.advance(10);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

test('each call is late at its own deadline, once, whatever the order they were added in', async () => {
  const clock = new ManualClock();
  const late: string[] = [];
  const deadlines = new CallDeadlines<string>(clock, (call) => late.push(call));
  deadlines.add('slow', 300);
  deadlines.add('quick', 100);
  deadlines.add('answered', 100);
  deadlines.delete('answered');
  await pass(clock, 90);
  assert.deepEqual(late, []);
  await pass(clock, 10);
  assert.deepEqual(late, ['quick']);
  deadlines.add('later', 300);
  await pass(clock, 200);
  assert.deepEqual(late, ['quick', 'slow']);
  await pass(clock, 100);
  assert.deepEqual(late, ['quick', 'slow', 'later']);
  await pass(clock, 1000);
  assert.equal(late.length, 3);
});

test('a thousand calls that are answered take one timer', async () => {
  let timers = 0;
  class CountingClock extends ManualClock {
    override sleep(ms: number, signal?: AbortSignal): Promise<void> {
      timers++;
      return super.sleep(ms, signal);
    }
  }
  const clock = new CountingClock();
  const deadlines = new CallDeadlines<number>(clock, () => assert.fail('answered in time'));
  for (let call = 0; call < 1000; call++) {
    deadlines.add(call, 60_000);
    clock.advance(1);
    deadlines.delete(call);
  }
  assert.equal(timers, 1);
  await pass(clock, 60_000);
  deadlines.close();
});
