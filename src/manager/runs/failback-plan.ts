/**
 * A plan turned round: what brings those VMs home that it has moved away. The order, the dependencies, the probes and
 * the steps are those of the plan. Networks are not: each VM remembers those that it was on here. Nor are addresses: a
 * guest that was given others gets its own back. Pure.
 */
import type { MovedPlan, MovedVm } from '#/api/moved-plans.ts';
import type { HealthProbe, PlanStep } from '#/api/plans.ts';
import type { ReplicaRecord } from '#/manager/store/replica-store.ts';
import type { RunPlan, RunVm } from './run-plan.ts';

export type TurnedRound = {
  plan: RunPlan;
  /** VMs that this site keeps no replica of: they are not protected to it yet. */
  unprotected: string[];
  /** What of the plan is not as it was, for people. */
  notes: string[];
};

/** `replicas` are those that this site keeps for the site where the VMs are. */
export function turnRound(moved: MovedPlan, replicas: readonly ReplicaRecord[]): TurnedRound {
  const notes: string[] = [];
  const byVm = new Map(replicas.map((replica) => [replica.vm_uuid, replica]));
  const unprotected = moved.vms.filter(({ vm_uuid: uuid }) => !byVm.has(uuid)).map((vm) => vm.vm_name);
  const uuids = new Set(moved.vms.map((vm) => vm.vm_uuid));
  const steps = (list: readonly PlanStep[]): PlanStep[] =>
    list.filter((step) => isOfHere(step, uuids, notes));
  const vms = moved.vms.flatMap((vm): RunVm[] => {
    const replica = byVm.get(vm.vm_uuid);
    return replica === undefined ? [] : [homeward(vm, replica, { uuids, notes, steps })];
  });
  return {
    unprotected,
    notes,
    plan: {
      kind: 'failback',
      planId: null,
      planName: moved.plan,
      groups: [],
      vms,
      before: steps(moved.before),
      after: steps(moved.after),
      priorities: Object.fromEntries(
        Object.entries(moved.priorities).map(([priority, { before, after }]) => [
          priority,
          { before: steps(before), after: steps(after) },
        ]),
      ),
      suspend: [],
      test: { networks: 'one', router: {} },
    },
  };
}

function homeward(
  vm: MovedVm,
  replica: ReplicaRecord,
  at: { uuids: ReadonlySet<string>; notes: string[]; steps: (list: readonly PlanStep[]) => PlanStep[] },
): RunVm {
  const health = vm.health.map((probe) => withoutAddress(probe));
  if (vm.health.some((probe) => 'address' in probe)) {
    at.notes.push(`${vm.vm_name} is probed at the addresses that its guest tells, not at those of the plan`);
  }
  return {
    vmUuid: vm.vm_uuid,
    vmName: vm.vm_name,
    replicaId: replica.id,
    sourceSiteId: replica.source_site_id,
    priority: vm.priority,
    dependsOn: vm.depends_on.filter((uuid) => at.uuids.has(uuid)),
    start: vm.start,
    shutDown: { mode: vm.shut_down, timeoutMs: vm.shut_down_timeout_ms },
    hostId: null,
    networks: {},
    storagePath: null,
    health,
    before: at.steps(vm.before),
    after: at.steps(vm.after),
    customize: null,
    ...(vm.has_other_addresses ? { restore: true as const } : {}),
    point: { from: 'newest' },
    isSourceSilent: false,
  };
}

/** An address of the plan is one of the site that the VM comes from. */
function withoutAddress(probe: HealthProbe): HealthProbe {
  if (!('address' in probe)) return probe;
  const { address: _, ...rest } = probe;
  return rest;
}

/** A program in the guest of a VM that does not come along has no place to run. */
function isOfHere(step: PlanStep, uuids: ReadonlySet<string>, notes: string[]): boolean {
  if (step.kind !== 'guest' || step.vm === undefined || uuids.has(step.vm)) return true;
  notes.push(`step "${step.name}" is left out: its VM does not come along`);
  return false;
}
