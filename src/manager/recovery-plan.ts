/**
 * Which step of a recovery comes next: a pure function of what is recorded, so a manager that starts again goes on
 * where the record ends. Forward steps bring the VM up; cleaning steps undo whatever forward steps were begun.
 */
import type { FailureReport } from '#/control/reports.ts';
import type { JobState } from '#/api/recoveries.ts';
import type { Job } from './store/job-store.ts';

export type StepName =
  | 'shut_down_source'
  | 'last_cycle'
  | 'raise_epoch'
  | 'stop_source'
  | 'open_view'
  | 'recover'
  | 'discard'
  | 'close_view'
  | 'start_source';

/**
 * raise_epoch comes first: from then on nobody writes into the replica, so the newest point stays the newest. Then
 * the old copy is made to yield, before a new one can run.
 * A test leaves the epoch and its view alone until it is cleaned up. A migration first has the VM shut down and its
 * last state here; whatever fails before the epoch is raised starts the VM again where it was.
 */
const FORWARD: Record<Job['request']['purpose'], readonly StepName[]> = {
  recovery: ['raise_epoch', 'stop_source', 'open_view', 'recover', 'close_view'],
  test: ['open_view', 'recover'],
  migration: [
    'shut_down_source',
    'last_cycle',
    'raise_epoch',
    'stop_source',
    'open_view',
    'recover',
    'close_view',
  ],
};

export type Move =
  /** Carry out the step that is recorded as begun; doing so again does no harm. */
  | { kind: 'carry_out'; position: number; name: StepName }
  | { kind: 'begin'; position: number; name: StepName }
  | { kind: 'finish'; state: JobState; failure?: FailureReport }
  | { kind: 'none' };

type Part = Pick<Job, 'state' | 'steps' | 'request' | 'updated_ms'>;

export function nextMove(job: Part): Move {
  if (job.state === 'running') return forward(job);
  if (job.state === 'cleaning') return cleaning(job);
  return { kind: 'none' };
}

function forward({ steps, request, updated_ms: beganMs }: Part): Move {
  const names = FORWARD[request.purpose];
  const last = steps.at(-1);
  if (last?.state === 'running') return carryOut(last);
  if (last?.name === 'start_source') return takenBack(steps);
  if (last?.state === 'failed') return afterFailure(last, steps, beganMs);
  // A step that was repeated has several rows.
  const name = names.find((one) => !steps.some((step) => step.name === one && step.state === 'done'));
  if (name !== undefined) return { kind: 'begin', position: steps.length, name };
  return { kind: 'finish', state: request.purpose === 'test' ? 'ready' : 'done' };
}

function afterFailure(last: Job['steps'][number], steps: Job['steps'], beganMs: number): Move {
  const position = steps.length;
  if (canBeRepeated(last) && (last.ended_ms ?? 0) < beganMs) {
    return { kind: 'begin', position, name: last.name as StepName };
  }
  if (isBegun(steps, 'shut_down_source') && !isBegun(steps, 'raise_epoch')) {
    return { kind: 'begin', position, name: 'start_source' };
  }
  return { kind: 'finish', state: 'failed', ...(last.failure === null ? {} : { failure: last.failure }) };
}

/**
 * The VM may be up by these, and writing: they are gone on with when a person asks for it (the job is running again,
 * since later than the failure), with the view still open.
 */
export function canBeRepeated({ name }: { name: string }): boolean {
  return name === 'recover' || name === 'close_view';
}

const UNKNOWN: FailureReport = { code: 'tool_failed', message: 'a step failed', hint: null };

/** A migration that failed, and whose VM was started again where it was, has left nothing to clean up. */
function takenBack(steps: Job['steps']): Move {
  const start = steps.at(-1)!;
  const failure = steps.find(({ state }) => state === 'failed')?.failure ?? UNKNOWN;
  if (start.state === 'done') {
    const message = `${failure.message}; at the protected site ${start.note ?? 'it is as it was before'}`;
    return { kind: 'finish', state: 'cleaned', failure: { ...failure, message } };
  }
  const message = `${failure.message}; and it was not started again: ${start.failure?.message ?? ''}`;
  return { kind: 'finish', state: 'failed', failure: { ...failure, message } };
}

function isBegun(steps: Job['steps'], name: StepName): boolean {
  return steps.some((step) => step.name === name);
}

/** Undoes in reverse order. A forward step that was cut by the cleanup stays in the record as it was. */
function cleaning({ steps, request, updated_ms: beganMs }: Part): Move {
  const isDone = (name: StepName): boolean =>
    steps.some((step) => step.name === name && step.state === 'done');
  const wanted: StepName[] = [];
  if (isBegun(steps, 'recover')) wanted.push('discard');
  if (isBegun(steps, 'open_view')) wanted.push('close_view');
  if (isBegun(steps, 'shut_down_source')) wanted.push('start_source');
  const name = wanted.find((step) => !isDone(step));
  if (name === undefined) return { kind: 'finish', state: 'cleaned' };
  const last = steps.at(-1)!;
  const isUndoing =
    last.name === 'discard' ||
    last.name === 'start_source' ||
    (last.name === 'close_view' && !isForwardClose(steps, request));
  if (isUndoing && last.state === 'running') return carryOut(last);
  // What failed in an earlier cleanup is tried again by this one; what fails in this one is for a person to look at.
  if (isUndoing && last.state === 'failed' && (last.ended_ms ?? 0) >= beganMs) {
    return { kind: 'finish', state: 'failed', failure: last.failure ?? UNKNOWN };
  }
  return { kind: 'begin', position: steps.length, name };
}

/** The close_view of a recovery that has not come to its end, which a cleanup repeats as its own step. */
function isForwardClose(steps: Job['steps'], request: Job['request']): boolean {
  return request.purpose !== 'test' && isBegun(steps, 'recover') && !isBegun(steps, 'discard');
}

function carryOut(step: Job['steps'][number]): Move {
  return { kind: 'carry_out', position: step.position, name: step.name as StepName };
}
