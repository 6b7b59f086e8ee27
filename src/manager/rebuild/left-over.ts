/**
 * Recoveries and tests that were under way when the database was lost. Their records are gone, and their VMs go on: a
 * rebuild says of each what it is and what to do, in an event, and plans say it for as long as the VM is there.
 */
import { Type, type Static } from 'typebox';
import { Check } from 'typebox/value';
import type { KeptByAgent } from '#/control/kept-orders.ts';
import type { RecoverTask } from '#/control/orders.ts';
import type { AgentReport } from '#/control/reports.ts';
import type { Context } from '#/manager/context.ts';
import type { Database } from '#/manager/store/database.ts';
import type { Job } from '#/manager/store/job-store.ts';
import type { ReplicaRecord } from '#/manager/store/replica-store.ts';
import { readSetting, writeSetting } from '#/manager/store/settings-store.ts';

const SETTING = 'left_over';
const LEFT_OVER_MAX = 1000;
/** The id of a recovery that is a step of a run has the run's in it. */
const OF_RUN = /^job-([0-9a-f]{12})-.+-recover$/;

const LeftOver = Type.Object({
  /** That made, or was to make, the VM. */
  task_id: Type.String(),
  /** Null of a test whose VM does not say whose it is. */
  replica_id: Type.Union([Type.String(), Type.Null()]),
  /** The VM was there. */
  is_there: Type.Boolean(),
  message: Type.String(),
  hint: Type.String(),
});
export type LeftOver = Static<typeof LeftOver>;
const All = Type.Array(LeftOver);

type Host = { name: string; kept: KeptByAgent; report: Pick<AgentReport, 'tasks' | 'vms'> | undefined };
type Vm = AgentReport['vms'][number];

/** What a host's last orders and its report say together; `replicas` are those that came back. Pure. */
export function leftOvers(host: Host, replicas: readonly ReplicaRecord[]): LeftOver[] {
  const tasks = (host.kept.orders?.tasks ?? []).filter((task) => task.kind === 'recover');
  const known = new Set(tasks.map(({ id }) => id));
  const uuids = new Set(replicas.map(({ vm_uuid: uuid }) => uuid));
  // The VM of a test that is up is in no order any more; it has a UUID of its own.
  const tests = (host.report?.vms ?? []).filter(
    ({ recovered_by_task: by, uuid }) => by !== null && !known.has(by) && !uuids.has(uuid),
  );
  return [
    ...tasks.flatMap((task) => ofTask(task, host)),
    ...tests.map((vm) => {
      const replica = replicas.find(({ vm_name: name }) => vm.name === `${name}-test`);
      const from = { taskId: vm.recovered_by_task!, replicaId: replica?.id ?? null, point: null };
      return leftOver({ ...from, isTest: true, name: vm.name, state: 'done', vm }, host.name);
    }),
  ];
}

function ofTask(task: RecoverTask, { name, report }: Host): LeftOver[] {
  const state = report?.tasks.find(({ id }) => id === task.id)?.state ?? 'not begun';
  const isTest = task.purpose === 'test';
  // A recovery that has come to its end needs nobody.
  if (!isTest && state === 'done') return [];
  const vm = report?.vms.find(({ recovered_by_task: by }) => by === task.id);
  const from = { taskId: task.id, replicaId: task.replica_id, point: task.view.sequence };
  return [leftOver({ ...from, isTest, name: task.name, state, vm }, name)];
}

function leftOver(
  of: {
    taskId: string;
    replicaId: string | null;
    point: number | null;
    isTest: boolean;
    name: string;
    state: string;
    vm: Vm | undefined;
  },
  hostName: string,
): LeftOver {
  const { isTest, name, point, replicaId, state, taskId, vm } = of;
  const run = OF_RUN.exec(taskId)?.[1];
  const part = run === undefined ? '' : ` of plan run run-${run}`;
  const what = isTest ? 'a test recovery' : `a recovery (${state})`;
  const isThere = vm === undefined ? 'is not there' : `is ${vm.state}`;
  const from = point === null ? '' : `, from point ${point}`;
  return {
    task_id: taskId,
    replica_id: replicaId,
    is_there: vm !== undefined,
    message:
      `${what}${part} was under way when the database was lost: ` +
      `VM ${name} ${isThere} on host ${hostName}${from}`,
    hint: hintOf({ name, isTest, isThere: vm !== undefined, point }),
  };
}

function hintOf(vm: { name: string; isTest: boolean; isThere: boolean; point: number | null }): string {
  const { isTest, isThere, name, point } = vm;
  const again = `antipode recover ${name}${point === null ? '' : ` --point ${point}`}`;
  if (isTest && !isThere) return 'Nothing is left of it: test again.';
  if (isTest) {
    return (
      'It is isolated, and nothing waits for it: shut it down and undefine it on that host, then start the ' +
      'replication server again, which closes its recovery point.'
    );
  }
  if (!isThere) return `Bring it up again: ${again}`;
  return (
    'Its disks may still need that point, so leave the replication server running until each was pulled: virsh ' +
    `blockpull ${name} DISK --wait. Or give up what it has written: undefine it on that host, then ${again}`
  );
}

/** Those of a replica that there still is something to do about. */
export function stillLeft(
  all: readonly LeftOver[],
  replicaId: string,
  now: { inventory: Context['inventory']; jobs: readonly Pick<Job, 'replica_id'>[] },
): LeftOver[] {
  const made = new Set(now.inventory.vms().map(({ vm }) => vm.recovered_by_task));
  // Whoever has begun anew has seen to it.
  const isSeenTo = now.jobs.some((job) => job.replica_id === replicaId);
  return all.filter(
    (one) => one.replica_id === replicaId && (made.has(one.task_id) || (!one.is_there && !isSeenTo)),
  );
}

export async function recordLeftOvers(
  at: Database,
  { events }: Context,
  all: readonly LeftOver[],
): Promise<void> {
  const known = await readLeftOvers(at);
  const fresh = all.filter(({ task_id: id }) => !known.some((one) => one.task_id === id));
  await writeSetting(at, SETTING, JSON.stringify([...fresh, ...known].slice(0, LEFT_OVER_MAX)));
  for (const { hint, message, replica_id: replicaId, task_id: taskId } of fresh) {
    await events.record(at, {
      kind: 'recovery.left_over',
      severity: 'warning',
      subject: replicaId === null ? { kind: 'recovery', id: taskId } : { kind: 'replica', id: replicaId },
      message: `${message}. ${hint}`,
    });
  }
}

export async function readLeftOvers(db: Database): Promise<LeftOver[]> {
  const text = await readSetting(db, SETTING);
  const value: unknown = text === undefined ? [] : JSON.parse(text);
  return Check(All, value) ? value : [];
}
