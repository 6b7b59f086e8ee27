/** The clock of one machine: its wall time is off by a skew that may jump; its durations are true. */
import type { Clock } from '#/lib/clock.ts';
import type { Fence } from './fence.ts';
import type { Timeline } from './timeline.ts';

/** When every run begins, so that moments look like moments. */
export const EPOCH_MS = 1_700_000_000_000;

/** The wall clock of a site, shared by all incarnations of its programs. */
export class SiteTime {
  skewMs = 0;
  readonly #timeline: Timeline;

  constructor(timeline: Timeline) {
    this.#timeline = timeline;
  }

  now(): number {
    return Math.floor(EPOCH_MS + this.#timeline.nowMs + this.skewMs);
  }
}

export function simClock(timeline: Timeline, site: SiteTime, fence: Fence): Clock {
  return {
    now: () => site.now(),
    monotonicMs: () => timeline.nowMs,
    sleep: (ms, signal) =>
      fence.guard(
        new Promise<void>((resolve, reject) => {
          if (signal?.aborted === true) {
            reject(signal.reason as Error);
            return;
          }
          const cancel = timeline.after(ms, () => {
            signal?.removeEventListener('abort', abort);
            resolve();
          });
          const abort = (): void => {
            cancel();
            reject(signal?.reason as Error);
          };
          signal?.addEventListener('abort', abort, { once: true });
        }),
      ),
  };
}
