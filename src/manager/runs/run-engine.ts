/**
 * Carries runs out. Each step is recorded before it begins and after it ended; what it does in between may be
 * repeated. Any manager on the same database goes on from the rows alone, once it has the run's lease.
 *
 * Invariant: nothing is recorded, and nothing new ordered, but under the lease (run-store.ts).
 */
import { Failure, failureIn } from '#/lib/failure.ts';
import { failureFields } from '#/lib/log.ts';
import type { Context } from '#/manager/context.ts';
import { problemOf } from '#/manager/problem.ts';
import type { Database } from '#/manager/store/database.ts';
import {
  changeSteps,
  holdRun,
  runsInState,
  setRunState,
  stepsOf,
  type Fence,
  type Run,
} from '#/manager/store/run-store.ts';
import type { StepOutcome } from './ports.ts';
import { RunLeases } from './run-lease.ts';
import { nextMoves, type Moves } from './run-moves.ts';
import type { RunStep } from './run-step.ts';
import { tellRun, tellStep } from './run-events.ts';
import { callId, failed, type StepExecutor, type StepWork } from './step-executor.ts';

type Call = {
  runId: string;
  key: string;
  phase: RunStep['phase'];
  stop: AbortController;
  ended: Promise<void>;
};
/** Steps of a run that are carried out at the same time; the others wait for their turn. */
const CALLS_MAX = 64;

export type EngineParts = Pick<Context, 'db' | 'clock' | 'log' | 'changes' | 'events'>;

export class RunEngine {
  readonly #parts: EngineParts;
  readonly #work: StepWork;
  readonly #leases: RunLeases;
  /** Steps that are being carried out by this process, by their ids. */
  readonly #calls = new Map<string, Call>();
  #isStopped = false;

  constructor(parts: EngineParts, work: StepWork, holder: { managerId: string; startedMs: number }) {
    this.#parts = parts;
    this.#work = work;
    this.#leases = new RunLeases(parts, holder);
  }

