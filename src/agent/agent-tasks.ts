/**
 * Carries out the tasks of the orders, each at least once, one run of it at a time, and remembers how they stand for
 * as long as the orders name them. A task that was cut by our own end, or by libvirt's, is carried out again, since all
 * of them can be repeated; one that has ended is not, since its report is on disk.
 *
 * Invariant: a task is `done` only after what it asks for is so (I7). A discard first ends the recovery it is about.
 */
import { join } from 'node:path';
import { isGuestTask } from '#/control/guest-tasks.ts';
import type { AgentTask } from '#/control/orders.ts';
import type { RetiredReport } from '#/control/retire-tasks.ts';
import { TaskReport } from '#/control/reports.ts';
import { Backoff } from '#/lib/backoff.ts';
import type { Clock } from '#/lib/clock.ts';
import { describe, Failure, failureIn } from '#/lib/failure.ts';
import { failureFields, type Log } from '#/lib/log.ts';
import { systemRandom } from '#/lib/system-random.ts';
import type { Libvirt } from '#/libvirt/libvirt.ts';
import type { Baselines } from './baseline/baselines.ts';
import { runDiscard } from './discard-task.ts';
import { runConsole, type OpenLink } from './console-task.ts';
import { editDisks } from './edit/edit-disks.ts';
import type { EditDisks } from './edit/recover-edit.ts';
import { guestRecords, type GuestRecords } from './guest/guest-records.ts';
import { removeProbeNamespaces } from './guest/probe-namespace.ts';
import { runGuestTask } from './guest/run-guest-task.ts';
import type { Replication } from './handover/handover-context.ts';
import { HandoverStates, handoversIn } from './handover/handover-state.ts';
import { isTakenBackBy, runHandover } from './handover/run-handover.ts';
import { guardIoPauses } from './io-pause-guard.ts';
import type { LibvirtConnection } from './libvirt-connection.ts';
import { Places } from './places.ts';
import { RetiredCopies } from './retire/retired-copies.ts';
import { runSeed, type SeedParts } from './seed/seed-task.ts';
import { failureReport } from './protection.ts';
import { RecoveryStates } from './recovery-state.ts';
import { TestNetworks } from './recover-network.ts';
import { runRecover, type RecoverStanding } from './recover-task.ts';
import { takePicture } from './picture-task.ts';
import { targetHost } from './target-host.ts';
import { StepLog } from './step-log.ts';
import { TaskFiles } from './task-files.ts';

/** VMs that come up, or go away, at the same time; a booting guest wants a processor of its own. */
const STARTS_AT_ONCE = 8;
/** VMs whose disks are pulled at the same time; the others run on the recovery point until it is their turn. */
const PULLS_AT_ONCE = 4;
/** Appliances, each of which takes 768 MiB at most and, without KVM, a processor for a minute. */
const EDITS_AT_ONCE = 2;
/** Guests that are probed or worked on at the same time: most of that is waiting. */
const GUESTS_AT_ONCE = 64;
const RETRY = { firstMs: 200, maxMs: 10_000 };

export type AgentTaskParts = {
  libvirt: Pick<LibvirtConnection, 'ready' | 'current'>;
  clock: Clock;
  log: Log;
  dataDirectory: string;
  tpmDirectory: string;
  replication: Replication;
  baselines: Baselines;
  openLink: OpenLink;
  seeds: SeedParts;
  changed: () => void;
  /** A task has ended, and the manager waits for that. */
  ended: () => void;
  /** Takes what only a bug can cause. */
  broken: (error: unknown) => void;
};

type Entry = {
  task: AgentTask;
  steps: StepLog;
  stop: AbortController;
  /** Never rejects. */
  ended: Promise<void>;
  report: TaskReport;
};

export class AgentTasks {
  readonly #parts: AgentTaskParts;
  readonly #states: RecoveryStates;
  readonly #networks: TestNetworks;
  readonly #reports: TaskFiles<typeof TaskReport>;
  readonly #handovers: HandoverStates;
  readonly #entries = new Map<string, Entry>();
  readonly #retired: RetiredCopies;
  readonly #starts = new Places(STARTS_AT_ONCE);
  readonly #pulls = new Places(PULLS_AT_ONCE);
  readonly #edits = new Places(EDITS_AT_ONCE);
  readonly #guests = new Places(GUESTS_AT_ONCE);
  readonly #guestRecords: GuestRecords;
  /** Ids of the orders; without recoveries that a discard of the same orders takes back. */
  #wanted: ReadonlySet<string> = new Set();
  #isStopping = false;
  /** Settled once reports that nobody asks for any more are removed. */
  #tidied: Promise<void> = Promise.resolve();

