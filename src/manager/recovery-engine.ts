/**
 * Carries recoveries out (docs/architecture.md, "Recovery of one VM"). Each step is recorded before it begins and after
 * it ended; what it does in between may be repeated. A manager that was killed anywhere goes on from the record.
 */
import type { FailureReport } from '#/control/reports.ts';
import { failureIn } from '#/lib/failure.ts';
import type { EpochClaim } from '#/lib/epoch-claim.ts';
import { failureFields } from '#/lib/log.ts';
import type { Claims } from './claims.ts';
import type { Context } from './context.ts';
import { isAtSource, type HandoverSteps, type SourceStep } from './handover-steps.ts';
import type { JobLease } from './job-lease.ts';
import type { Peers } from './peers.ts';
import { problemOf } from './problem.ts';
import { recordReprotection } from './record-reprotection.ts';
import { nextMove, type Move, type StepName } from './recovery-plan.ts';
import {
  closeTaskId,
  discardTaskId,
  recoverTask,
  recoverTaskId,
  viewOf,
  viewTaskId,
} from './recovery-tasks.ts';
import { fromStep, outcomeOf, type Outcome } from './step-outcome.ts';
import { stopCopies } from './stop-copies.ts';
import { claimOf } from './store/claim-store.ts';
import {
  beginStep,
  endStep,
  jobsInState,
  noteStep,
  setJobPoint,
  setJobState,
  type Job,
} from './store/job-store.ts';
import { listProtections } from './store/protection-store.ts';
import { listReplicas, updateReplica } from './store/replica-store.ts';
import { addTask, findTask, repeatTask, tasksOfJob, withdrawTask, type Task } from './store/task-store.ts';

/** A forward step waits so long for a program that has stopped reporting. Cleaning waits until it is back. */
const LOST_AFTER_MS = 5 * 60_000;
const ORDERED_AGAIN = 'ordered once more';

export class RecoveryEngine {
  readonly #context: Context;
  readonly #peers: Peers;
  readonly #claims: Claims;
  readonly #handover: HandoverSteps;
  readonly #lease: JobLease;
  readonly #startedMs: number;
  /** Old copies that are asked to yield, by their job; what came of it, once that is known. */
  readonly #stopping = new Map<string, { outcome?: { note: string } | FailureReport }>();

  constructor(
    context: Context,
    peers: Peers,
    claims: Claims,
    at: { handover: HandoverSteps; lease: JobLease },
  ) {
    this.#context = context;
    this.#peers = peers;
    this.#claims = claims;
    this.#handover = at.handover;
    this.#lease = at.lease;
    this.#startedMs = context.clock.now();
  }

