/** What is told of runs in the record of events. */
import type { RunState } from '#/api/runs.ts';
import type { FailureReport } from '#/control/reports.ts';
import type { EventLog } from '#/manager/event-log.ts';
import type { Database } from '#/manager/store/database.ts';
import type { Run } from '#/manager/store/run-store.ts';
import type { RunStep } from './run-step.ts';

type Parts = { events: EventLog };
export const KINDS = {
  test: 'test',
  migration: 'planned migration',
  disaster: 'disaster recovery',
  failback: 'failback',
} as const;
const MESSAGE_LENGTH_MAX = 4000;

export async function tellStep(
  { events }: Parts,
  at: Database,
  run: Run,
  told: {
    step: Pick<RunStep, 'name'>;
    what: 'began' | 'done' | 'retried' | 'failed' | 'skipped';
    note?: string | null;
    failure?: FailureReport | null;
  },
): Promise<void> {
  const { step, what, failure } = told;
  const words = {
    began: 'began',
    done: `is done${told.note === undefined || told.note === null ? '' : `: ${told.note}`}`,
    retried: `failed and is tried again: ${failure?.message ?? ''}`,
    failed: `failed: ${failure?.message ?? ''}`,
    skipped: told.note ?? '',
  }[what];
  await record(events, at, run, {
    kind: `step_${what}`,
    severity: what === 'failed' ? 'error' : what === 'retried' || what === 'skipped' ? 'warning' : 'info',
    text: `${step.name}: ${words}`,
  });
}

export async function tellRun(
  { events }: Parts,
  at: Database,
  run: Pick<Run, 'id' | 'plan'>,
  {
    state,
    failure,
    by,
  }: { state: RunState | 'started' | 'resumed'; failure?: FailureReport | null; by?: string },
): Promise<void> {
  const who = by === undefined ? '' : ` by ${by}`;
  const isBad = failure !== undefined && failure !== null;
  await record(events, at, run, {
    kind: state,
    severity: isBad ? 'error' : run.plan.kind === 'test' ? 'info' : 'warning',
    text: `is ${state}${who}${isBad ? `: ${failure.message}` : ''}`,
  });
}

async function record(
  events: EventLog,
  at: Database,
  run: Pick<Run, 'id' | 'plan'>,
  what: { kind: string; severity: 'info' | 'warning' | 'error'; text: string },
): Promise<void> {
  const message = `${KINDS[run.plan.kind]} of plan ${run.plan.planName}: ${what.text}`;
  await events.record(at, {
    kind: `run.${what.kind}`,
    severity: what.severity,
    subject: { kind: 'run', id: run.id },
    message: message.slice(0, MESSAGE_LENGTH_MAX),
  });
}
