/**
 * What is to be done next in a run: a pure function of what is recorded, so that any manager goes on where the record
 * ends.
 */
import type { RunKind, RunState } from '#/api/runs.ts';
import type { FailureReport } from '#/control/reports.ts';
import { isPlanned } from './run-plan.ts';
import { isGood, isOver, type RunStep } from './run-step.ts';

/** Between two tries of a step: a second, then longer. */
const RETRY_MS = 1000;
const RETRY_MAX_MS = 30_000;

export type Moves = {
  /** Steps to record as begun, and to carry out. */
  begin: RunStep[];
  /** Steps that are recorded as begun; carrying them out again does no harm. */
  carryOut: RunStep[];
  /** Begun steps whose time is up. */
  expire: RunStep[];
  skip: { step: RunStep; note: string }[];
  finish: { state: RunState; failure: FailureReport | null } | null;
};

export function nextMoves(
  run: { state: RunState; kind: RunKind; failure: FailureReport | null },
  steps: readonly RunStep[],
  nowMs: number,
): Moves {
  const phase = run.state === 'cleaning' ? 'undo' : 'forward';
  const all = new Map(steps.map((step) => [step.key, step]));
  const own = steps.filter((step) => step.phase === phase);
  const moves: Moves = { begin: [], carryOut: [], expire: [], skip: [], finish: null };
  if (run.state !== 'running' && run.state !== 'cleaning') return moves;
  for (const step of own) look(step, all, nowMs, moves);
  if (own.every(isOver)) moves.finish = phase === 'undo' ? undone(run, own) : ended(run.kind, own);
  return moves;
}

function look(step: RunStep, all: ReadonlyMap<string, RunStep>, nowMs: number, moves: Moves): void {
  if (step.state === 'running') {
    const isLate = step.timeoutMs !== null && nowMs - (step.startedMs ?? nowMs) > step.timeoutMs;
    (isLate ? moves.expire : moves.carryOut).push(step);
    return;
  }
  if (step.state !== 'waiting') return;
  if (step.after.some((key) => !isOver(all.get(key)!))) return;
  const undone = step.undoes === null ? undefined : all.get(step.undoes);
  if (undone !== undefined && undone.attempts === 0) {
    moves.skip.push({ step, note: 'there is nothing to undo' });
    return;
  }
  const missing = step.needs.map((key) => all.get(key)!).find((needed) => !isMet(step, needed));
  if (missing !== undefined) {
    const why = missing.state === 'failed' ? 'failed' : 'was left out';
    moves.skip.push({ step, note: `left out, since "${missing.name}" ${why}` });
    return;
  }
  const pauseMs = step.tries === 0 ? 0 : Math.min(RETRY_MS * 2 ** (step.tries - 1), RETRY_MAX_MS);
  if (nowMs - (step.endedMs ?? 0) >= pauseMs) moves.begin.push(step);
}

/** A VM that runs on has no last state, whatever else may go on without its shutdown. */
function isMet(step: RunStep, needed: RunStep): boolean {
  return step.body.kind === 'last_cycle' ? needed.state === 'done' : isGood(needed);
}

/** How many VMs come up decides nothing: a run is only good when everything that was planned is. */
function ended(kind: RunKind, steps: readonly RunStep[]): NonNullable<Moves['finish']> {
  const bad = steps.filter(
    (step) => !isGood(step) && !(step.state === 'skipped' && isMeantToBeSkipped(step)),
  );
  if (bad.length === 0) return { state: kind === 'test' ? 'ready' : 'done', failure: null };
  const failure = failureOf(bad);
  const isTakenBack = isPlanned(kind) && !hasBroughtUp(steps);
  return { state: isTakenBack ? 'cleaning' : 'failed', failure };
}

/** A last cycle of a VM that could not be shut down, in a disaster, is no loss of its own. */
function isMeantToBeSkipped(step: RunStep): boolean {
  return step.onFailure === 'continue';
}

/** From the first step of bringing up on, the epoch of a VM may have been raised: a migration goes only forward. */
export function hasBroughtUp(steps: readonly RunStep[]): boolean {
  return steps.some((step) => step.body.kind === 'recover' && step.attempts > 0);
}

function undone(
  { failure }: { failure: FailureReport | null },
  steps: readonly RunStep[],
): NonNullable<Moves['finish']> {
  const failed = steps.filter((step) => step.state === 'failed');
  if (failed.length === 0) return { state: 'cleaned', failure };
  return { state: 'failed', failure: failureOf(failed) };
}

function failureOf(steps: readonly RunStep[]): FailureReport {
  const failed = steps.filter((step) => step.state === 'failed');
  const first = failed[0];
  const skipped = steps.length - failed.length;
  const more = [
    ...(failed.length > 1 ? [`${failed.length - 1} more failed`] : []),
    ...(skipped > 0 ? [`${skipped} left out for that`] : []),
  ];
  const rest = more.length === 0 ? '' : ` (${more.join(', ')})`;
  if (first === undefined) return { code: 'cancelled', message: `steps were left out${rest}`, hint: null };
  const why = first.failure ?? { code: 'tool_failed', message: 'for an unknown reason', hint: null };
  return { code: why.code, message: `${first.name}: ${why.message}${rest}`.slice(0, 4096), hint: why.hint };
}