  constructor(parts: AgentTaskParts) {
    this.#parts = parts;
    const directory = join(parts.dataDirectory, 'recoveries');
    this.#states = new RecoveryStates(directory);
    this.#networks = new TestNetworks(this.#states);
    this.#guestRecords = guestRecords(directory);
    this.#reports = new TaskFiles(directory, 'task', TaskReport);
    this.#retired = new RetiredCopies(parts);
    this.#handovers = new HandoverStates(handoversIn(parts.dataDirectory));
  }

  /** Looks after the VMs that are on a recovery point, until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { libvirt, clock, log } = this.#parts;
    for (const failure of [...(await this.#states.load()), ...(await this.#retired.load())]) {
      log.error('recovery.unreadable', failureFields(failure));
    }
    await removeProbeNamespaces().catch((error: unknown) => {
      if (failureIn(error) === undefined) throw error;
      log.warning('probe.leftovers', failureFields(error));
    });
    const resumed = (name: string): void => log.warning('recovery.resumed', { vm: name });
    const current = (): Libvirt => {
      const connection = libvirt.current();
      // Known before the first recovery needs it. Who needs it and does not get it says so.
      targetHost(connection).catch(() => undefined);
      return connection;
    };
    await guardIoPauses({ libvirt: current, states: this.#states, clock, resumed }, signal);
  }

  retired(): RetiredReport[] {
    return this.#retired.reports();
  }

  reports(): TaskReport[] {
    return [...this.#entries.values()].map(({ report, steps }) =>
      report.state === 'running' ? { ...report, steps: [...steps.steps], progress: steps.progress } : report,
    );
  }

  /** Starts what is new, ends what runs and is not ordered any more, and forgets what has ended. */
  take(tasks: readonly AgentTask[]): void {
    const discarded = new Set(tasks.map((task) => (task.kind === 'discard' ? task.recover_task_id : '')));
    this.#wanted = new Set(tasks.map(({ id }) => id).filter((id) => !discarded.has(id)));
    for (const [id, entry] of this.#entries) {
      if (this.#wanted.has(id)) continue;
      if (entry.report.state === 'running')
        entry.stop.abort(new Failure('cancelled', `task ${id} was withdrawn`));
      else this.#entries.delete(id);
    }
    for (const task of tasks) {
      if (this.#wanted.has(task.id) && !this.#entries.has(task.id)) this.#start(task);
    }
    this.#tidied = this.#forgetReports().catch(this.#parts.broken);
  }

  /** Ends all tasks where they are; the next start of the agent takes them up again. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    const running = [...this.#entries.values()];
    for (const { stop } of running) stop.abort(new Failure('cancelled', 'the agent stops'));
    await Promise.all([this.#tidied, ...running.map(({ ended }) => ended)]);
  }

  #start(task: AgentTask): void {
    const { clock, changed } = this.#parts;
    const entry: Entry = {
      task,
      steps: new StepLog(clock, changed),
      stop: new AbortController(),
      ended: Promise.resolve(),
      report: { id: task.id, state: 'running', steps: [], progress: null, result: null, failure: null },
    };
    this.#entries.set(task.id, entry);
    entry.ended = this.#carryOut(entry).catch(this.#parts.broken);
  }

  async #carryOut(entry: Entry): Promise<void> {
    const { id } = entry.task;
    // What was forgotten a moment ago, and is ordered again, must not be found by its old report.
    await this.#tidied;
    const before = await this.#reports.read(id);
    const report = before ?? (await this.#reportOf(entry));
    if (report !== undefined && before === undefined) await this.#keep(report);
    if (report !== undefined) entry.report = report;
    const isWanted = this.#wanted.has(id);
    if (report === undefined || !isWanted) this.#entries.delete(id);
    if (!isWanted) await this.#forgetReports();
    // Withdrawn, and ordered again before it had ended.
    else if (report === undefined && !this.#isStopping) this.#start(entry.task);
    this.#parts.ended();
  }

  /** How the task ended; undefined when it was told to end. */
  async #reportOf(entry: Entry): Promise<TaskReport | undefined> {
    const { log } = this.#parts;
    const { task, steps, stop } = entry;
    const fields = { task: task.id, kind: task.kind };
    try {
      const result = await this.#untilLibvirtAnswers(entry);
      log.info('task.done', fields);
      return { ...entry.report, state: 'done', steps: [...steps.steps], result };
    } catch (error) {
      if (stop.signal.aborted) return undefined;
      const failure = failureIn(error);
      if (failure === undefined) throw error;
      log.error('task.failed', { ...fields, ...failureFields(error) });
      return { ...entry.report, state: 'failed', steps: [...steps.steps], failure: failureReport(failure) };
    }
  }

  /** Repeats the task for as long as libvirt is away or goes away; all else that fails is for people to look at. */
  async #untilLibvirtAnswers(entry: Entry): Promise<Record<string, unknown>> {
    const { clock, log, libvirt } = this.#parts;
    const { task, stop } = entry;
    const backoff = new Backoff(RETRY, systemRandom);
    for (;;) {
      try {
        return await this.#once(entry);
      } catch (error) {
        if (stop.signal.aborted || !isConnectionLost(error)) throw error;
        log.warning('task.cut', { task: task.id, kind: task.kind, reason: describe(error) });
      }
      await clock.sleep(backoff.nextMs(), stop.signal);
      await libvirt.ready(stop.signal);
    }
  }