  /** Moves every run that can move. Called at start and whenever a task, a job or a report changed. */
  async advance(): Promise<void> {
    if (this.#isStopped) return;
    const runs = await runsInState(this.#parts.db, ['running', 'cleaning']);
    this.#cut(runs);
    for (const run of runs) {
      try {
        const number = await this.#leases.hold(run);
        if (number === undefined) this.#cutRun(run.id);
        else await this.#advanceRun(run, { runId: run.id, number, state: run.state });
      } catch (error) {
        // One run's trouble, such as a database that is away for a moment, holds back no other.
        this.#parts.log.error('run.advance', { run: run.id, ...failureFields(error) });
      }
    }
  }

  /** Resolves when nothing is being carried out by this process. */
  async idle(): Promise<void> {
    while (this.#calls.size > 0) await Promise.all([...this.#calls.values()].map(({ ended }) => ended));
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    for (const { stop } of this.#calls.values()) stop.abort(new Failure('cancelled', 'the manager stops'));
    await this.idle();
  }

  async #advanceRun(run: Run, fence: Fence): Promise<void> {
    const steps = await stepsOf(this.#parts.db, run.id);
    const nowMs = this.#parts.clock.now();
    const moves = nextMoves({ ...run, kind: run.plan.kind }, steps, nowMs);
    const all = new Map(steps.map((step) => [step.key, step]));
    if (moves.finish !== null) return this.#finish(run, fence, moves.finish);
    if (moves.skip.length > 0) await this.#skip(run, fence, moves.skip);
    for (const step of moves.expire) await this.#expire(run, fence, step);
    for (const step of moves.carryOut) this.#carryOut(run, fence, { step, all });
    for (const step of moves.begin) {
      // What is undone must have come to its end here, or it might be done after it was undone.
      if (step.undoes !== null && this.#isBusy(run.id, step.undoes)) continue;
      if (this.#calls.size >= CALLS_MAX) break;
      const begun = await this.#begin(run, fence, step);
      if (begun === undefined) return;
      this.#carryOut(run, fence, { step: begun, all });
    }
  }

  async #begin(run: Run, fence: Fence, step: RunStep): Promise<RunStep | undefined> {
    const nowMs = this.#parts.clock.now();
    const change = {
      state: 'running',
      attempts: step.attempts + 1,
      tries: step.tries + 1,
      startedMs: nowMs,
      endedMs: null,
      failure: null,
      note: null,
      result: null,
      answer: null,
    } as const;
    const isOurs = await this.#write(fence, async (at) => {
      await changeSteps(at, run.id, { keys: [step.key] }, change);
      if (step.body.kind !== 'gate') await tellStep(this.#parts, at, run, { step, what: 'began' });
    });
    return isOurs ? { ...step, ...change } : undefined;
  }

  #carryOut(run: Run, fence: Fence, known: { step: RunStep; all: ReadonlyMap<string, RunStep> }): void {
    const { step, all } = known;
    const id = callId(run.id, step.key, step.attempts);
    if (this.#isStopped || this.#calls.has(id)) return;
    const stop = new AbortController();
    const work = async (): Promise<void> => {
      try {
        const outcome = await this.#do(run, fence, { step, all, id, signal: stop.signal });
        if (!stop.signal.aborted) await this.#end(run, fence, step, outcome);
      } catch (error) {
        if (stop.signal.aborted) return;
        this.#parts.log.error('run.step', { run: run.id, step: step.key, ...failureFields(error) });
      } finally {
        this.#calls.delete(id);
      }
    };
    const { key, phase } = step;
    const call = { runId: run.id, key, phase, stop, ended: Promise.resolve() };
    this.#calls.set(id, call);
    call.ended = work();
  }

  async #do(
    run: Run,
    fence: Fence,
    call: { step: RunStep; all: ReadonlyMap<string, RunStep>; id: string; signal: AbortSignal },
  ): Promise<StepOutcome> {
    const { step, all, id, signal } = call;
    const execute = this.#work.executors[step.body.kind] as StepExecutor;
    const hold = async (at: Database): Promise<void> => {
      if (await holdRun(at, fence, this.#parts.clock.now())) return;
      throw new Failure('cancelled', `run ${run.id} went on without this manager`);
    };
    try {
      return await execute({ run, step, body: step.body, steps: all, id, signal, hold });
    } catch (error) {
      const failure = failureIn(error);
      if (failure === undefined) throw error;
      return { state: 'failed', failure: problemOf(failure) };
    }
  }

  async #end(run: Run, fence: Fence, step: RunStep, outcome: StepOutcome): Promise<void> {
    const nowMs = this.#parts.clock.now();
    const note = outcome.state === 'failed' ? null : (outcome.note ?? null);
    if (outcome.state === 'waiting') {
      if (note === step.note) return;
      await this.#write(fence, (at) => changeSteps(at, run.id, ofTry(step), { note }));
      return;
    }
    const isDone = outcome.state === 'done';
    const isRetried = !isDone && step.tries <= step.retries;
    await this.#write(fence, async (at) => {
      const count = await changeSteps(at, run.id, ofTry(step), {
        state: isDone ? 'done' : isRetried ? 'waiting' : 'failed',
        endedMs: nowMs,
        failure: isDone ? null : outcome.failure,
        note: isRetried ? `try ${step.tries} of ${step.retries + 1} failed` : note,
        result: isDone ? (outcome.result ?? null) : null,
      });
      if (count === 0 || step.body.kind === 'gate') return;
      const failure = isDone ? null : outcome.failure;
      const what = isDone ? 'done' : isRetried ? 'retried' : 'failed';
      await tellStep(this.#parts, at, run, { step, what, note, failure });
    });
    // The next step begins on this signal.
    this.#parts.changes.notify('jobs');
  }

  async #expire(run: Run, fence: Fence, step: RunStep): Promise<void> {
    const id = callId(run.id, step.key, step.attempts);
    this.#calls.get(id)?.stop.abort(new Failure('timeout', 'its time is up'));
    await this.#work.cancel(id, step.body.kind);
    const limit = `${Math.round((step.timeoutMs ?? 0) / 1000)} s`;
    const message =
      step.body.kind === 'message' ? `nobody answered within ${limit}` : `not done within ${limit}`;
    await this.#end(run, fence, step, failed('timeout', message));
  }

  async #skip(run: Run, fence: Fence, skips: Moves['skip']): Promise<void> {
    const nowMs = this.#parts.clock.now();
    await this.#write(fence, async (at) => {
      for (const { step, note } of skips) {
        const change = { state: 'skipped', endedMs: nowMs, note } as const;
        await changeSteps(at, run.id, { keys: [step.key] }, change);
      }
    });
    this.#parts.changes.notify('jobs');
  }

  async #finish(run: Run, fence: Fence, finish: NonNullable<Moves['finish']>): Promise<void> {
    const { state, failure } = finish;
    const nowMs = this.#parts.clock.now();
    await this.#write(fence, async (at) => {
      await setRunState(at, run.id, { from: run.state, state, failure, nowMs });
      await tellRun(this.#parts, at, run, { state, failure });
    });
    this.#parts.changes.notify('jobs');
  }

  /** True when it was written, all of it. */
  async #write(fence: Fence, work: (at: Database) => Promise<unknown>): Promise<boolean> {
    const { clock, db } = this.#parts;
    return db.transaction().execute(async (at) => {
      if (!(await holdRun(at, fence, clock.now()))) return false;
      await work(at);
      return true;
    });
  }

  #isBusy(runId: string, key: string): boolean {
    return [...this.#calls.values()].some((call) => call.runId === runId && call.key === key);
  }

  /** Ends what is carried out for runs that do not go on, and for steps of the other direction. */
  #cut(runs: readonly Run[]): void {
    const states = new Map(runs.map(({ id, state }) => [id, state]));
    for (const call of this.#calls.values()) {
      const state = states.get(call.runId);
      const isWanted = state === (call.phase === 'undo' ? 'cleaning' : 'running');
      if (!isWanted) call.stop.abort(new Failure('cancelled', 'the run does not want it any more'));
    }
  }

  #cutRun(runId: string): void {
    for (const call of this.#calls.values()) {
      if (call.runId === runId)
        call.stop.abort(new Failure('cancelled', 'another manager goes on with the run'));
    }
  }
}

/** Of that very try, while it is under way: a late word of another one changes nothing. */
function ofTry(step: RunStep): { keys: string[]; states: ['running'] } {
  return { keys: [step.key], states: ['running'] };
}
