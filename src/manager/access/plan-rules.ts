/**
 * What seeing and changing plans, groups, runs and fences needs, by what they are about.
 *
 * Invariant: whoever has a role on a group does not reach beyond its VMs by writing a plan or a group: neither by
 * steps that run programs of the manager or call others, nor by VMs that make room, nor by a group that grows.
 */
import type { Permission } from '#/api/access.ts';
import type { ImportRequest } from '#/api/plan-files.ts';
import type { GroupDocument, PlanDocument, PlanStep } from '#/api/plans.ts';
import { failureIn } from '#/lib/failure.ts';
import type { Manager } from '#/manager/manager.ts';
import { inBody, inPath, type Demand, type Rule } from './rule.ts';

const PLAN = ['plan.manage'] as const;
const VIEW = ['site.view'] as const;
const manage = (on: Demand['on']): Demand => ({ permission: 'plan.manage', on });
const see = (on: Demand['on']): Demand => ({ permission: 'site.view', on });

export const seePlan: Rule = {
  needs: VIEW,
  of: async (sent, { plans }) => see({ groups: (await plans.find(inPath(sent, 'id'))).document.groups }),
};

export const seeGroup: Rule = {
  needs: VIEW,
  of: async (sent, { groups }) => see({ groups: [(await groups.find(inPath(sent, 'id'))).name] }),
};

export const seeRun: Rule = {
  needs: VIEW,
  of: async (sent, { runs }) =>
    see({ vmUuids: (await runs.show(inPath(sent, 'id'))).vms.map((vm) => vm.vm_uuid) }),
};

/** By the plan that is asked about; that of a failback is another site's. */
export const checkRun: Rule = {
  needs: VIEW,
  of: async (sent, { plans }) => {
    if (inBody(sent, 'kind') === 'failback') return see('everything');
    return see({ groups: (await plans.find(String(inBody(sent, 'plan')))).document.groups });
  },
};

export const createPlan: Rule = {
  needs: PLAN,
  of: async ({ body }) => changeOf(body as PlanDocument, undefined),
};

export const changePlan: Rule = {
  needs: PLAN,
  of: async (sent, { plans }) => {
    const { document } = await plans.find(inPath(sent, 'id'));
    return changeOf(inBody(sent, 'document') as PlanDocument, document);
  },
};

export const deletePlan: Rule = {
  needs: PLAN,
  of: async (sent, { plans }) => manage({ groups: (await plans.find(inPath(sent, 'id'))).document.groups }),
};

/** A file may bring groups and mappings along, as long as it changes none of them. */
export const importPlan: Rule = {
  needs: PLAN,
  of: async ({ body }, manager) => {
    const { file } = body as ImportRequest;
    const { changes } = await manager.planImport.run({ file, apply: false });
    const isMore = changes.some(({ kind, change }) => kind !== 'plan' && change !== 'none');
    return isMore ? manage('everything') : changeOf(file.plan, await knownPlan(manager, file.plan.name));
  },
};

/** A group may lose VMs by those who have a role on it: one that grows would make their role grow with it. */
export const changeGroup: Rule = {
  needs: PLAN,
  of: async (sent, { groups }) => {
    const { document, name } = await groups.find(inPath(sent, 'id'));
    const wanted = sent.body as GroupDocument;
    const isLess =
      wanted.name === name &&
      wanted.site === document.site &&
      wanted.vms.every((vm) => document.vms.includes(vm));
    return manage(isLess ? { groups: [name] } : 'everything');
  },
};

export const changeMembers: Rule = {
  needs: PLAN,
  of: async (sent, { groups }) => {
    const { name } = await groups.find(inPath(sent, 'id'));
    const added = (inBody(sent, 'add') ?? []) as readonly string[];
    return manage(added.length === 0 ? { groups: [name] } : 'everything');
  },
};

export const deleteGroup: Rule = {
  needs: PLAN,
  of: async (sent, { groups }) => manage({ groups: [(await groups.find(inPath(sent, 'id'))).name] }),
};

export const releaseFence: Rule = {
  needs: ['recovery.run'],
  of: async (sent, { fences }) => {
    const vm = inPath(sent, 'vm');
    const known = (await fences.list()).filter(({ vm_name: name, vm_uuid: uuid }) =>
      [name, uuid].includes(vm),
    );
    return ofVms('recovery.run', known);
  },
};

export const removeRetired: Rule = {
  needs: ['protection.manage'],
  of: async (sent, { retired }) => {
    const id = inPath(sent, 'id');
    return ofVms(
      'protection.manage',
      (await retired.list()).filter((copy) => copy.id === id),
    );
  },
};

function ofVms(permission: Permission, vms: readonly { vm_uuid: string }[]): Demand {
  return { permission, on: { vmUuids: vms.map((vm) => vm.vm_uuid) } };
}

/** By the groups before and after; what reaches beyond their VMs and was not there before is for everything. */
function changeOf(wanted: PlanDocument, known: PlanDocument | undefined): Demand {
  const before = new Set(known === undefined ? [] : beyond(known));
  if (beyond(wanted).some((one) => !before.has(one))) return manage('everything');
  return manage({ groups: [...new Set([...wanted.groups, ...(known?.groups ?? [])])] });
}

function beyond(plan: PlanDocument): string[] {
  const around = [plan, ...Object.values(plan.vms ?? {}), ...Object.values(plan.priorities ?? {})];
  const steps = around.flatMap(({ before, after }): PlanStep[] => [...(before ?? []), ...(after ?? [])]);
  const outside = steps.filter(({ kind }) => kind === 'command' || kind === 'http');
  return [
    ...outside.map((step) => JSON.stringify(step)),
    ...(plan.suspend ?? []).map((vm) => `suspend ${vm}`),
  ];
}

async function knownPlan({ plans }: Manager, name: string): Promise<PlanDocument | undefined> {
  try {
    return (await plans.find(name)).document;
  } catch (error) {
    if (failureIn(error)?.code !== 'not_found') throw error;
    return undefined;
  }
}
