/**
 * Carries out the tasks of the orders, each at least once, and remembers how they stand for as long as the orders
 * name them. A task that was cut by our own end is carried out again, since all of them can be repeated.
 *
 * Invariant: a task is `done` only after what it asks for is so (I7). A discard first ends the recovery it is about.
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { AgentTask } from '#/control/orders.ts';
import type { TaskReport } from '#/control/reports.ts';
import type { Clock } from '#/lib/clock.ts';
import { failureIn } from '#/lib/failure.ts';
import { failureFields, type Log } from '#/lib/log.ts';
import { runDiscard } from './discard-task.ts';
import type { LibvirtConnection } from './libvirt-connection.ts';
import { failureReport } from './protection.ts';
import { RecoveryStates } from './recovery-state.ts';
import { runRecover } from './recover-task.ts';
import { StepLog } from './step-log.ts';

/** Starts of VMs under way at the same time; the others wait. */
const TASKS_AT_ONCE = 8;

export type AgentTaskParts = {
  libvirt: LibvirtConnection;
  clock: Clock;
  log: Log;
  dataDirectory: string;
  tpmDirectory: string;
  changed: () => void;
  /** Takes what only a bug can cause. */
  broken: (error: unknown) => void;
};

type Running = {
  task: AgentTask;
  steps: StepLog;
  stop: AbortController;
  ended: Promise<void>;
  report: TaskReport;
};

export class AgentTasks {
  readonly #parts: AgentTaskParts;
  readonly #tasks = new Map<string, Running>();
  readonly #waiting: (() => void)[] = [];
  #running = 0;

  constructor(parts: AgentTaskParts) {
    this.#parts = parts;
  }

  reports(): TaskReport[] {
    return [...this.#tasks.values()].map(({ report, steps }) => ({
      ...report,
      steps: [...steps.steps],
      progress: report.state === 'running' ? steps.progress : null,
    }));
  }

  /** Starts what is new and forgets what has ended and is not ordered any more. */
  take(tasks: readonly AgentTask[]): void {
    const wanted = new Set(tasks.map(({ id }) => id));
    for (const [id, { report }] of this.#tasks) {
      if (!wanted.has(id) && report.state !== 'running') this.#tasks.delete(id);
    }
    for (const task of tasks) {
      if (!this.#tasks.has(task.id)) this.#start(task);
    }
  }

  /** Ends all tasks where they are; the next start of the agent takes them up again. */
  async stop(): Promise<void> {
    const running = [...this.#tasks.values()];
    for (const { stop } of running) stop.abort();
    await Promise.all(running.map(({ ended }) => ended));
  }

  #start(task: AgentTask): void {
    const { clock, changed, broken } = this.#parts;
    const report: TaskReport = {
      id: task.id,
      state: 'running',
      steps: [],
      progress: null,
      result: null,
      failure: null,
    };
    const stop = new AbortController();
    const running: Running = {
      task,
      steps: new StepLog(clock, changed),
      stop,
      ended: Promise.resolve(),
      report,
    };
    this.#tasks.set(task.id, running);
    running.ended = this.#carryOut(running);
    running.ended.catch(broken);
  }

  async #carryOut(running: Running): Promise<void> {
    const { log, changed } = this.#parts;
    const { task, stop } = running;
    const fields = { task: task.id, kind: task.kind };
    await this.#turn();
    try {
      const result = await this.#do(running);
      running.report = { ...running.report, state: 'done', result };
      log.info('task.done', fields);
    } catch (error) {
      const failure = failureIn(error);
      // Asked to end, not failed: nobody has been told yet, and the orders still name it.
      if (stop.signal.aborted) return;
      if (failure === undefined) throw error;
      running.report = { ...running.report, state: 'failed', failure: failureReport(failure) };
      log.error('task.failed', { ...fields, ...failureFields(error) });
    } finally {
      this.#running--;
      this.#waiting.shift()?.();
      changed();
    }
  }

  async #do({ task, steps, stop }: Running): Promise<Record<string, unknown>> {
    const { clock, dataDirectory, tpmDirectory } = this.#parts;
    const directory = join(dataDirectory, 'recoveries');
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const libvirt = await this.#parts.libvirt.ready(stop.signal);
    const context = {
      libvirt,
      clock,
      states: new RecoveryStates(directory),
      firmware: { tpmDirectory },
      steps,
    };
    switch (task.kind) {
      case 'recover':
        return { ...(await runRecover(task, context, stop.signal)) };
      case 'discard': {
        const recovery = this.#tasks.get(task.recover_task_id);
        recovery?.stop.abort();
        await recovery?.ended;
        return await runDiscard(task, context);
      }
    }
  }

  /** Waits for one of TASKS_AT_ONCE places. */
  async #turn(): Promise<void> {
    if (this.#running >= TASKS_AT_ONCE) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.#running++;
  }
}
