/**
 * Carries out the tasks of the orders, each at least once, and remembers how they stand for as long as the orders
 * name them.
 *
 * Invariant: a task is `done` only after what it asks for is so (I7). Tasks run one after another: a view must not be
 * opened while its replica is being removed.
 */
import type { ServerTask } from '#/control/orders.ts';
import type { FailureReport, TaskReport } from '#/control/reports.ts';
import type { Clock } from '#/lib/clock.ts';
import { describe, type Failure, failureIn } from '#/lib/failure.ts';
import { failureFields, type Log } from '#/lib/log.ts';
import { Mutex } from '#/lib/mutex.ts';
import type { ReplicaStore } from './replica-store.ts';
import type { ReplicaHost } from './session-host.ts';
import type { ViewKeeper } from './view-keeper.ts';

const TEXT_LENGTH_MAX = 4096;

export type TaskParts = {
  store: ReplicaStore;
  views: ViewKeeper;
  host: ReplicaHost;
  clock: Clock;
  log: Log;
  changed: () => void;
  /** A task has ended, and its manager waits for that. */
  ended: () => void;
};

export class TaskRunner {
  readonly #parts: TaskParts;
  readonly #reports = new Map<string, TaskReport>();
  readonly #turn = new Mutex();

  constructor(parts: TaskParts) {
    this.#parts = parts;
  }

  reports(): TaskReport[] {
    return [...this.#reports.values()];
  }

  /** Carries out what is new in `tasks` and forgets what is not there any more. Resolves when all have been tried. */
  async take(tasks: readonly ServerTask[]): Promise<void> {
    await this.#turn.run(async () => {
      const wanted = new Set(tasks.map((task) => task.id));
      for (const id of this.#reports.keys()) {
        if (!wanted.has(id)) this.#reports.delete(id);
      }
      for (const task of tasks) {
        if (!this.#reports.has(task.id)) await this.#carryOut(task);
      }
    });
  }

  async #carryOut(task: ServerTask): Promise<void> {
    const { clock, log, changed, ended } = this.#parts;
    const step = { name: task.kind, started_ms: clock.now(), ended_ms: null, note: null };
    const base: TaskReport = {
      id: task.id,
      state: 'running',
      steps: [step],
      progress: null,
      result: null,
      failure: null,
    };
    this.#reports.set(task.id, base);
    changed();
    const fields = { task: task.id, kind: task.kind };
    try {
      const result = await this.#do(task);
      const steps = [{ ...step, ended_ms: clock.now() }];
      this.#reports.set(task.id, { ...base, state: 'done', steps, result });
      log.info('task.done', fields);
    } catch (error) {
      const failure = failureIn(error);
      if (failure === undefined) throw error;
      const steps = [{ ...step, ended_ms: clock.now() }];
      this.#reports.set(task.id, { ...base, state: 'failed', steps, failure: failureReport(failure) });
      log.error('task.failed', { ...fields, ...failureFields(error) });
    }
    ended();
  }

  async #do(task: ServerTask): Promise<Record<string, unknown> | null> {
    const { store, views, host } = this.#parts;
    switch (task.kind) {
      case 'open_view':
        return await views.open(task);
      case 'close_view':
        await views.close(task.open_task_id);
        return null;
      case 'delete_replica':
        await host.close(task.replica_id);
        try {
          await views.closeAllOf(task.replica_id);
          await store.remove(task.replica_id);
        } finally {
          host.reopen(task.replica_id);
        }
        return null;
    }
  }
}

export function failureReport(failure: Failure): FailureReport {
  return {
    code: failure.code,
    message: describe(failure).slice(0, TEXT_LENGTH_MAX),
    hint: failure.hint?.slice(0, TEXT_LENGTH_MAX) ?? null,
  };
}
