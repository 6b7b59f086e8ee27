/** Jobs of the manager and their steps. A step is recorded before it begins and after it ended. */
import type { Selectable } from 'kysely';
import type { DiskEdit } from '#/control/guest-tasks.ts';
import type { FailureReport } from '#/control/reports.ts';
import type { JobState, RecoveryRequest } from '#/api/recoveries.ts';
import type { Database } from './database.ts';
import type { JobsTable, JobStepsTable } from './schema.ts';

/** What was asked for, with everything that was decided when it was accepted. */
export type JobRequest = Required<Omit<RecoveryRequest, 'vm' | 'force'>> & {
  replica_id: string;
  vm_name: string;
  /** The epoch the replica has after this job. */
  epoch: number;
  /** The protected site's manager did not answer when this began: it is not waited for. */
  is_source_silent: boolean;
  host_id: string;
  /** Of a plan's VM: the directory for its disks. */
  storage_path: string | null;
  server_id: string;
  /** Of a plan's VM whose addresses are changed in its disks. */
  edit?: DiskEdit;
  /** Of a plan's VM that is left off; otherwise it is started. */
  start?: false;
};

export type JobStep = Omit<Selectable<JobStepsTable>, 'job_id' | 'failure'> & {
  failure: FailureReport | null;
};
export type Job = Omit<Selectable<JobsTable>, 'request' | 'failure' | 'state'> & {
  state: JobState;
  request: JobRequest;
  failure: FailureReport | null;
  steps: JobStep[];
};

export async function addJob(
  db: Database,
  job: Pick<Job, 'id' | 'kind' | 'replica_id' | 'request' | 'created_ms'>,
): Promise<void> {
  await db
    .insertInto('jobs')
    .values({
      ...job,
      request: JSON.stringify(job.request),
      state: 'running',
      failure: null,
      updated_ms: job.created_ms,
    })
    .execute();
}

/** Moves the job on from the state it was seen in. True when it was still in it. */
export async function setJobState(
  db: Database,
  id: string,
  change: { from: JobState; state: JobState; failure?: FailureReport | null; nowMs: number },
): Promise<boolean> {
  const { numUpdatedRows } = await db
    .updateTable('jobs')
    .set({
      state: change.state,
      updated_ms: change.nowMs,
      ...(change.failure === undefined
        ? {}
        : { failure: change.failure === null ? null : JSON.stringify(change.failure) }),
    })
    .where('id', '=', id)
    .where('state', '=', change.from)
    .executeTakeFirst();
  return numUpdatedRows === 1n;
}

export async function beginStep(
  db: Database,
  jobId: string,
  step: { position: number; name: string; nowMs: number },
): Promise<void> {
  await db
    .insertInto('job_steps')
    .values({
      job_id: jobId,
      position: step.position,
      name: step.name,
      state: 'running',
      started_ms: step.nowMs,
      ended_ms: null,
      failure: null,
      note: null,
    })
    .execute();
}

export async function endStep(
  db: Database,
  jobId: string,
  step: { position: number; failure: FailureReport | null; note?: string | undefined; nowMs: number },
): Promise<void> {
  await db
    .updateTable('job_steps')
    .set({
      state: step.failure === null ? 'done' : 'failed',
      ended_ms: step.nowMs,
      failure: step.failure === null ? null : JSON.stringify(step.failure),
      note: step.note ?? null,
    })
    .where('job_id', '=', jobId)
    .where('position', '=', step.position)
    .execute();
}

/** What holds a step up, while it is under way. */
export async function noteStep(
  db: Database,
  jobId: string,
  step: { position: number; note: string },
): Promise<void> {
  await db
    .updateTable('job_steps')
    .set({ note: step.note })
    .where('job_id', '=', jobId)
    .where('position', '=', step.position)
    .where('state', '=', 'running')
    .execute();
}

/** The recovery point is decided by a step: all that follow it are about that one. */
export async function setJobPoint(
  db: Database,
  job: Pick<Job, 'id' | 'request'>,
  point: number,
): Promise<void> {
  const request = JSON.stringify({ ...job.request, point });
  await db.updateTable('jobs').set({ request }).where('id', '=', job.id).execute();
}

export async function findJob(db: Database, id: string): Promise<Job | undefined> {
  const row = await db.selectFrom('jobs').selectAll().where('id', '=', id).executeTakeFirst();
  return row === undefined ? undefined : withSteps(db, row);
}

/** Newest first, older than `beforeMs`. */
export async function listJobs(db: Database, limit: number, beforeMs: number): Promise<Job[]> {
  const rows = await db
    .selectFrom('jobs')
    .selectAll()
    .where('created_ms', '<', beforeMs)
    .orderBy('created_ms', 'desc')
    .limit(limit)
    .execute();
  return Promise.all(rows.map((row) => withSteps(db, row)));
}

export async function jobsInState(db: Database, states: readonly JobState[]): Promise<Job[]> {
  const rows = await db
    .selectFrom('jobs')
    .selectAll()
    .where('state', 'in', states)
    .orderBy('created_ms')
    .execute();
  return Promise.all(rows.map((row) => withSteps(db, row)));
}

async function withSteps(db: Database, row: Selectable<JobsTable>): Promise<Job> {
  const steps = await db
    .selectFrom('job_steps')
    .selectAll()
    .where('job_id', '=', row.id)
    .orderBy('position')
    .execute();
  return {
    ...row,
    state: row.state as JobState,
    request: JSON.parse(row.request) as JobRequest,
    failure: parseFailure(row.failure),
    steps: steps.map(({ position, name, state, started_ms, ended_ms, failure, note }) => ({
      position,
      name,
      state,
      started_ms,
      ended_ms,
      failure: parseFailure(failure),
      note,
    })),
  };
}

function parseFailure(text: string | null): FailureReport | null {
  return text === null ? null : (JSON.parse(text) as FailureReport);
}
