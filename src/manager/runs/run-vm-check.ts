/** What speaks against one VM of a run, and how old it would come up. */
import type { RunRequest, RunVmCheck } from '#/api/runs.ts';
import type { ReplicaReport } from '#/control/reports.ts';
import { Failure, failureIn } from '#/lib/failure.ts';
import type { Context } from '#/manager/context.ts';
import type { AgentMember } from '#/manager/inventory.ts';
import type { ResolvedVm } from '#/manager/plans/resolved-plan.ts';
import { checkName, checkOthers, checkReplica, chooseHost } from '#/manager/recovery-check.ts';
import type { Job } from '#/manager/store/job-store.ts';
import type { ReplicaRecord } from '#/manager/store/replica-store.ts';
import { isPlanned, type PointChoice } from './run-plan.ts';

/** A migration does not begin while replication is behind by more than so many times the RPO: its last cycle would. */
const RPO_FACTOR = 3;
const RPO_GRACE_MS = 10_000;

export type Found = { vm: RunVmCheck; choice: PointChoice; failures: Failure[]; warnings: string[] };

/** What of a plan's VM is looked at. */
type CheckedVm = Pick<
  ResolvedVm,
  'vm_uuid' | 'vm_name' | 'priority' | 'host' | 'host_name' | 'customize_by' | 'customize_on_failure'
> & { addresses: readonly unknown[] };

type About = {
  asked: RunRequest;
  vm: CheckedVm;
  replica: ReplicaRecord;
  jobs: readonly Job[];
  isSilent: boolean;
};

export function checkVm(context: Context, about: About): Found {
  const { asked, vm, replica, isSilent } = about;
  const failures: Failure[] = [];
  const { point, isNewest, choice } = choose(context, about, failures);
  const host = attempt(failures, () => chooseHost(context, { vm: vm.vm_name, host_id: vm.host }, replica));
  checkTaken(context, about, { failures, hostId: host?.id });
  const ageMs = point === undefined ? null : Math.max(0, context.clock.now() - point.moment_ms);
  const late = isNewest ? behind(vm, ageMs, replica) : undefined;
  const warnings: string[] = [];
  checkEdit(vm, host, { failures, warnings });
  if (isPlanned(asked.kind) && isSilent) failures.push(silent(vm));
  if (late !== undefined && isPlanned(asked.kind)) failures.push(late);
  else if (late !== undefined) warnings.push(late.message);
  return {
    failures,
    warnings,
    choice,
    vm: {
      vm_uuid: vm.vm_uuid,
      vm_name: vm.vm_name,
      priority: vm.priority,
      point: point?.sequence ?? null,
      moment_ms: point?.moment_ms ?? null,
      age_ms: ageMs,
      rpo_ms: replica.rpo_ms,
      source: isSilent ? 'silent' : 'answers',
    },
  };
}

type Point = ReplicaReport['points'][number];

/** The point that was asked for, or the newest that may be. One that is older than what is reported has no moment. */
function choose(
  context: Context,
  { asked, vm, replica }: About,
  failures: Failure[],
): { point: Point | undefined; isNewest: boolean; choice: PointChoice } {
  const wanted = asked.points?.[vm.vm_name] ?? asked.points?.[vm.vm_uuid];
  const report = attempt(failures, () => checkReplica(context, replica, wanted));
  const points = report?.points ?? [];
  if (wanted !== undefined) {
    const point = points.find(({ sequence }) => sequence === wanted);
    return { point, isNewest: false, choice: { from: 'sequence', sequence: wanted } };
  }
  const { at_ms: atMs } = asked;
  const point = points.findLast(({ moment_ms: momentMs }) => atMs === undefined || momentMs <= atMs);
  if (report !== undefined && point === undefined) failures.push(tooYoung(vm));
  if (atMs === undefined || point === undefined) return { point, isNewest: true, choice: { from: 'newest' } };
  return { point, isNewest: false, choice: { from: 'sequence', sequence: point.sequence } };
}

function attempt<T>(failures: Failure[], work: () => T): T | undefined {
  try {
    return work();
  } catch (error) {
    const failure = failureIn(error);
    if (failure === undefined) throw error;
    failures.push(failure);
    return undefined;
  }
}

function checkTaken(
  context: Context,
  { asked, vm, replica, jobs }: About,
  { failures, hostId }: { failures: Failure[]; hostId: string | undefined },
): void {
  const isTest = asked.kind === 'test';
  // The old copy of a VM that comes back makes room by itself.
  const back = isTest || hostId === undefined ? undefined : { replica, hostId };
  attempt(failures, () => checkName(context, isTest ? `${vm.vm_name}-test` : vm.vm_name, jobs, back));
  if (!isTest) attempt(failures, () => checkOthers(replica, jobs));
  if (!isTest && replica.state === 'recovered') failures.push(recoveredAlready(vm));
}

/** Addresses by disk need what edits disks on the host; whether the guest can be edited is known when it is opened. */
function checkEdit(
  vm: CheckedVm,
  host: AgentMember | undefined,
  { failures, warnings }: { failures: Failure[]; warnings: string[] },
): void {
  const isEdited = vm.customize_by === 'disk' && (vm.addresses.length > 0 || vm.host_name !== null);
  if (!isEdited || host?.report?.host.edits_disks !== false) return;
  const failure = new Failure(
    'vm_unsupported',
    `addresses of ${vm.vm_name} are changed in its disks, and host ${host.name} has no guestfish`,
    { hint: 'Install it there (Debian: guestfish libguestfs-xfs), or set customize_by: agent.' },
  );
  if (vm.customize_on_failure === 'abort') failures.push(failure);
  else warnings.push(`addresses of ${vm.vm_name} will not be changed: host ${host.name} has no guestfish`);
}

function tooYoung(vm: CheckedVm): Failure {
  return new Failure('not_found', `${vm.vm_name} has no recovery point as old as that`, {
    hint: `List its points with: antipode points ${vm.vm_name}`,
  });
}

function recoveredAlready(vm: CheckedVm): Failure {
  return new Failure('conflict', `VM ${vm.vm_name} was recovered here already`, {
    hint: 'It runs at this site. To have it protected again: antipode reprotect --help',
  });
}

function behind(vm: CheckedVm, ageMs: number | null, replica: ReplicaRecord): Failure | undefined {
  if (ageMs === null || ageMs <= replica.rpo_ms * RPO_FACTOR + RPO_GRACE_MS) return undefined;
  const text = `replication of ${vm.vm_name} is behind: its newest point is ${seconds(ageMs)} old`;
  return new Failure('tracking_lost', `${text}, with an RPO of ${seconds(replica.rpo_ms)}`, {
    hint: 'See why with: antipode status. If the protected site is lost: antipode plan run',
  });
}

function silent(vm: CheckedVm): Failure {
  return new Failure('unreachable', `the protected site of ${vm.vm_name} does not answer`, {
    hint: 'A planned migration needs both sites. If it is lost: antipode plan run',
  });
}

function seconds(ms: number): string {
  return ms < 120_000 ? `${(ms / 1000).toFixed(1)} s` : `${Math.round(ms / 60_000)} min`;
}
