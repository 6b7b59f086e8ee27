/**
 * Tests that a plan asks for by `test.every_ms`: started when they are due, one at a time, never beside another run,
 * and cleaned up once their report is written.
 *
 * Invariant: when a test was last begun is read from the runs, so one that was missed while the manager was down is
 * made up for once, whatever was missed, and no second manager begins it again.
 */
import { failureIn } from '#/lib/failure.ts';
import { failureFields } from '#/lib/log.ts';
import type { Context } from '#/manager/context.ts';
import { SCHEDULE_BEGINS_MS, SCHEDULE_LOOK_EVERY_MS, SCHEDULE_RETRY_MS } from '#/manager/limits.ts';
import type { Runs } from '#/manager/runs/runs.ts';
import { listPlans, type PlanRecord } from '#/manager/store/plan-store.ts';
import { runsInState, type Run } from '#/manager/store/run-store.ts';
import type { ReportStore } from './report-store.ts';

/** Who such a run is said to be started by. No administrator's token has a name with a colon of ours. */
export const BY_SCHEDULE = 'schedule: test.every_ms';

export class TestSchedule {
  readonly #context: Context;
  readonly #runs: Runs;
  readonly #reports: ReportStore;
  /** When a refused test is tried again, by plan, on the monotonic clock. */
  readonly #retryMs = new Map<string, number>();
  #lookedMs: number;

  constructor(context: Context, runs: Runs, reports: ReportStore) {
    this.#context = context;
    this.#runs = runs;
    this.#reports = reports;
    // Programs report first: a test that was missed is not to be refused because they are silent yet.
    this.#lookedMs = context.clock.monotonicMs() + SCHEDULE_BEGINS_MS;
  }

  /** Called often; looks every few seconds. */
  async look(nowMs = this.#context.clock.monotonicMs()): Promise<void> {
    if (nowMs - this.#lookedMs < SCHEDULE_LOOK_EVERY_MS) return;
    this.#lookedMs = nowMs;
    const { clock, db } = this.#context;
    const open = await runsInState(db, ['running', 'ready', 'cleaning', 'failed']);
    const scheduled = open.filter(({ startedBy }) => startedBy === BY_SCHEDULE);
    for (const run of scheduled) await this.#end(run);
    // Any run at all: a test must take no processor from a disaster recovery.
    if (open.some(({ state }) => state !== 'failed') || scheduled.length > 0) return;
    for (const plan of await listPlans(db)) {
      const everyMs = plan.document.test?.every_ms;
      if (everyMs === undefined || (this.#retryMs.get(plan.id) ?? 0) > nowMs) continue;
      if (clock.now() - (await this.#lastMs(plan)) < everyMs) continue;
      await this.#start(plan, nowMs);
      return;
    }
  }

  async #end(run: Run): Promise<void> {
    if (run.state !== 'ready' && run.state !== 'failed') return;
    if ((await this.#reports.find(run.id)) === undefined) return;
    try {
      await this.#runs.cleanUp(run.id, BY_SCHEDULE);
    } catch (error) {
      if (failureIn(error) === undefined) throw error;
      this.#context.log.warning('schedule.cleanup_failed', { run: run.id, ...failureFields(error) });
    }
  }

  /** When its last test began, by whomever; when it was written, for one that was never tested. */
  async #lastMs(plan: PlanRecord): Promise<number> {
    const row = await this.#context.db
      .selectFrom('runs')
      .select((select) => select.fn.max('created_ms').as('last'))
      .where('plan_id', '=', plan.id)
      .where('kind', '=', 'test')
      .executeTakeFirst();
    return row?.last ?? plan.created_ms;
  }

  async #start(plan: PlanRecord, nowMs: number): Promise<void> {
    const { db, events } = this.#context;
    try {
      await this.#runs.start({ plan: plan.name, kind: 'test' }, BY_SCHEDULE);
      this.#retryMs.delete(plan.id);
    } catch (error) {
      const failure = failureIn(error);
      if (failure === undefined) throw error;
      this.#retryMs.set(plan.id, nowMs + SCHEDULE_RETRY_MS);
      await events.record(db, {
        kind: 'plan.test_refused',
        severity: 'error',
        subject: { kind: 'plan', id: plan.id },
        message: `the scheduled test of plan ${plan.name} was refused: ${failure.message}`.slice(0, 4096),
      });
    }
  }
}
