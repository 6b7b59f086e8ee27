/** For tests: a run in a database, engines that advance it and crash when told to, and the world that they act on. */
import assert from 'node:assert/strict';
import type { RunKind } from '#/api/runs.ts';
import { silentLog } from '#/lib/log.ts';
import { ManualClock } from '#/lib/manual-clock.ts';
import { SeededRandom } from '#/lib/random.ts';
import { Changes } from '#/manager/changes.ts';
import type { Context } from '#/manager/context.ts';
import { EventLog } from '#/manager/event-log.ts';
import { openDatabase, type Database } from '#/manager/store/database.ts';
import { addReplica } from '#/manager/store/replica-store.ts';
import { addRun, answerStep, findRun, stepsOf, type Run } from '#/manager/store/run-store.ts';
import { compileRun } from './compile-run.ts';
import { stepWork } from './execute/executors.ts';
import { RunEngine } from './run-engine.ts';
import { inGuest, message, planOf, planVm, World } from './run-fixture.ts';
import type { RunPlan } from './run-plan.ts';
import type { RunStep } from './run-step.ts';
import { Runs } from './runs.ts';
import type { Executors, StepCall, StepWork } from './step-executor.ts';

export const RUN_ID = 'run-0123456789ab';
const ROUNDS_MAX = 2000;
const SETTLED = ['ready', 'done', 'failed', 'cancelled', 'cleaned'];

class Crash extends Error {}

/** The database of a manager that dies right after so many of its records. */
function mortal(db: Database, recordsLeft: number): Database {
  let left = recordsLeft;
  return new Proxy(db, {
    get(target, name) {
      if (left <= 0) throw new Crash('the manager is dead');
      const value = Reflect.get(target, name, target) as unknown;
      if (name !== 'transaction')
        return typeof value === 'function' ? (value.bind(target) as unknown) : value;
      return () => ({
        execute: async (work: (at: Database) => Promise<unknown>) => {
          if (left <= 0) throw new Crash('the manager is dead');
          const answer = await target.transaction().execute(work);
          left--;
          return answer;
        },
      });
    },
  });
}

export class Stage implements AsyncDisposable {
  readonly db: Database;
  readonly clock = new ManualClock();
  readonly changes = new Changes();
  readonly world: World;
  readonly runs: Runs;
  #startCount = 0;
  #isRepeating = false;

  private constructor(db: Database, plan: RunPlan) {
    this.db = db;
    this.world = new World(db, plan.vms, () => this.clock.now());
    this.runs = new Runs(this.context(db), {
      plans: undefined as never,
      peers: undefined as never,
      work: this.work(),
    });
  }

  static async open(plan: RunPlan, url = 'sqlite::memory:'): Promise<Stage> {
    const stage = new Stage(await openDatabase(url, silentLog), plan);
    for (const { vmName, vmUuid, replicaId } of plan.vms) {
      await addReplica(stage.db, {
        id: replicaId,
        protection_id: `protection-${vmName}`,
        vm_uuid: vmUuid,
        vm_name: vmName,
        source_site_id: 'site-west',
        server_id: 'server-1',
        disks: [],
        rpo_ms: 5000,
        retention: { keep_all_ms: 0, tiers: [] },
        epoch: 1,
        state: 'active',
        created_ms: 0,
        seed_sequence: null,
        seed_note: null,
        revision: 1,
        bookmarks: [],
      });
    }
    const run = { id: RUN_ID, plan, startedBy: 'test', warnings: [], createdMs: stage.clock.now() };
    await stage.db.transaction().execute((at) => addRun(at, run, compileRun(plan)));
    return stage;
  }

