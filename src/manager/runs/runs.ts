/** Runs of plans as people ask for them: check, start, look, answer, cancel, resume, clean up. */
import type { RunCheck, RunRequest, RunState, RunView } from '#/api/runs.ts';
import { Failure, isFailureCode } from '#/lib/failure.ts';
import type { Context } from '#/manager/context.ts';
import { newId } from '#/manager/ids.ts';
import type { Peers } from '#/manager/peers.ts';
import type { Plans } from '#/manager/plans/plans.ts';
import type { Database } from '#/manager/store/database.ts';
import {
  addRun,
  answerStep,
  changeSteps,
  findRun,
  listRuns,
  runsInState,
  setRunState,
  stepsOf,
  type Run,
} from '#/manager/store/run-store.ts';
import { compileRun } from './compile-run.ts';
import { checkRun } from './run-check.ts';
import { KINDS, tellRun, tellStep } from './run-events.ts';
import { checkFailback } from './failback-check.ts';
import { hasBroughtUp } from './run-moves.ts';
import { isPlanned } from './run-plan.ts';
import { canBeSkipped, isWaived, type RunStep } from './run-step.ts';
import { runView } from './run-view.ts';
import { callId, type StepWork } from './step-executor.ts';

/** In these a run has, or may make, something of its VMs; no other run may have them. */
const OPEN: readonly RunState[] = ['running', 'ready', 'cleaning', 'failed'];

export class Runs {
  readonly #context: Context;
  readonly #plans: Plans;
  readonly #peers: Peers;
  readonly #work: StepWork;

  constructor(context: Context, parts: { plans: Plans; peers: Peers; work: StepWork }) {
    this.#context = context;
    this.#plans = parts.plans;
    this.#peers = parts.peers;
    this.#work = parts.work;
  }