  async #once(entry: Entry): Promise<Record<string, unknown>> {
    const { clock, replication, tpmDirectory } = this.#parts;
    const { task, steps, stop } = entry;
    const { signal } = stop;
    if (task.kind === 'shut_down' || task.kind === 'final_cycle' || task.kind === 'start_again') {
      await this.#endTasks((other) => isTakenBackBy(task, other), `VM ${task.vm_name} is started again`);
      const libvirt = await this.#parts.libvirt.ready(signal);
      return runHandover(task, { libvirt, clock, states: this.#handovers, replication, steps }, signal);
    }
    if (isGuestTask(task)) {
      using _place = await this.#guests.take(signal);
      const libvirt = await this.#parts.libvirt.ready(signal);
      const context = { libvirt, clock, states: this.#states, records: this.#guestRecords, steps };
      return runGuestTask(task, context, signal);
    }
    if (task.kind === 'picture') {
      return await takePicture(task, await this.#parts.libvirt.ready(signal), signal);
    }
    if (task.kind === 'console') {
      const libvirt = await this.#parts.libvirt.ready(signal);
      return await runConsole(task, { libvirt, openLink: this.#parts.openLink }, signal);
    }
    if (task.kind === 'discard') {
      const { recover_task_id: id } = task;
      await this.#endTasks((other) => other.id === id, `recovery ${id} is discarded`);
    }
    using place = await this.#starts.take(signal);
    const context = {
      libvirt: await this.#parts.libvirt.ready(signal),
      clock,
      states: this.#states,
      networks: this.#networks,
      retired: this.#retired,
      baselines: this.#parts.baselines,
      firmware: { tpmDirectory },
      steps,
      pulls: this.#pulls,
      editDisks: this.#editDisks,
      isUp: (standing?: RecoverStanding) => {
        place[Symbol.dispose]();
        if (standing === undefined) return;
        entry.report = { ...entry.report, result: standing };
        this.#parts.ended();
      },
    };
    switch (task.kind) {
      case 'recover':
        return { ...(await runRecover(task, context, signal)) };
      case 'discard':
        return await runDiscard(task, context, signal);
      case 'seed':
        return await runSeed(task, context, this.#parts.seeds, signal);
      case 'remove_retired':
        return await this.#retired.remove(task.retired_id, context.libvirt);
    }
  }

  readonly #editDisks: EditDisks = async (disks, wish, limits) => {
    using _place = await this.#edits.take(limits.signal);
    return await editDisks(disks, wish, limits);
  };

  async #endTasks(isMeant: (task: AgentTask) => boolean, why: string): Promise<void> {
    const entries = [...this.#entries.values()].filter(({ task }) => isMeant(task));
    for (const { stop } of entries) stop.abort(new Failure('cancelled', why));
    await Promise.all(entries.map(({ ended }) => ended));
  }

  /** Without room for its report a task has ended all the same; only a restart of the agent would repeat it. */
  async #keep(report: TaskReport): Promise<void> {
    try {
      await this.#reports.write(report.id, report);
    } catch (error) {
      if (failureIn(error) === undefined) throw error;
      this.#parts.log.error('task.report_lost', { task: report.id, ...failureFields(error) });
    }
  }

  async #forgetReports(): Promise<void> {
    try {
      await this.#reports.keepOnly((id) => this.#wanted.has(id));
      await this.#guestRecords.keepOnly((id) => this.#wanted.has(id));
    } catch (error) {
      if (failureIn(error) === undefined) throw error;
      this.#parts.log.warning('task.reports_kept', failureFields(error));
    }
  }
}

/** Our end of the connection says `cancelled` when it is closed under a call. */
function isConnectionLost(error: unknown): boolean {
  const code = failureIn(error)?.code;
  return code === 'unreachable' || code === 'cancelled' || code === 'protocol_corrupt';
}
