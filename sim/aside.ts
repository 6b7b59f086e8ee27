/**
 * Runs production code over a copy of a medium, beside the run and outside its time: what a program would find there.
 */
import assert from 'node:assert/strict';
import { setImmediate as macrotask } from 'node:timers/promises';
import type { Clock } from '#/lib/clock.ts';
import { SeededRandom } from '#/lib/random.ts';
import { Fence } from './fence.ts';
import type { Medium } from './medium.ts';
import { simClock, SiteTime } from './sim-clock.ts';
import { SimFileSystem } from './sim-file-system.ts';
import { Timeline } from './timeline.ts';

export type AsidePorts = { fileSystem: SimFileSystem; clock: Clock; random: SeededRandom };

/** `medium` is changed by what runs: give it a clone. */
export async function aside<T>(medium: Medium, run: (ports: AsidePorts) => Promise<T>): Promise<T> {
  const timeline = new Timeline();
  const fence = new Fence();
  const random = new SeededRandom(1);
  const conditions = { errorRate: 0, operationMs: 0.01 };
  const fileSystem = new SimFileSystem({ medium, timeline, random, fence, conditions });
  const clock = simClock(timeline, new SiteTime(timeline), fence);
  let isOver = false;
  const result = run({ fileSystem, clock, random }).finally(() => (isOver = true));
  // The loop below looks at the result; until then a rejection is not unhandled.
  result.catch(() => undefined);
  while (!isOver) {
    await macrotask();
    if (isOver || timeline.step()) continue;
    await macrotask();
    assert(isOver, 'production code waits for something that never comes');
  }
  return result;
}