  /**
   * Moves every job that can move, while this manager is the one that does. Called at start and whenever a task, a job
   * or a report changed.
   */
  async advance(): Promise<void> {
    if (!(await this.#lease.hold())) return;
    for (const job of await jobsInState(this.#context.db, ['running', 'cleaning'])) {
      try {
        await this.#advanceJob(job);
      } catch (error) {
        // One job's trouble, such as a database that is away for a moment, holds back no other.
        this.#context.log.error('recovery.advance', { job: job.id, ...failureFields(error) });
      }
    }
  }

  async #advanceJob(job: Job): Promise<void> {
    const move = nextMove(job);
    switch (move.kind) {
      case 'none':
        return;
      case 'begin':
        await this.#begin(job, move);
        return this.#carryOut(job, move);
      case 'carry_out':
        return this.#carryOut(job, move);
      case 'finish':
        return this.#finish(job, move);
    }
  }

  async #begin(job: Job, move: Extract<Move, { kind: 'begin' }>): Promise<void> {
    const { clock } = this.#context;
    await this.#write(async (at) => {
      await beginStep(at, job.id, { position: move.position, name: move.name, nowMs: clock.now() });
      await this.#tell(at, job, { kind: 'step_began', severity: 'info', text: `${move.name} began` });
    });
    this.#context.changes.notify('jobs');
  }

  async #carryOut(job: Job, step: { position: number; name: StepName }): Promise<void> {
    const { changes, clock } = this.#context;
    const startedMs = job.steps[step.position]?.started_ms ?? clock.now();
    let outcome: Outcome;
    try {
      outcome = await this.#do(job, { ...step, startedMs });
    } catch (error) {
      const failure = failureIn(error);
      if (failure === undefined) throw error;
      outcome = problemOf(failure);
    }
    if (outcome === 'waiting') return;
    if (typeof outcome === 'object' && 'waiting' in outcome)
      return this.#note(job, step.position, outcome.waiting);
    const point = typeof outcome === 'object' && 'note' in outcome ? outcome.point : undefined;
    const note = typeof outcome === 'object' && 'note' in outcome ? outcome.note : undefined;
    const failure = typeof outcome === 'object' && 'code' in outcome ? outcome : null;
    await this.#write(async (at) => {
      if (point !== undefined) await setJobPoint(at, job, point);
      await endStep(at, job.id, { position: step.position, failure, note, nowMs: clock.now() });
      await this.#tell(at, job, {
        kind: failure === null ? 'step_done' : 'step_failed',
        severity: failure === null ? 'info' : 'error',
        text:
          failure === null
            ? `${step.name} is done${note === undefined ? '' : `: ${note}`}`
            : `${step.name} failed: ${failure.message}`,
      });
    });
    // The next step begins on this signal.
    changes.notify('jobs');
  }

  /** Tells what holds a step up, once. */
  async #note(job: Job, position: number, note: string): Promise<void> {
    if (job.steps[position]?.note === note) return;
    await this.#write((at) => noteStep(at, job.id, { position, note }));
    this.#context.changes.notify('jobs');
  }

  async #finish(job: Job, move: Extract<Move, { kind: 'finish' }>): Promise<void> {
    const { changes, clock } = this.#context;
    const { state, failure } = move;
    await this.#write(async (at) => {
      const nowMs = clock.now();
      const change = { from: job.state, state, nowMs, ...(failure === undefined ? {} : { failure }) };
      // A cleanup that was asked for meanwhile has the last word.
      if (!(await setJobState(at, job.id, change))) return;
      if (state === 'cleaned' && job.steps.some(({ name }) => name === 'raise_epoch')) {
        // Nothing of the VM runs here any more, so the replica may be taken up by its protected site again.
        await updateReplica(at, job.replica_id, { state: 'kept' });
        const replica = (await listReplicas(at)).find(({ id }) => id === job.replica_id);
        if (replica !== undefined && (await this.#claims.withdraw(at, replica.vm_uuid))) {
          const text =
            'if the copy of the protected site has yielded, it runs again after, there: ' +
            `antipode fence release ${job.request.vm_name}`;
          await this.#tell(at, job, { kind: 'claim_withdrawn', severity: 'info', text });
        }
      }
      if (state === 'done' && job.request.reprotect === true) {
        const { host_id: hostId, name: vmName } = job.request;
        await recordReprotection(at, this.#context, { replicaId: job.replica_id, vmName, hostId, disks: [] });
      }
      await this.#tell(at, job, {
        kind: state,
        severity: state === 'failed' ? 'error' : 'info',
        text: failure === undefined ? `is ${state}` : `failed: ${failure.message}`,
      });
    });
    changes.notify('jobs');
    changes.notify('orders');
  }

  async #do(job: Job, step: { name: StepName; position: number; startedMs: number }): Promise<Outcome> {
    const { name, startedMs } = step;
    if (isAtSource(name)) return fromStep(await this.#handover.carryOut(job, { ...step, name }));
    return (await this.#doHere(job, { ...step, name })) ?? this.#lost(job, name, startedMs) ?? 'waiting';
  }

  /** Undefined while a program is at it. */
  async #doHere(
    job: Job,
    step: { name: Exclude<StepName, SourceStep>; position: number; startedMs: number },
  ): Promise<Outcome | undefined> {
    const { startedMs } = step;
    switch (step.name) {
      case 'raise_epoch':
        return this.#raiseEpoch(job);
      case 'stop_source':
        return this.#stopSource(job);
      case 'open_view':
        return this.#openView(job);
      case 'recover':
        return this.#recover(job, step);
      case 'discard':
        return this.#discard(job, startedMs);
      case 'close_view':
        return this.#closeView(job, startedMs);
    }
  }

  async #raiseEpoch(job: Job): Promise<Outcome> {
    const { changes, db } = this.#context;
    const replica = (await listReplicas(db)).find((known) => known.id === job.replica_id);
    if (replica === undefined) {
      return { code: 'not_found', message: 'the replica was deleted meanwhile', hint: null };
    }
    const want = { epoch: job.request.epoch, raise: true, relatedSiteId: replica.source_site_id };
    await this.#write(async () => undefined);
    const claim = await this.#claims.claim(replica, want);
    const epoch = Math.max(replica.epoch, claim.epoch);
    await this.#write((at) => updateReplica(at, replica.id, { epoch, state: 'recovered' }));
    changes.notify('orders');
    return 'done';
  }

  /** The other sites are asked in the background; what came of it is told by a later call. */
  #stopSource(job: Job): Outcome {
    const known = this.#stopping.get(job.id);
    if (known?.outcome !== undefined) {
      this.#stopping.delete(job.id);
      return known.outcome;
    }
    if (known !== undefined) return 'waiting';
    const asked: { outcome?: { note: string } | FailureReport } = {};
    this.#stopping.set(job.id, asked);
    const parts = { context: this.#context, peers: this.#peers, claims: this.#claims };
    void stopCopies(parts, job).then((outcome) => {
      asked.outcome = typeof outcome === 'string' ? { note: outcome } : outcome;
      this.#context.changes.notify('jobs');
    });
    return 'waiting';
  }

  async #openView(job: Job): Promise<Outcome | undefined> {
    const { server_id: memberId, point } = job.request;
    const id = viewTaskId(job.id);
    const body = { id, kind: 'open_view', replica_id: job.replica_id, sequence: point ?? 0 } as const;
    const outcome = outcomeOf(await this.#order(job, memberId, body));
    if (outcome === 'done') viewOf((await findTask(this.#context.db, id))?.report ?? null);
    return outcome;
  }

  async #recover(job: Job, at: { position: number; startedMs: number }): Promise<Outcome | undefined> {
    const { db, inventory } = this.#context;
    const known = await findTask(db, recoverTaskId(job.id));
    if (known !== undefined) return (await this.#repeat(job, known, at)) ?? outcomeOf(known);
    const host = inventory.agent(job.request.host_id);
    if (host === undefined) {
      return { code: 'unreachable', message: `host ${job.request.host_id} left this site`, hint: null };
    }
    const view = viewOf((await findTask(db, viewTaskId(job.id)))?.report ?? null);
    const claim = job.request.purpose === 'test' ? undefined : await this.#claimOf(job);
    const way = { claim, journey: await this.#journeyOf(job), comesHome: await this.#comesHome(job) };
    return outcomeOf(await this.#order(job, host.id, recoverTask(job, view, host, way)));
  }

  /**
   * Of a step that is repeated: orders the task that failed before once more, when its host has forgotten that, or it
   * would only say it again. Undefined when there is nothing to order.
   */
  async #repeat(
    job: Job,
    task: Task,
    { position, startedMs }: { position: number; startedMs: number },
  ): Promise<Outcome | undefined> {
    const { changes, inventory } = this.#context;
    const isRepeated = job.steps.some(({ name, position: other }) => name === 'recover' && other < position);
    const isOrdered = job.steps[position]?.note === ORDERED_AGAIN;
    if (!isRepeated || task.state !== 'failed' || isOrdered) return undefined;
    const host = inventory.agent(task.member_id);
    const hasForgotten =
      host?.report !== undefined &&
      (host.reportMs ?? 0) >= startedMs &&
      !host.report.tasks.some(({ id }) => id === task.id);
    if (!hasForgotten) return this.#lost(job, 'recover', startedMs) ?? 'waiting';
    await this.#write(async (at) => {
      await noteStep(at, job.id, { position, note: ORDERED_AGAIN });
      await repeatTask(at, task.id);
    });
    changes.notify('orders');
    return 'waiting';
  }

  async #claimOf(job: Job): Promise<EpochClaim | undefined> {
    const replica = (await listReplicas(this.#context.db)).find(({ id }) => id === job.replica_id);
    const record = replica === undefined ? undefined : await this.#claims.find(replica.vm_uuid);
    return record?.site_id === this.#context.identity.siteId ? claimOf(record) : undefined;
  }

  /** A VM that was protected from here before it went away. */
  async #comesHome(job: Job): Promise<boolean> {
    if (job.request.purpose === 'test' || job.request.start === false) return false;
    const { db } = this.#context;
    const replica = (await listReplicas(db)).find(({ id }) => id === job.replica_id);
    const own = (await listProtections(db)).find(({ vm_uuid: uuid }) => uuid === replica?.vm_uuid);
    return replica !== undefined && own?.state === 'superseded';
  }

  async #journeyOf(job: Job) {
    const { db, identity } = this.#context;
    const replica = (await listReplicas(db)).find(({ id }) => id === job.replica_id);
    const fromSiteId = replica?.source_site_id ?? identity.siteId;
    return { from_site_id: fromSiteId, to_site_id: identity.siteId };
  }

  async #discard(job: Job, startedMs: number): Promise<Outcome | undefined> {
    const { db } = this.#context;
    const recoverId = recoverTaskId(job.id);
    if ((await findTask(db, recoverId)) === undefined) return 'done';
    await this.#write((at) => withdrawTask(at, recoverId));
    const id = await this.#undoTaskId(job, { first: discardTaskId(job.id), startedMs });
    const body = { id, kind: 'discard', recover_task_id: recoverId } as const;
    return outcomeOf(await this.#order(job, job.request.host_id, body));
  }

  async #closeView(job: Job, startedMs: number): Promise<Outcome | undefined> {
    const { db } = this.#context;
    const openId = viewTaskId(job.id);
    if ((await findTask(db, openId)) === undefined) return 'done';
    await this.#write((at) => withdrawTask(at, openId));
    const id = await this.#undoTaskId(job, { first: closeTaskId(job.id), startedMs });
    const body = { id, kind: 'close_view', open_task_id: openId } as const;
    return outcomeOf(await this.#order(job, job.request.server_id, body));
  }

  /** Of a step that undoes: another task than the one that failed before the step began. */
  async #undoTaskId(job: Job, { first, startedMs }: { first: string; startedMs: number }): Promise<string> {
    const all = (await tasksOfJob(this.#context.db, job.id)).filter(({ id }) => id.startsWith(first));
    const last = all.at(-1);
    if (last === undefined) return first;
    const isOld = last.state === 'failed' && last.created_ms < startedMs;
    return isOld ? `${first}-${all.length + 1}` : last.id;
  }

  async #order(job: Job, memberId: string, body: Task['body']): Promise<Task> {
    const { changes, clock, db } = this.#context;
    const known = await findTask(db, body.id);
    if (known !== undefined) return known;
    const task = { id: body.id, member_id: memberId, job_id: job.id, body, created_ms: clock.now() };
    await this.#write((at) => addTask(at, task));
    changes.notify('orders');
    return { ...task, state: 'ordered', report: null };
  }

  /** A transaction that comes to pass only while no other manager has taken over. */
  async #write(work: (at: Context['db']) => Promise<void>): Promise<void> {
    await this.#context.db.transaction().execute(async (at) => {
      await this.#lease.fence(at);
      await work(at);
    });
  }

  /** The failure of waiting for a program that has not been heard of for too long. Cleaning waits. */
  #lost(job: Job, name: StepName, startedMs: number): FailureReport | undefined {
    if (job.state !== 'running') return undefined;
    const { clock, inventory } = this.#context;
    const { host_id: hostId, server_id: serverId } = job.request;
    const member = name === 'recover' ? inventory.agent(hostId) : inventory.server(serverId);
    const lastMs = Math.max(member?.reportMs ?? 0, startedMs, this.#startedMs);
    if (clock.now() - lastMs < LOST_AFTER_MS) return undefined;
    return {
      code: 'unreachable',
      message: `${member?.name ?? 'the program'} has not reported for ${LOST_AFTER_MS / 60_000} minutes`,
      hint:
        name === 'recover'
          ? `Start it again, then go on with: antipode retry ${job.id}`
          : 'Start it again, clean this recovery up, and recover again.',
    };
  }

  async #tell(
    db: Context['db'],
    job: Job,
    what: { kind: string; severity: 'info' | 'error'; text: string },
  ): Promise<void> {
    const purpose = job.request.purpose === 'test' ? 'test recovery' : job.request.purpose;
    await this.#context.events.record(db, {
      kind: `recovery.${what.kind}`,
      severity: what.severity,
      subject: { kind: 'recovery', id: job.id },
      message: `${purpose} of VM ${job.request.vm_name}: ${what.text}`,
    });
  }
}
