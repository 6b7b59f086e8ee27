/**
 * In which order the VMs of a plan come up: dependencies hold across priorities, so what a VM depends on comes with
 * that VM's priority at the latest. Pure.
 */
import { DEFAULT_PRIORITY } from '#/api/plans.ts';
import type { Findings } from './findings.ts';
import { memberOf, type Member } from './plan-members.ts';

export type Place = { priority: number; dependsOn: string[] };

/** By the VM's UUID. A cycle is found and named; the places are of no use then. */
export function placesOf(members: readonly Member[], findings: Findings): Map<string, Place> {
  const places = new Map<string, Place>();
  for (const member of members) {
    places.set(member.replica.vm_uuid, {
      priority: member.settings.priority ?? DEFAULT_PRIORITY,
      dependsOn: dependenciesOf(member, members, findings),
    });
  }
  const order = inOrder(members, places, findings);
  // Dependents come before what they depend on here, so each place has its last word when it is passed on.
  for (const uuid of order.toReversed()) {
    const { priority, dependsOn } = places.get(uuid)!;
    for (const needed of dependsOn) {
      const place = places.get(needed)!;
      place.priority = Math.min(place.priority, priority);
    }
  }
  warnOfMoved(members, places, findings);
  return places;
}

function dependenciesOf(member: Member, members: readonly Member[], findings: Findings): string[] {
  const { settings, replica, key } = member;
  return (settings.depends_on ?? []).flatMap((name, index) => {
    const at = ['plan', 'vms', key, 'depends_on', index];
    const needed = memberOf(members, name);
    if (needed === undefined) {
      findings.error({
        code: 'not_found',
        message: `VM ${replica.vm_name} depends on ${name}, which is not in the plan`,
        hint: `Add the group of ${name} to the plan, or take the dependency out.`,
        at,
      });
      return [];
    }
    if (needed.settings.start === 'off') {
      findings.error({
        code: 'conflict',
        message: `VM ${replica.vm_name} depends on ${needed.replica.vm_name}, which the plan leaves off`,
        hint: `Let ${needed.replica.vm_name} start, or take the dependency out.`,
        at,
      });
    }
    return [needed.replica.vm_uuid];
  });
}

/** What a VM depends on comes before it. Without recursion: a chain may be as long as a plan. */
function inOrder(
  members: readonly Member[],
  places: ReadonlyMap<string, Place>,
  findings: Findings,
): string[] {
  const order: string[] = [];
  const states = new Map<string, 'open' | 'done'>();
  for (const start of members) {
    const path: { uuid: string; next: number }[] = [];
    enter(start.replica.vm_uuid);
    for (let top = path.at(-1); top !== undefined; top = path.at(-1)) {
      const needed = places.get(top.uuid)!.dependsOn[top.next++];
      if (needed === undefined) {
        states.set(top.uuid, 'done');
        order.push(top.uuid);
        path.pop();
      } else if (states.get(needed) === 'open') {
        const from = path.findIndex(({ uuid }) => uuid === needed);
        nameCycle([...path.slice(from).map(({ uuid }) => uuid), needed], members, findings);
      } else enter(needed);
    }
    function enter(uuid: string): void {
      if (states.has(uuid)) return;
      states.set(uuid, 'open');
      path.push({ uuid, next: 0 });
    }
  }
  return order;
}

function nameCycle(uuids: readonly string[], members: readonly Member[], findings: Findings): void {
  const cycle = uuids.map((uuid) => members.find(({ replica }) => replica.vm_uuid === uuid)!);
  const names = cycle.map(({ replica }) => replica.vm_name);
  const [first] = cycle;
  findings.error({
    code: 'conflict',
    message: `VMs depend on each other in a circle: ${names.join(' -> ')}`,
    hint: 'Take one of these dependencies out.',
    at: ['plan', 'vms', first!.key, 'depends_on'],
  });
}

function warnOfMoved(
  members: readonly Member[],
  places: ReadonlyMap<string, Place>,
  findings: Findings,
): void {
  for (const { replica, settings, key } of members) {
    const own = settings.priority ?? DEFAULT_PRIORITY;
    const { priority } = places.get(replica.vm_uuid)!;
    if (priority === own) continue;
    findings.add('warning', {
      code: 'conflict',
      message: `VM ${replica.vm_name} comes with priority ${priority}, not ${own}: a VM of that priority depends on it`,
      hint: `Give it priority ${priority}, so that the plan says what is done.`,
      at: ['plan', 'vms', key],
    });
  }
}
