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
  /** Of a message: what a person said. */
  answer: StepAnswer | null;
};
export type StepAnswer = { answer: 'continue' | 'abort'; by: string; atMs: number };

export function isOver({ state }: { state: StepState }): boolean {
  return state === 'done' || state === 'failed' || state === 'skipped';
}

/** Done, or failed in a way that the plan allows. */
export function isGood({ state, onFailure }: Pick<RunStep, 'state' | 'onFailure'>): boolean {
  return state === 'done' || (state === 'failed' && onFailure === 'continue');
}
