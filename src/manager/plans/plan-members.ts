/** Which VMs a plan has, from its groups, each with the settings that the plan has for it. Pure. */
import type { PlanDocument, PlanVm } from '#/api/plans.ts';
import type { ReplicaRecord } from '#/manager/store/replica-store.ts';
import { Findings } from './findings.ts';
import { siteIdOf, type PlanFacts } from './plan-facts.ts';

export type Member = {
  replica: ReplicaRecord;
  group: string;
  settings: PlanVm;
  /** How the plan names it. */
  key: string;
};

export function membersOf(plan: PlanDocument, facts: PlanFacts, findings: Findings): Member[] {
  const byUuid = new Map<string, Member>();
  for (const [index, name] of plan.groups.entries()) {
    const at = ['plan', 'groups', index];
    const group = facts.groups.find((known) => known.name === name);
    if (group === undefined) {
      const hint = 'List the groups with: antipode group list';
      findings.error({ code: 'not_found', message: `there is no protection group ${name}`, hint, at });
      continue;
    }
    for (const replica of replicasOf(group.document, facts, findings, () => at)) {
      const other = byUuid.get(replica.vm_uuid);
      if (other === undefined) {
        byUuid.set(replica.vm_uuid, { replica, group: name, settings: {}, key: replica.vm_name });
      } else {
        const groups =
          other.group === name ? `twice in group ${name}` : `in groups ${other.group} and ${name}`;
        findings.error({
          code: 'conflict',
          message: `VM ${replica.vm_name} is ${groups}`,
          hint: 'A VM belongs to one group: take it out of the other.',
          at,
        });
      }
    }
  }
  const members = [...byUuid.values()];
  giveSettings(plan, members, findings);
  return members;
}

/** The replicas that a group's VMs have here. `at` tells where its site stands, or the VM of an index. */
export function replicasOf(
  group: { name: string; site: string; vms: readonly string[] },
  facts: PlanFacts,
  findings: Findings,
  at: (index?: number) => readonly (string | number)[],
): ReplicaRecord[] {
  const siteId = siteIdOf(facts, group.site);
  if (siteId === undefined) {
    findings.error({
      code: 'not_found',
      message: `group ${group.name} is of site "${group.site}", which this site is not paired with`,
      hint: 'List the sites with: antipode sites',
      at: at(),
    });
    return [];
  }
  const byName = new Map<string, ReplicaRecord[]>();
  for (const replica of facts.replicas) {
    if (replica.source_site_id !== siteId || replica.state === 'deleting') continue;
    for (const name of new Set([replica.vm_uuid, replica.vm_name])) {
      byName.set(name, [...(byName.get(name) ?? []), replica]);
    }
  }
  return group.vms.flatMap((vm, index) => {
    const found = byName.get(vm) ?? [];
    if (found.length === 1) return found;
    const [code, message, hint] =
      found.length === 0
        ? ([
            'not_found',
            `group ${group.name} has VM ${vm}, of which this site keeps no replica from ${group.site}`,
            'Protect it there first: antipode protect VM --to SITE. Or take it out of the group.',
          ] as const)
        : ([
            'conflict',
            `group ${group.name} has VM ${vm}, and several VMs of ${group.site} have that name`,
            `Name the one that is meant by its UUID: ${found.map(({ vm_uuid: uuid }) => uuid).join(', ')}`,
          ] as const);
    findings.error({ code, message, hint, at: at(index) });
    return [];
  });
}

export function memberOf(members: readonly Member[], nameOrUuid: string): Member | undefined {
  return members.find(({ replica }) => replica.vm_uuid === nameOrUuid || replica.vm_name === nameOrUuid);
}

function giveSettings(plan: PlanDocument, members: readonly Member[], findings: Findings): void {
  const named = new Map<Member, string>();
  for (const [key, settings] of Object.entries(plan.vms ?? {})) {
    const at = ['plan', 'vms', key];
    const member = memberOf(members, key);
    if (member === undefined) {
      findings.error({
        code: 'not_found',
        message: `the plan has settings for VM ${key}, which is in none of its groups`,
        hint: 'Add it to a group of the plan: antipode group add GROUP VM. Or take its settings out.',
        at,
      });
      continue;
    }
    const before = named.get(member);
    if (before !== undefined) {
      findings.error({
        code: 'conflict',
        message: `the plan has settings for VM ${member.replica.vm_name} twice, as ${before} and as ${key}`,
        hint: 'Keep one of them.',
        at,
      });
      continue;
    }
    named.set(member, key);
    member.settings = settings;
    member.key = key;
  }
}

/** The names and UUIDs by which these VMs can be written, as far as they are known, and as they were written. */
export function memberNames(
  group: { name: string; site: string; vms: readonly string[] },
  facts: PlanFacts,
): string[] {
  const replicas = replicasOf(group, facts, new Findings(), () => []);
  return [...group.vms, ...replicas.flatMap(({ vm_name: name, vm_uuid: uuid }) => [name, uuid])];
}
