/** A step of a run as it is decided when the run begins, and as it is recorded. */
import type { HealthProbe, InterfaceAddresses } from '#/api/plans.ts';
import type { FailureReport } from '#/control/reports.ts';
import type { PointChoice, SuspendedVm } from './run-plan.ts';

export type StepBody =
  | { kind: 'command'; command: string; arguments: string[] }
  | { kind: 'http'; method: string; url: string; body: string | null; status: number | null }
  | { kind: 'message'; text: string }
  /** A program in the guest that the step `recover` brought up; null when the plan has no such VM. */
  | { kind: 'guest'; recover: string | null; vmName: string; path: string; arguments: string[] }
  | { kind: 'probe'; recover: string; probe: HealthProbe }
  | { kind: 'customize'; recover: string; hostName: string | null; addresses: InterfaceAddresses[] }
  /** Gives the guest back the addresses that it had before. */
  | { kind: 'restore'; recover: string }
  /** `lastCycle` names the step whose point is taken instead, when it was made. */
  | { kind: 'recover'; point: PointChoice; lastCycle: string | null }
  /** Waits until the recovered VM needs the replica no more. */
  | { kind: 'stand_alone'; recover: string }
  | { kind: 'discard'; recover: string }
  | { kind: 'suspend'; vm: SuspendedVm }
  | { kind: 'resume'; vm: SuspendedVm; suspend: string }
  | { kind: 'shut_down'; mode: 'guest' | 'power_off'; timeoutMs: number }
  | { kind: 'last_cycle' }
  | { kind: 'start_again'; shutDown: string }
  /** Nothing but a place where many steps are waited for. */
  | { kind: 'gate' };
export type StepKind = StepBody['kind'];

export type StepSpec = {
  /** Unique in its run; lower case letters, digits and hyphens. */
  key: string;
  /** Undo steps are carried out when a run is cleaned up or taken back. */
  phase: 'forward' | 'undo';
  name: string;
  vmUuid: string | null;
  /** Steps that have to be over before, however they ended. */
  after: string[];
  /** Those of `after` that have to have ended well; otherwise this one is left out. */
  needs: string[];
  /** Of an undo step: what it undoes. It is left out when that was never begun. */
  undoes: string | null;
  /** Of each try; null when what carries it out has a limit of its own. */
  timeoutMs: number | null;
  /** Tries after the first one. */
  retries: number;
  /** `continue`: a failure is recorded, and what needs this step goes on. */
  onFailure: 'abort' | 'continue';
  body: StepBody;
};

/** `skipped`: left out, because of another step's failure or because there was nothing to undo. */
export type StepState = 'waiting' | 'running' | 'done' | 'failed' | 'skipped';

export type RunStep = StepSpec & {
  position: number;
  state: StepState;
  /** Tries over the whole life of the run; what a try orders is named by this. */
  attempts: number;
  /** Tries since the run began, or was resumed. */
  tries: number;
  startedMs: number | null;
  endedMs: number | null;
  failure: FailureReport | null;
  note: string | null;
  result: Record<string, unknown> | null;
  /** What a person said: of a message, or that it is to be skipped. */
  answer: StepAnswer | null;
};
export type StepAnswer = { answer: 'continue' | 'abort' | 'skip'; by: string; atMs: number };

/**
 * What a person may decide to go on without. Nothing of the others: what comes after would lose what was written last,
 * run beside its old copy, or find no VM.
 */
const SKIPPABLE: readonly StepKind[] = [
  'command',
  'http',
  'message',
  'guest',
  'probe',
  'customize',
  'restore',
  'suspend',
  'resume',
];

export function canBeSkipped({ phase, body }: Pick<RunStep, 'phase' | 'body'>): boolean {
  return phase === 'forward' && SKIPPABLE.includes(body.kind);
}

/** A person has said to go on without it. */
export function isWaived({ state, answer }: Pick<RunStep, 'state' | 'answer'>): boolean {
  return state === 'skipped' && answer?.answer === 'skip';
}

export function isOver({ state }: { state: StepState }): boolean {
  return state === 'done' || state === 'failed' || state === 'skipped';
}

/** Done, or failed in a way that the plan or a person allows. */
export function isGood(step: Pick<RunStep, 'state' | 'onFailure' | 'answer'>): boolean {
  return (
    step.state === 'done' || (step.state === 'failed' && step.onFailure === 'continue') || isWaived(step)
  );
}