  context(db: Database): Context {
    const { clock, changes } = this;
    const random = new SeededRandom(++this.#startCount);
    const events = new EventLog(`manager-${this.#startCount}`, { changes, clock, random });
    return { db, clock, changes, random, events, log: silentLog } as unknown as Context;
  }

  /** Each thing is carried out twice, as by a manager that died before it could record the first time. */
  repeat(): void {
    this.#isRepeating = true;
  }

  work(): StepWork {
    const { db, clock, world } = this;
    const parts = { db, clock, recoveries: world.recoveries, sources: world, guests: world };
    const { executors, cancel } = stepWork({ ...parts, commandsDirectory: null });
    const twice = Object.entries(executors).map(([kind, execute]) => {
      const carryOut = execute as (call: StepCall) => ReturnType<typeof execute>;
      const again = async (call: StepCall) => {
        if (this.#isRepeating) await carryOut(call).catch(() => undefined);
        return carryOut(call);
      };
      return [kind, again];
    });
    return { executors: Object.fromEntries(twice) as Executors, cancel };
  }

  /** A manager that starts, and dies after so many records. */
  engine(options: { managerId?: string; recordsLeft?: number; db?: Database } = {}): RunEngine {
    const raw = options.db ?? this.db;
    const db = options.recordsLeft === undefined ? raw : mortal(raw, options.recordsLeft);
    const holder = { managerId: options.managerId ?? 'manager', startedMs: ++this.#startCount };
    return new RunEngine({ ...this.context(raw), db }, this.work(), holder);
  }

  async run(): Promise<Run> {
    return (await findRun(this.db, RUN_ID))!;
  }

  steps(): Promise<RunStep[]> {
    return stepsOf(this.db, RUN_ID);
  }

  async step(key: string): Promise<RunStep> {
    return (await this.steps()).find((step) => step.key === key)!;
  }

  /** Until the run has settled, or until nothing moves any more though time goes by. True when the engine lives. */
  async drive(engine: RunEngine, until: (run: Run) => boolean = isSettled): Promise<boolean> {
    let before = '';
    let quiet = 0;
    for (let round = 0; round < ROUNDS_MAX; round++) {
      try {
        await engine.advance();
        await engine.idle();
      } catch (error) {
        if (error instanceof Crash) return false;
        throw error;
      }
      const [run, steps] = [await this.run(), await this.steps()];
      if (until(run)) return true;
      for (const step of steps) {
        if (step.body.kind !== 'message' || step.state !== 'running' || step.answer !== null) continue;
        if (this.world.trouble.silent.has('person')) continue;
        await answerStep(this.db, RUN_ID, step.key, { answer: 'continue', by: 'alice', atMs: 0 });
      }
      const now = JSON.stringify([run.state, steps.map(({ state, answer }) => [state, answer])]);
      quiet = now === before ? quiet + 1 : 0;
      before = now;
      if (quiet > 20) return true;
      if (quiet > 0) this.clock.advance(2000);
    }
    throw new Error('the run does not come to an end');
  }

  /** What it came to: the run, its steps, and the world. */
  async end(): Promise<unknown> {
    const steps = (await this.steps()).map(({ key, state }) => `${key} ${state}`);
    return { state: (await this.run()).state, steps, world: this.world.state() };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.db.destroy();
  }
}

export function isSettled({ state }: Run): boolean {
  return SETTLED.includes(state);
}

/** A plan with a step of every kind that needs nothing but the world. */
export function fullPlan(kind: RunKind): RunPlan {
  const database = planVm('database', {
    priority: 1,
    health: [{ kind: 'agent' }, { kind: 'tcp', port: 5432 }],
    ...(kind === 'failback'
      ? { restore: true as const }
      : { customize: { by: 'agent', hostName: 'database', addresses: [] } }),
    after: [inGuest('warm up')],
  });
  const web = planVm('web', { priority: 2, dependsOn: ['uuid-database'], health: [{ kind: 'agent' }] });
  return planOf(kind, [database, web], {
    before: [message('go?')],
    suspend: [{ hostId: 'host-1', vmUuid: 'uuid-idle', vmName: 'idle' }],
  });
}

export async function endOf(plan: RunPlan, url?: string): Promise<unknown> {
  await using stage = await Stage.open(plan, url);
  await stage.drive(stage.engine());
  assert(isSettled(await stage.run()), 'it settles');
  return await stage.end();
}