  /** What would speak against the run, and how old each VM would come up. Changes nothing. */
  async check(asked: RunRequest): Promise<RunCheck> {
    const { check, plan } = await this.#checked(asked);
    const other = await otherRun(this.#context.db, plan);
    if (other === undefined) return check;
    const { code, message, hint } = taken(other);
    const refusals = [{ code, message, hint: hint ?? null }, ...check.refusals];
    return { ...check, is_possible: false, refusals };
  }

  /** Throws, with nothing changed, the first thing that speaks against it. */
  async start(asked: RunRequest, by: string): Promise<RunView> {
    const { changes, clock, db, random } = this.#context;
    const { check, plan } = await this.#checked(asked);
    const [first] = check.refusals;
    const early = await otherRun(db, plan);
    if (early !== undefined) throw taken(early);
    if (first !== undefined) throw refusal(first, check.refusals.length - 1);
    const steps = compileRun(plan);
    const id = newId(random, 'run');
    const run = { id, plan, startedBy: by, warnings: check.warnings, createdMs: clock.now() };
    await db.transaction().execute(async (at) => {
      // Asked once more inside the transaction: the checks waited for other sites.
      const other = await otherRun(at, plan);
      if (other !== undefined) throw taken(other);
      await addRun(at, run, steps);
      await tellRun(this.#context, at, run, { state: 'started', by });
    });
    changes.notify('jobs');
    return this.show(id);
  }

  async list(limit: number, beforeMs: number): Promise<RunView[]> {
    const { db } = this.#context;
    const views: RunView[] = [];
    for (const run of await listRuns(db, limit, beforeMs)) {
      views.push(runView(run, await stepsOf(db, run.id), { hasSteps: false }));
    }
    return views;
  }

  /** `which` is a run's id, or a plan's name, which means its newest run. */
  async show(which: string): Promise<RunView> {
    const run = await this.#find(which);
    return runView(run, await stepsOf(this.#context.db, run.id), { hasSteps: true });
  }

  async answer(which: string, key: string, answer: 'continue' | 'abort', by: string): Promise<RunView> {
    const { changes, clock, db } = this.#context;
    const run = await this.#find(which);
    const step = (await stepsOf(db, run.id)).find((known) => known.key === key);
    if (step === undefined) {
      throw new Failure('not_found', `run ${run.id} has no step ${key}`, {
        hint: `List them with: antipode runs ${run.id}`,
      });
    }
    const isAnswered =
      step.body.kind === 'message' &&
      run.state === 'running' &&
      (await answerStep(db, run.id, key, { answer, by, atMs: clock.now() }));
    if (!isAnswered) {
      throw new Failure('conflict', `step ${key} of run ${run.id} waits for no answer: it is ${step.state}`, {
        hint: `See what it waits for with: antipode runs ${run.id}`,
      });
    }
    changes.notify('jobs');
    return this.show(run.id);
  }

  /** docs/recovery-plans.md has the table of what this comes to. */
  async cancel(which: string, by: string): Promise<RunView> {
    const run = await this.#find(which);
    const { kind } = run.plan;
    if (kind === 'test') return this.cleanUp(run.id, by);
    if (run.state === 'cleaning' || run.state === 'cancelled' || run.state === 'cleaned')
      return this.show(run.id);
    const isOpen = run.state === 'running' || (kind === 'disaster' && run.state === 'failed');
    if (!isOpen && kind === 'disaster') throw isOverAlready(run);
    if (!isOpen && run.state === 'done') throw isOverAlready(run);
    return this.#move(run, { state: kind === 'disaster' ? 'cancelled' : 'cleaning', by }, (steps) => {
      if (!isPlanned(kind) || !hasBroughtUp(steps)) return;
      throw new Failure('conflict', `run ${run.id} has begun to bring VMs up here: it only goes forward`, {
        hint: `If it fails: antipode plan resume ${run.id}. To bring the VMs back after: a migration the other way.`,
      });
    });
  }

  /** Removes everything that a test made; also after it failed. */
  async cleanUp(which: string, by: string): Promise<RunView> {
    const run = await this.#find(which);
    if (run.plan.kind !== 'test') {
      throw new Failure('conflict', `run ${run.id} is a ${run.plan.kind}: what it brought up is production`, {
        hint: `Only tests are cleaned up. To stop it: antipode plan cancel ${run.id}`,
      });
    }
    if (run.state === 'cleaning' || run.state === 'cleaned') return this.show(run.id);
    return this.#move(run, { state: 'cleaning', by });
  }

  /** A failed step that the run is to go on without, when it is resumed. */
  async skip(which: string, key: string, reason: string, by: string): Promise<RunView> {
    const { changes, clock, db } = this.#context;
    const run = await this.#find(which);
    const nowMs = clock.now();
    const note = `skipped by ${by}: ${reason}`;
    await db.transaction().execute(async (at) => {
      // The run's row first, so that nobody resumes it meanwhile.
      const { state } = run;
      const isStill =
        (state === 'failed' || state === 'cancelled') &&
        (await setRunState(at, run.id, { from: state, state, nowMs }));
      const step = (await stepsOf(at, run.id)).find((known) => known.key === key);
      checkSkip(run, { key, step, isStill });
      const answer = { answer: 'skip', by, atMs: nowMs } as const;
      await changeSteps(at, run.id, { keys: [key], states: ['failed'] }, { state: 'skipped', note, answer });
      await tellStep(this.#context, at, run, { step: step!, what: 'skipped', note });
    });
    changes.notify('jobs');
    return this.show(run.id);
  }

  /** Goes on with a run that failed or was stopped: what failed or was left out is tried again. */
  async resume(which: string, by: string): Promise<RunView> {
    const run = await this.#find(which);
    if (run.state === 'running') return this.show(run.id);
    if (run.state !== 'failed' && run.state !== 'cancelled') throw isOverAlready(run);
    const other = await otherRun(this.#context.db, run.plan, run.id);
    if (other !== undefined) throw taken(other);
    return this.#move(run, { state: 'running', by }, (steps) => {
      if (!steps.some(({ phase, attempts }) => phase === 'undo' && attempts > 0)) return;
      throw new Failure('conflict', `what run ${run.id} did is being undone`, {
        hint: `Clean up again with: antipode plan cleanup ${run.id}. Then start another run.`,
      });
    });
  }

  async #checked(asked: RunRequest) {
    if (asked.kind === 'failback') return checkFailback(this.#context, this.#peers, asked);
    return checkRun(this.#context, { plans: this.#plans, peers: this.#peers }, asked);
  }

  /** In one transaction that begins with the run's row, so that no manager begins a step meanwhile. */
  async #move(
    run: Run,
    to: { state: 'running' | 'cancelled' | 'cleaning'; by: string },
    allowed: (steps: readonly RunStep[]) => void = () => undefined,
  ): Promise<RunView> {
    const { changes, clock, db } = this.#context;
    const nowMs = clock.now();
    const cut = await db.transaction().execute(async (at) => {
      const failure = to.state === 'running' || to.state === 'cleaning' ? null : undefined;
      const change = {
        from: run.state,
        state: to.state,
        nowMs,
        ...(failure === undefined ? {} : { failure }),
      };
      if (!(await setRunState(at, run.id, change))) {
        throw new Failure('conflict', `run ${run.id} moved on just now`, { hint: 'Look again.' });
      }
      const steps = await stepsOf(at, run.id);
      allowed(steps);
      await prepareSteps(at, run.id, { state: to.state, steps, nowMs });
      const state = to.state === 'running' ? 'resumed' : to.state;
      await tellRun(this.#context, at, run, { state, by: to.by });
      return steps.filter((step) => step.state === 'running');
    });
    for (const step of cut) {
      await this.#work.cancel(callId(run.id, step.key, step.attempts), step.body.kind);
    }
    changes.notify('jobs');
    return this.show(run.id);
  }

  async #find(which: string): Promise<Run> {
    const { db } = this.#context;
    const byId = await findRun(db, which);
    if (byId !== undefined) return byId;
    const [newest] = (await listRuns(db, 1000, Number.MAX_SAFE_INTEGER)).filter(
      ({ plan }) => plan.planName === which,
    );
    if (newest !== undefined) return newest;
    throw new Failure('not_found', `there is no run "${which}", and none of a plan of that name`, {
      hint: 'List them with: antipode runs',
    });
  }
}

/** What becomes of the steps when a run takes another direction. */
async function prepareSteps(
  at: Database,
  runId: string,
  to: { state: RunState; steps: readonly RunStep[]; nowMs: number },
): Promise<void> {
  const keys = (phase: RunStep['phase'], states: readonly string[]): string[] =>
    to.steps.filter((step) => step.phase === phase && states.includes(step.state)).map(({ key }) => key);
  const reset = { state: 'waiting', tries: 0, endedMs: null, note: null, failure: null } as const;
  const change = async (which: string[], how: Parameters<typeof changeSteps>[3]): Promise<void> => {
    if (which.length > 0) await changeSteps(at, runId, { keys: which }, how);
  };
  if (to.state === 'cleaning') {
    const note = 'cut by the cleanup';
    await change(keys('forward', ['running']), { state: 'skipped', endedMs: to.nowMs, note });
    await change(keys('forward', ['waiting']), {
      state: 'skipped',
      endedMs: to.nowMs,
      note: 'not carried out',
    });
    await change(keys('undo', ['failed', 'skipped']), reset);
    return;
  }
  // A try that was cut is begun again; what a recovery made goes on by itself, and is found again.
  await change(keys('forward', ['running']), reset);
  if (to.state !== 'running') return;
  const bad = to.steps.filter(
    (step) =>
      step.phase === 'forward' && (step.state === 'failed' || (step.state === 'skipped' && !isWaived(step))),
  );
  const again = bad.filter((step) => step.state === 'skipped' || step.onFailure === 'abort');
  await change(
    again.map(({ key }) => key),
    reset,
  );
}

/** Throws not_found, conflict. */
function checkSkip(run: Run, at: { key: string; step: RunStep | undefined; isStill: boolean }): void {
  const { key, step, isStill } = at;
  const hint = `See every step with: antipode runs ${run.id}`;
  if (step === undefined) throw new Failure('not_found', `run ${run.id} has no step ${key}`, { hint });
  if (!isStill) {
    throw new Failure(
      'conflict',
      `run ${run.id} is ${run.state}: a step is skipped when its run has failed`,
      {
        hint,
      },
    );
  }
  if (step.state !== 'failed' || step.onFailure === 'continue') {
    const why = step.state === 'failed' ? 'failed, and nothing waits for it' : `is ${step.state}`;
    throw new Failure('conflict', `step ${key} of run ${run.id} ${why}: only a failed step is skipped`, {
      hint,
    });
  }
  if (canBeSkipped(step)) return;
  throw new Failure('conflict', `step ${key} of run ${run.id} cannot be skipped: ${step.name}`, {
    hint: `What comes after relies on it. Put right what it failed by, then: antipode plan resume ${run.id}`,
  });
}

async function otherRun(db: Database, plan: Run['plan'], but?: string): Promise<Run | undefined> {
  const vms = new Set(plan.vms.map(({ vmUuid }) => vmUuid));
  return (await runsInState(db, OPEN)).find(
    (run) =>
      run.id !== but &&
      ((plan.planId !== null && run.plan.planId === plan.planId) ||
        run.plan.groups.some((group) => plan.groups.includes(group)) ||
        run.plan.vms.some(({ vmUuid }) => vms.has(vmUuid))),
  );
}

function taken(run: Run): Failure {
  const { kind, planName } = run.plan;
  const what = KINDS[kind];
  const out = kind === 'test' ? `antipode plan cleanup ${run.id}` : `antipode plan cancel ${run.id}`;
  const hint =
    run.state === 'failed'
      ? `See why with: antipode runs ${run.id}. Then: antipode plan resume ${run.id}, or ${out}`
      : `Follow it with: antipode runs ${run.id}. End it with: ${out}`;
  return new Failure(
    'conflict',
    `${what} ${run.id} of plan ${planName}, with VMs of this one, is ${run.state}`,
    {
      hint,
    },
  );
}

function isOverAlready(run: Run): Failure {
  return new Failure('conflict', `run ${run.id} is ${run.state}`, {
    hint: `See what came of it with: antipode runs ${run.id}`,
  });
}

function refusal(problem: RunCheck['refusals'][number], more: number): Failure {
  const { code, message, hint } = problem;
  const rest = more === 0 ? '' : ` (and ${more} more; see all with --check)`;
  return new Failure(
    isFailureCode(code) ? code : 'conflict',
    `${message}${rest}`,
    hint === null ? {} : { hint },
  );
}
