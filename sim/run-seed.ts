/**
 * One run: a seed's world for some minutes of virtual time, then without faults until it has converged, then checked
 * in full.
 */
import { setImmediate as macrotask } from 'node:timers/promises';
import { describe } from '#/lib/failure.ts';
import type { Violation } from './violations.ts';
import { World, type WorldOptions } from './world.ts';

export type Outcome = {
  seed: number;
  /** Over everything that happened; the same seed gives the same. */
  traceHash: string;
  virtualMs: number;
  events: number;
  points: number;
  rpoMs: number;
  /** The highest age that the newest acknowledged point ever had, by true time. */
  oldestMs: number;
  checks: { powerLosses: number; points: number; rotten: number };
  violations: Violation[];
  /** The last lines before the end, when something was violated. */
  tail: string[];
};

export type RunOptions = Omit<WorldOptions, 'seed'> & { faultyMs?: number };

/** How long things go wrong, in virtual time. */
const FAULTY_MS = 45_000;
/** From the last fault to a point that is younger than it: timeouts of links that nobody heard the end of included. */
const CONVERGE_MS = 240_000;
/** A run that needs more than this many events goes round in circles. */
const EVENTS_MAX = 3_000_000;

export async function runSeed(seed: number, options: RunOptions = {}): Promise<Outcome> {
  const { print, faults, faultyMs = FAULTY_MS } = options;
  const world = new World({ seed, print, faults });
  const { timeline, violations, checkers, trace, ledger } = world;
  const unhandled = (error: unknown): void =>
    violations.add('bug', `unhandled rejection: ${describe(error)}`);
  process.on('unhandledRejection', unhandled);
  try {
    world.start();
    await advance(world, () => timeline.nowMs >= faultyMs);
    if (violations.isEmpty) {
      world.heal();
      const healedMs = timeline.nowMs;
      await advance(world, () => hasConverged(world, healedMs) || timeline.nowMs > healedMs + CONVERGE_MS);
      if (violations.isEmpty && !hasConverged(world, healedMs)) {
        violations.add('convergence', `no new point within ${CONVERGE_MS} ms after the last fault`);
      }
    }
    if (violations.isEmpty) await checkers.atTheEnd();
  } catch (error) {
    violations.add('bug', error instanceof Error ? (error.stack ?? error.message) : describe(error));
  } finally {
    world.agent.stop();
    world.server.stop();
    world.rival.stop();
    await macrotask();
    process.off('unhandledRejection', unhandled);
  }
  return {
    seed,
    traceHash: trace.digest(),
    virtualMs: Math.round(timeline.nowMs),
    events: timeline.fired,
    points: ledger.points.size,
    rpoMs: world.orders.rpoMs,
    oldestMs: Math.round(world.oldestMs),
    checks: checkers.counts,
    violations: violations.list,
    tail: violations.isEmpty ? [] : trace.tail(),
  };
}

/** Lets events happen until it is enough or something is violated. */
async function advance(world: World, isEnough: () => boolean): Promise<void> {
  const { timeline, violations, checkers } = world;
  while (!isEnough() && violations.isEmpty) {
    // Every continuation of the last event runs before the next event.
    await macrotask();
    await checkers.betweenEvents();
    if (!timeline.step()) throw new Error('nothing is going to happen any more');
    if (timeline.fired > EVENTS_MAX) throw new Error(`more than ${EVENTS_MAX} events`);
    checkers.afterEvent();
    world.noteAge();
  }
}

/** There is an acknowledged point of a moment after the last fault. */
function hasConverged({ ledger, vm }: World, healedMs: number): boolean {
  const { head } = ledger;
  const moment = head && vm.history.get(head.momentMs);
  return moment !== undefined && moment.frozenMs > healedMs;
}
