/**
 * Plan runs and their steps. A step is recorded before it begins and after it ended.
 *
 * Invariant: whoever advances a run writes only while it holds the run's lease, by the lease's number, and while the
 * run is in the state that was seen. The run's row is written first in every transaction, so that two of them about
 * the same run follow each other, also between managers on one PostgreSQL.
 */
import type { Selectable, Updateable } from 'kysely';
import type { RunState } from '#/api/runs.ts';
import type { FailureReport } from '#/control/reports.ts';
import type { RunPlan } from '#/manager/runs/run-plan.ts';
import type { RunStep, StepAnswer, StepSpec, StepState } from '#/manager/runs/run-step.ts';
import type { Database } from './database.ts';
import type { RunsTable, RunStepsTable } from './schema.ts';

type RunRequestRecord = { plan: RunPlan; startedBy: string; warnings: string[] };
export type Run = RunRequestRecord & {
  id: string;
  state: RunState;
  failure: FailureReport | null;
  lease: { holder: string | null; number: number; untilMs: number };
  createdMs: number;
  updatedMs: number;
  endedMs: number | null;
};

/** What a write is conditional on. */
export type Fence = { runId: string; number: number; state: RunState };

export async function addRun(
  db: Database,
  run: Pick<Run, 'id' | 'plan' | 'startedBy' | 'warnings' | 'createdMs'>,
  steps: readonly StepSpec[],
): Promise<void> {
  const { plan, startedBy, warnings } = run;
  await db
    .insertInto('runs')
    .values({
      id: run.id,
      plan_id: plan.planId,
      plan_name: plan.planName,
      kind: plan.kind,
      state: 'running',
      request: JSON.stringify({ plan, startedBy, warnings } satisfies RunRequestRecord),
      failure: null,
      lease_holder: null,
      lease_number: 0,
      lease_until_ms: 0,
      created_ms: run.createdMs,
      updated_ms: run.createdMs,
      ended_ms: null,
    })
    .execute();
  const rows = steps.map(({ key, vmUuid, ...rest }, position) => ({
    run_id: run.id,
    key,
    position,
    kind: rest.body.kind,
    vm_uuid: vmUuid,
    body: JSON.stringify(rest),
    state: 'waiting',
    attempts: 0,
    tries: 0,
    started_ms: null,
    ended_ms: null,
    failure: null,
    note: null,
    result: null,
    answer: null,
  }));
  // A statement has a limit of parameters.
  for (let at = 0; at < rows.length; at += 500) {
    await db
      .insertInto('run_steps')
      .values(rows.slice(at, at + 500))
      .execute();
  }
}

export async function findRun(db: Database, id: string): Promise<Run | undefined> {
  const row = await db.selectFrom('runs').selectAll().where('id', '=', id).executeTakeFirst();
  return row === undefined ? undefined : decode(row);
}

/** Newest first, older than `beforeMs`. */
export async function listRuns(db: Database, limit: number, beforeMs: number): Promise<Run[]> {
  const query = db.selectFrom('runs').selectAll().where('created_ms', '<', beforeMs);
  return (await query.orderBy('created_ms', 'desc').orderBy('id').limit(limit).execute()).map(decode);
}

export async function runsInState(db: Database, states: readonly RunState[]): Promise<Run[]> {
  const query = db.selectFrom('runs').selectAll().where('state', 'in', states);
  return (await query.orderBy('created_ms').orderBy('id').execute()).map(decode);
}

export async function stepsOf(db: Database, runId: string): Promise<RunStep[]> {
  const query = db.selectFrom('run_steps').selectAll().where('run_id', '=', runId);
  return (await query.orderBy('position').execute()).map(decodeStep);
}

/** True when the lease had that number until now. */
export async function takeLease(
  db: Database,
  run: Pick<Run, 'id' | 'lease'>,
  lease: { holder: string; untilMs: number; isNew: boolean },
): Promise<boolean> {
  const { numUpdatedRows } = await db
    .updateTable('runs')
    .set({
      lease_holder: lease.holder,
      lease_number: run.lease.number + (lease.isNew ? 1 : 0),
      lease_until_ms: lease.untilMs,
    })
    .where('id', '=', run.id)
    .where('lease_number', '=', run.lease.number)
    .executeTakeFirst();
  return numUpdatedRows === 1n;
}

