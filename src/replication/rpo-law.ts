/**
 * The RPO as a law about age (design of the product, "Scheduling"): the newest recovery point is never older than
 * the RPO, so the next cycle starts at RPO - T after the last moment, T being the time a cycle is expected to take,
 * from the wish for it to its acknowledgement.
 *
 * Violations have exact times: one begins when the newest point reaches the age of the RPO, noticed then or later,
 * and ends when a point younger than the RPO is acknowledged. T > RPO / 2 is announced as a violation to come,
 * because a moment is taken at the start of a cycle: the age reaches RPO once two cycles no longer fit in it. Pure.
 */

/** Recent cycles that count: the longest of them is expected again. */
const RECENT_CYCLES = 8;
/** Weight of the newest cycle in the average, which remembers beyond the recent ones. */
const NEWEST_WEIGHT = 0.2;
const MARGIN_PART = 0.05;
const MARGIN_MIN_MS = 100;
/** Before anything is known. */
const FIRST_EXPECTATION_PART = 0.25;

export type RpoEvent = {
  kind: 'violation_began' | 'violation_ended' | 'risk_began' | 'risk_ended';
  atMs: number;
  /** The moment of the newest point at that time. */
  momentMs: number;
};

export class RpoLaw {
  #rpoMs: number;
  #momentMs: number | undefined;
  #recentMs: number[] = [];
  #averageMs: number | undefined;
  #isViolated = false;
  #isAtRisk = false;

  constructor(rpoMs: number, momentMs?: number) {
    this.#rpoMs = rpoMs;
    this.#momentMs = momentMs;
  }

  get rpoMs(): number {
    return this.#rpoMs;
  }

  /** An owner changed the RPO: it holds from now on. */
  setRpo(rpoMs: number): void {
    this.#rpoMs = rpoMs;
  }

  /** The moment of the newest acknowledged point. */
  get momentMs(): number | undefined {
    return this.#momentMs;
  }

  /** How long the next cycle is expected to take. */
  expectedMs(): number {
    if (this.#averageMs === undefined) return this.#rpoMs * FIRST_EXPECTATION_PART;
    return Math.max(this.#averageMs, ...this.#recentMs);
  }

  /** When the next cycle has to start; in the past when it is late, and at once without any point. */
  nextStartMs(nowMs: number): number {
    if (this.#momentMs === undefined) return nowMs;
    const marginMs = Math.max(MARGIN_MIN_MS, this.#rpoMs * MARGIN_PART);
    return this.#momentMs + this.#rpoMs - this.expectedMs() - marginMs;
  }

  /** When the newest point reaches the age of the RPO. */
  deadlineMs(): number | undefined {
    return this.#momentMs === undefined ? undefined : this.#momentMs + this.#rpoMs;
  }

  /** A violation that has begun by now, once. */
  look(nowMs: number): RpoEvent[] {
    const deadlineMs = this.deadlineMs();
    if (this.#isViolated || deadlineMs === undefined || nowMs < deadlineMs) return [];
    this.#isViolated = true;
    return [{ kind: 'violation_began', atMs: deadlineMs, momentMs: this.#momentMs! }];
  }

  /**
   * A point was acknowledged now. `durationMs` is undefined for a cycle that is no measure of the next one, such as a
   * first copy.
   */
  acknowledged(momentMs: number, nowMs: number, durationMs: number | undefined): RpoEvent[] {
    const events = this.look(nowMs);
    this.#momentMs = momentMs;
    if (this.#isViolated && nowMs - momentMs < this.#rpoMs) {
      this.#isViolated = false;
      events.push({ kind: 'violation_ended', atMs: nowMs, momentMs });
    }
    if (durationMs === undefined) return events;
    this.#recentMs = [...this.#recentMs, durationMs].slice(-RECENT_CYCLES);
    const average = this.#averageMs ?? durationMs;
    this.#averageMs = average + (durationMs - average) * NEWEST_WEIGHT;
    const isAtRisk = durationMs > this.#rpoMs / 2;
    if (isAtRisk !== this.#isAtRisk) {
      this.#isAtRisk = isAtRisk;
      events.push({ kind: isAtRisk ? 'risk_began' : 'risk_ended', atMs: nowMs, momentMs });
    }
    return events;
  }
}

const RETRY_FIRST_MS = 500;
const RETRY_LAST_MS = 60_000;

/**
 * How long to wait after `failures` failures in a row: twice as long each time, no longer than the law's next start
 * where that is still to come, and never so long that a short RPO has no try within it.
 */
export function retryDelayMs(failures: number, law: RpoLaw, nowMs: number): number {
  const backoffMs = RETRY_FIRST_MS * 2 ** Math.min(failures - 1, 10);
  const capMs = Math.min(RETRY_LAST_MS, Math.max(1000, law.rpoMs / 4));
  const lawMs = law.nextStartMs(nowMs) - nowMs;
  return Math.min(backoffMs, capMs, lawMs > RETRY_FIRST_MS ? lawMs : Infinity);
}
