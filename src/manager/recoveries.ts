/** Recoveries as people ask for them: start one, look at it, clean it up. */
import { DEFAULT_SHUT_DOWN_TIMEOUT_MS } from '#/api/plans.ts';
import type { RecoveryRequest, RecoveryView } from '#/api/recoveries.ts';
import type { DiskEdit } from '#/control/guest-tasks.ts';
import { Failure } from '#/lib/failure.ts';
import type { Context } from './context.ts';
import { newId } from './ids.ts';
import { checkMigration, checkMigrationRequest } from './migration-check.ts';
import type { Peers } from './peers.ts';
import {
  checkName,
  checkOthers,
  checkReplica,
  checkSource,
  checkTestNetwork,
  chooseHost,
} from './recovery-check.ts';
import { canBeRepeated } from './recovery-plan.ts';
import { closeTaskId, discardTaskId, recoverTaskId, viewTaskId } from './recovery-tasks.ts';
import type { Replicas } from './replicas.ts';
import { findClaim } from './store/claim-store.ts';
import type { Database } from './store/database.ts';
import { addJob, findJob, jobsInState, listJobs, setJobState, type Job } from './store/job-store.ts';
import type { ReplicaRecord } from './store/replica-store.ts';
import { findTask, tasksOfJob, type Task } from './store/task-store.ts';

/** Under TCG a guest may take minutes to its first sign of life. */
const SIGN_OF_LIFE_TIMEOUT_MS = 300_000;
/** States in which a job has, or may make, a VM here. */
const OPEN = ['running', 'ready', 'cleaning', 'failed'] as const;

const TASK_OF_STEP: Record<string, (jobId: string) => string> = {
  open_view: viewTaskId,
  recover: recoverTaskId,
  discard: discardTaskId,
  close_view: closeTaskId,
};

/** Of a recovery that is a step of a plan's run. */
export type StartOptions = {
  id?: string;
  storagePath?: string | null;
  /** Its addresses are changed in its disks, before its first start. */
  edit?: DiskEdit;
  /** The VM is left off. */
  start?: false;
  /** The protected site is known not to answer, and is not asked. */
  isSourceSilent?: boolean;
  /** Called first in the transaction that records the job; throws when that is not to be. */
  within?: (at: Database) => Promise<void>;
};

export class Recoveries {
  readonly #context: Context;
  readonly #peers: Peers;
  readonly #replicas: Replicas;

  constructor(context: Context, peers: Peers, replicas: Replicas) {
    this.#context = context;
    this.#peers = peers;
    this.#replicas = replicas;
  }