/** True when the fence holds; until the end of the transaction nobody else changes the run then. */
export async function holdRun(at: Database, fence: Fence, nowMs: number): Promise<boolean> {
  const { numUpdatedRows } = await at
    .updateTable('runs')
    .set({ updated_ms: nowMs })
    .where('id', '=', fence.runId)
    .where('lease_number', '=', fence.number)
    .where('state', '=', fence.state)
    .executeTakeFirst();
  return numUpdatedRows === 1n;
}

/** Moves the run on from the state that it was seen in. True when it was still in it. */
export async function setRunState(
  at: Database,
  id: string,
  change: { from: RunState; state: RunState; failure?: FailureReport | null; nowMs: number },
): Promise<boolean> {
  const { from, state, failure, nowMs } = change;
  const isEnd = state !== 'running' && state !== 'cleaning' && state !== 'ready';
  const { numUpdatedRows } = await at
    .updateTable('runs')
    .set({
      state,
      updated_ms: nowMs,
      ended_ms: isEnd ? nowMs : null,
      ...(failure === undefined ? {} : { failure: failure === null ? null : JSON.stringify(failure) }),
    })
    .where('id', '=', id)
    .where('state', '=', from)
    .executeTakeFirst();
  return numUpdatedRows === 1n;
}

export type StepChange = Partial<
  Pick<
    RunStep,
    'state' | 'attempts' | 'tries' | 'startedMs' | 'endedMs' | 'failure' | 'note' | 'result' | 'answer'
  >
>;

/** Of all steps of the run that are in one of those states, if any are named; of those keys, if any are named. */
export async function changeSteps(
  at: Database,
  runId: string,
  which: { keys?: readonly string[]; states?: readonly StepState[] },
  change: StepChange,
): Promise<number> {
  let query = at.updateTable('run_steps').set(encodeStep(change)).where('run_id', '=', runId);
  if (which.keys !== undefined) query = query.where('key', 'in', which.keys);
  if (which.states !== undefined) query = query.where('state', 'in', which.states);
  return Number((await query.executeTakeFirst()).numUpdatedRows);
}

/** True when the step waits for a person and nobody has answered yet. */
export async function answerStep(
  db: Database,
  runId: string,
  key: string,
  answer: StepAnswer,
): Promise<boolean> {
  const { numUpdatedRows } = await db
    .updateTable('run_steps')
    .set({ answer: JSON.stringify(answer) })
    .where('run_id', '=', runId)
    .where('key', '=', key)
    .where('state', '=', 'running')
    .where('answer', 'is', null)
    .executeTakeFirst();
  return numUpdatedRows === 1n;
}

function decode(row: Selectable<RunsTable>): Run {
  return {
    ...(JSON.parse(row.request) as RunRequestRecord),
    id: row.id,
    state: row.state as RunState,
    failure: parsed<FailureReport>(row.failure),
    lease: { holder: row.lease_holder, number: row.lease_number, untilMs: row.lease_until_ms },
    createdMs: row.created_ms,
    updatedMs: row.updated_ms,
    endedMs: row.ended_ms,
  };
}

function decodeStep(row: Selectable<RunStepsTable>): RunStep {
  return {
    ...(JSON.parse(row.body) as Omit<StepSpec, 'key' | 'vmUuid'>),
    key: row.key,
    vmUuid: row.vm_uuid,
    position: row.position,
    state: row.state as StepState,
    attempts: row.attempts,
    tries: row.tries,
    startedMs: row.started_ms,
    endedMs: row.ended_ms,
    failure: parsed<FailureReport>(row.failure),
    note: row.note,
    result: parsed<Record<string, unknown>>(row.result),
    answer: parsed<StepAnswer>(row.answer),
  };
}

function encodeStep(change: StepChange): Updateable<RunStepsTable> {
  const { startedMs, endedMs, failure, result, answer, ...same } = change;
  return {
    ...same,
    ...(startedMs === undefined ? {} : { started_ms: startedMs }),
    ...(endedMs === undefined ? {} : { ended_ms: endedMs }),
    ...(failure === undefined ? {} : { failure: text(failure) }),
    ...(result === undefined ? {} : { result: text(result) }),
    ...(answer === undefined ? {} : { answer: text(answer) }),
  };
}

function text(value: unknown): string | null {
  return value === null ? null : JSON.stringify(value);
}

function parsed<T>(value: string | null): T | null {
  return value === null ? null : (JSON.parse(value) as T);
}
