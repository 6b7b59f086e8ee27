/**
 * What carries out the steps of one kind. A step is carried out at least once, by this manager or by another one, and
 * may be asked for again at any time: what it orders is named by the run, the step and the try.
 */
import type { Database } from '#/manager/store/database.ts';
import type { Run } from '#/manager/store/run-store.ts';
import type { StepOutcome } from './ports.ts';
import type { RunStep, StepBody, StepKind } from './run-step.ts';

export type StepCall<Body extends StepBody = StepBody> = {
  run: Run;
  step: RunStep;
  body: Body;
  /** All steps of the run as they are recorded. */
  steps: ReadonlyMap<string, RunStep>;
  /** Of this try. */
  id: string;
  /** Aborts when the step's time is up, when the run does not want it any more, or when the manager stops. */
  signal: AbortSignal;
  /** To be called in the transaction that orders something new: throws when the run is another manager's by now. */
  hold: (at: Database) => Promise<void>;
};

export type StepExecutor<Body extends StepBody = StepBody> = (call: StepCall<Body>) => Promise<StepOutcome>;
export type Executors = {
  [Kind in StepKind]: StepExecutor<Extract<StepBody, { kind: Kind }>>;
};

export type StepWork = {
  executors: Executors;
  /** Ends what a try has ordered elsewhere, where that can be. */
  cancel: (id: string, kind: StepKind) => Promise<void>;
};

/** What a try orders elsewhere is known by this. */
export function callId(runId: string, key: string, attempt: number): string {
  return `${runId}-${key}-a${attempt}`;
}

/** The ids of all tries of a step, the newest first. */
export function callIds(runId: string, step: Pick<RunStep, 'key' | 'attempts'>): string[] {
  return Array.from({ length: step.attempts }, (_, index) => callId(runId, step.key, step.attempts - index));
}

export function failed(code: string, message: string, hint: string | null = null): StepOutcome {
  return { state: 'failed', failure: { code, message, hint } };
}
