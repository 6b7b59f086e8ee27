/** The order in which a plan's VMs start: by priority, and within one so that what is depended on comes first. Pure. */
import { Failure } from '#/lib/failure.ts';
import type { RunVm } from './run-plan.ts';

export type PriorityGroup = { priority: number; vms: RunVm[] };

/** Throws usage_invalid: VMs that depend on each other in a circle can never start. */
export function priorityGroups(vms: readonly RunVm[]): PriorityGroup[] {
  const ordered = dependenciesFirst(vms);
  const priorities = new Map(vms.map((vm) => [vm.vmUuid, vm.priority]));
  // From who depends to what is depended on, so that one pass reaches all of them.
  for (const vm of ordered.toReversed()) {
    for (const uuid of vm.dependsOn) {
      priorities.set(uuid, Math.min(priorities.get(uuid)!, priorities.get(vm.vmUuid)!));
    }
  }
  const used = [...new Set(priorities.values())].toSorted((a, b) => a - b);
  return used.map((priority) => ({
    priority,
    vms: ordered.filter((vm) => priorities.get(vm.vmUuid) === priority),
  }));
}

/** In the order given, but for what others depend on. */
function dependenciesFirst(vms: readonly RunVm[]): RunVm[] {
  const byUuid = new Map(vms.map((vm) => [vm.vmUuid, vm]));
  const placed = new Set<string>();
  const ordered: RunVm[] = [];
  let left = [...vms];
  while (left.length > 0) {
    const able = left.filter((vm) => vm.dependsOn.every((uuid) => placed.has(uuid) || !byUuid.has(uuid)));
    if (able.length === 0) {
      throw new Failure(
        'usage_invalid',
        `VMs depend on each other in a circle: ${left.map((vm) => vm.vmName).join(', ')}`,
        { hint: 'Take one of the dependencies out of the plan.' },
      );
    }
    for (const vm of able) placed.add(vm.vmUuid);
    ordered.push(...able);
    left = left.filter((vm) => !placed.has(vm.vmUuid));
  }
  return ordered;
}