  /** Throws, with nothing changed, when something speaks against it. */
  async start(asked: RecoveryRequest, options: StartOptions = {}): Promise<RecoveryView> {
    const { changes, clock, db, events, random } = this.#context;
    const purpose = asked.purpose ?? 'recovery';
    checkTestNetwork(asked);
    checkMigrationRequest(asked);
    const replica = await this.#replicas.find(asked.vm);
    const jobs = await jobsInState(db, OPEN);
    const report = checkReplica(this.#context, replica, asked.point);
    if (purpose !== 'test') checkOthers(replica, jobs);
    const name = asked.name ?? (purpose === 'test' ? `${replica.vm_name}-test` : replica.vm_name);
    const host = chooseHost(this.#context, asked, replica);
    const back = purpose === 'test' ? undefined : { replica, hostId: host.id };
    checkName(this.#context, name, jobs, back);
    if (purpose === 'migration') await checkMigration(this.#peers, { replica, report, host }, asked);
    const isForced = asked.force === true;
    const source = await this.#source(replica, { purpose, isForced, ...options });
    const highest = (await findClaim(db, replica.vm_uuid))?.epoch ?? 0;
    const job = {
      id: options.id ?? newId(random, 'job'),
      kind: 'recovery',
      replica_id: replica.id,
      created_ms: clock.now(),
      request: {
        ...settingsOf(asked, options),
        replica_id: replica.id,
        vm_name: replica.vm_name,
        name,
        purpose,
        epoch: purpose === 'test' ? replica.epoch : Math.max(replica.epoch, highest) + 1,
        is_source_silent: source === 'silent',
        host_id: host.id,
        server_id: replica.server_id,
      },
    } as const;
    await db.transaction().execute(async (at) => {
      await options.within?.(at);
      // Asked once more inside the transaction: the checks above waited for another site.
      const now = await jobsInState(at, OPEN);
      if (purpose !== 'test') checkOthers(replica, now);
      checkName(this.#context, name, now, back);
      await addJob(at, job);
      await events.record(at, {
        kind: 'recovery.started',
        severity: 'warning',
        subject: { kind: 'recovery', id: job.id },
        message: `${purpose} of VM ${replica.vm_name} as ${name} on host ${host.name}`,
      });
    });
    changes.notify('jobs');
    return this.view(await this.#get(job.id));
  }

  async #source(
    replica: ReplicaRecord,
    asked: { purpose: Job['request']['purpose']; isForced: boolean; isSourceSilent?: boolean },
  ): Promise<'answers' | 'silent'> {
    if (asked.purpose !== 'recovery') return 'answers';
    if (asked.isSourceSilent === true) return 'silent';
    return checkSource(this.#context, this.#peers, replica, asked.isForced);
  }

  async find(id: string): Promise<RecoveryView | undefined> {
    const job = await findJob(this.#context.db, id);
    return job === undefined ? undefined : this.view(job);
  }

  async list(limit: number, beforeMs: number): Promise<RecoveryView[]> {
    const jobs = await listJobs(this.#context.db, limit, beforeMs);
    return Promise.all(jobs.map((job) => this.view(job)));
  }

  async show(id: string): Promise<RecoveryView> {
    return this.view(await this.#get(id));
  }

  /**
   * Takes down what the recovery made: ends a test, cancels what is under way, clears up after a failure. A recovery
   * that came to its end is production, and not to be taken down by this. `which` is a job's id or a VM's name.
   */
  async cleanUp(which: string): Promise<RecoveryView> {
    const { changes, clock, db, events } = this.#context;
    const job = await this.toCleanUp(which);
    if (job.state === 'cleaning' || job.state === 'cleaned') return this.view(job);
    if (job.state === 'done') {
      throw new Failure('conflict', `VM ${job.request.name} was recovered for production by ${job.id}`, {
        hint: 'Cleaning up would destroy it. Shut it down and undefine it by hand if that is what you want.',
      });
    }
    await db.transaction().execute(async (at) => {
      const change = { from: job.state, state: 'cleaning', nowMs: clock.now() } as const;
      if (!(await setJobState(at, job.id, change))) {
        throw new Failure('conflict', `recovery ${job.id} moved on just now`, { hint: 'Look again.' });
      }
      await events.record(at, {
        kind: 'recovery.cleaning',
        severity: 'info',
        subject: { kind: 'recovery', id: job.id },
        message: `VM ${job.request.name} and what its recovery made are being removed`,
      });
    });
    changes.notify('jobs');
    return this.view(await this.#get(job.id));
  }

  /** Throws not_found, conflict. */
  async toCleanUp(which: string): Promise<Job> {
    const byId = await findJob(this.#context.db, which);
    if (byId !== undefined) return byId;
    const open = await jobsInState(this.#context.db, OPEN);
    const found = open.filter(({ request }) => request.name === which || request.vm_name === which);
    if (found.length === 1) return found[0]!;
    if (found.length === 0) {
      throw new Failure('not_found', `no recovery of "${which}" is under way, ready or failed here`, {
        hint: 'List them with: antipode recoveries',
      });
    }
    throw new Failure('conflict', `several recoveries match "${which}"`, {
      hint: `Name one by its id: ${found.map((job) => job.id).join(', ')}`,
    });
  }

  /**
   * Goes on with a recovery for production that failed when its VM had come up: what is still to be done, such as
   * pulling its disks, is begun again on the view that is still open. `which` as in `cleanUp`. Throws conflict when
   * nothing of it is up.
   */
  async retry(which: string): Promise<RecoveryView> {
    const { changes, clock, db, events } = this.#context;
    const job = await this.toCleanUp(which);
    const last = job.steps.at(-1);
    const task = await findTask(db, recoverTaskId(job.id));
    checkRetry(job, task);
    await db.transaction().execute(async (at) => {
      // Later than the failure, which tells that it is to be tried again.
      const nowMs = Math.max(clock.now(), (last?.ended_ms ?? 0) + 1);
      const change = { from: 'failed', state: 'running', failure: null, nowMs } as const;
      if (!(await setJobState(at, job.id, change))) {
        throw new Failure('conflict', `recovery ${job.id} moved on just now`, { hint: 'Look again.' });
      }
      await events.record(at, {
        kind: 'recovery.retried',
        severity: 'warning',
        subject: { kind: 'recovery', id: job.id },
        message: `the recovery of VM ${job.request.vm_name} goes on with ${last?.name ?? ''}`,
      });
    });
    changes.notify('jobs');
    return this.view(await this.#get(job.id));
  }

  async #get(id: string): Promise<Job> {
    const job = await findJob(this.#context.db, id);
    if (job !== undefined) return job;
    throw new Failure('not_found', `there is no recovery ${id}`, {
      hint: 'List them with: antipode recoveries',
    });
  }

  async view(job: Job): Promise<RecoveryView> {
    const tasks = new Map((await tasksOfJob(this.#context.db, job.id)).map((task) => [task.id, task]));
    const sequence = openedSequence(tasks.get(viewTaskId(job.id))) ?? (job.request.point || null);
    const replica = this.#context.inventory.replicaReport(job.request.server_id, job.replica_id).report;
    const point = replica?.points.find((known) => known.sequence === sequence);
    return {
      id: job.id,
      replica_id: job.replica_id,
      vm_name: job.request.vm_name,
      name: job.request.name,
      purpose: job.request.purpose,
      point: sequence,
      moment_ms: point?.moment_ms ?? null,
      host_id: job.request.host_id,
      epoch: job.request.epoch,
      state: job.state,
      steps: job.steps.map(({ name, state, started_ms, ended_ms, failure, note }) => {
        const report = tasks.get(TASK_OF_STEP[name]?.(job.id) ?? '')?.report ?? null;
        const own = note === null ? [] : [{ name: note, started_ms, ended_ms, note: null }];
        const details = report?.steps ?? own;
        return { name, state, started_ms, ended_ms, failure, details, progress: report?.progress ?? null };
      }),
      result: tasks.get(recoverTaskId(job.id))?.report?.result ?? null,
      failure: job.failure,
      created_ms: job.created_ms,
      updated_ms: job.updated_ms,
    };
  }
}

/** Throws conflict. */
function checkRetry(job: Job, task: Task | undefined): void {
  const { name } = job.request;
  if (job.state !== 'failed') {
    throw new Failure(
      'conflict',
      `recovery ${job.id} of ${name} is ${job.state}: only one that failed goes on`,
      {
        hint: `See how it stands with: antipode recoveries ${job.id}`,
      },
    );
  }
  const last = job.steps.at(-1);
  const isUp = task?.state !== 'failed' || typeof task.report?.result?.['vm_uuid'] === 'string';
  const isRepeatable = last?.state === 'failed' && canBeRepeated(last) && job.request.purpose !== 'test';
  if (task !== undefined && task.state !== 'withdrawn' && isUp && isRepeatable) return;
  const why = job.failure === null ? '' : `: ${job.failure.message}`;
  throw new Failure('conflict', `recovery ${job.id} failed before ${name} was up${why}`, {
    hint: `There is nothing to go on with. Take it down with: antipode cleanup ${job.id}. Then recover again.`,
  });
}

/** What was asked for, or goes without asking. */
function settingsOf(asked: RecoveryRequest, options: StartOptions) {
  return {
    point: asked.point ?? 0,
    storage_path: options.storagePath ?? null,
    ...(options.edit === undefined ? {} : { edit: options.edit }),
    ...(options.start === undefined ? {} : { start: options.start }),
    networks: asked.networks ?? {},
    test_network: asked.test_network ?? null,
    reprotect: asked.reprotect ?? false,
    serial_text: asked.serial_text ?? null,
    shut_down: asked.shut_down ?? 'guest',
    shut_down_timeout_ms: asked.shut_down_timeout_ms ?? DEFAULT_SHUT_DOWN_TIMEOUT_MS,
    sign_of_life_timeout_ms: asked.sign_of_life_timeout_ms ?? SIGN_OF_LIFE_TIMEOUT_MS,
  } as const;
}

function openedSequence(task: Task | undefined): number | undefined {
  const sequence = task?.report?.result?.['sequence'];
  return typeof sequence === 'number' ? sequence : undefined;
}
