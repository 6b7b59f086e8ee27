/**
 * Which step of a recovery comes next: a pure function of what is recorded, so a manager that starts again goes on
 * where the record ends. Forward steps bring the VM up; cleaning steps undo whatever forward steps were begun.
 */
import type { FailureReport } from '#/control/reports.ts';
import type { JobState } from '#/api/recoveries.ts';
import type { Job } from './store/job-store.ts';

export type StepName = 'raise_epoch' | 'stop_source' | 'open_view' | 'recover' | 'discard' | 'close_view';

/**
 * raise_epoch comes first: from then on nobody writes into the replica, so the newest point stays the newest. Then
 * the old copy is made to yield, before a new one can run.
 * A test leaves the epoch and its view alone until it is cleaned up.
 */
const FORWARD: Record<'recovery' | 'test', readonly StepName[]> = {
  recovery: ['raise_epoch', 'stop_source', 'open_view', 'recover', 'close_view'],
  test: ['open_view', 'recover'],
};

export type Move =
  /** Carry out the step that is recorded as begun; doing so again does no harm. */
  | { kind: 'carry_out'; position: number; name: StepName }
  | { kind: 'begin'; position: number; name: StepName }
  | { kind: 'finish'; state: JobState; failure?: FailureReport }
  | { kind: 'none' };

export function nextMove(job: Pick<Job, 'state' | 'steps' | 'request'>): Move {
  if (job.state === 'running') return forward(job);
  if (job.state === 'cleaning') return cleaning(job);
  return { kind: 'none' };
}

function forward({ steps, request }: Pick<Job, 'steps' | 'request'>): Move {
  const names = FORWARD[request.purpose];
  const last = steps.at(-1);
  if (last?.state === 'running') return carryOut(last);
  if (last?.state === 'failed') {
    return { kind: 'finish', state: 'failed', ...(last.failure === null ? {} : { failure: last.failure }) };
  }
  const name = names[steps.length];
  if (name !== undefined) return { kind: 'begin', position: steps.length, name };
  return { kind: 'finish', state: request.purpose === 'test' ? 'ready' : 'done' };
}

/** Undoes in reverse order. A forward step that was cut by the cleanup stays in the record as it was. */
function cleaning({ steps, request }: Pick<Job, 'steps' | 'request'>): Move {
  const isBegun = (name: StepName): boolean => steps.some((step) => step.name === name);
  const isDone = (name: StepName): boolean =>
    steps.some((step) => step.name === name && step.state === 'done');
  const wanted: StepName[] = [];
  if (isBegun('recover')) wanted.push('discard');
  if (isBegun('open_view')) wanted.push('close_view');
  const name = wanted.find((step) => !isDone(step));
  if (name === undefined) return { kind: 'finish', state: 'cleaned' };
  const last = steps.at(-1)!;
  const isUndoing =
    last.name === 'discard' || (last.name === 'close_view' && !isForwardClose(steps, request));
  if (isUndoing && last.state === 'running') return carryOut(last);
  return { kind: 'begin', position: steps.length, name };
}

/** The close_view of a recovery that has not come to its end, which a cleanup repeats as its own step. */
function isForwardClose(steps: Job['steps'], request: Job['request']): boolean {
  return request.purpose === 'recovery' && steps.length === FORWARD.recovery.length;
}

function carryOut(step: Job['steps'][number]): Move {
  return { kind: 'carry_out', position: step.position, name: step.name as StepName };
}
