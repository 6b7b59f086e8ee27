/**
 * What a role on protection groups reaches: their VMs, and the plans and runs all of whose VMs are theirs.
 *
 * Invariant: of a plan or run with one VM more than the groups have, nothing is covered.
 */
import type { Grant, Permission } from '#/api/access.ts';
import type { Manager } from '#/manager/manager.ts';
import { Findings } from '#/manager/plans/findings.ts';
import { replicasOf } from '#/manager/plans/plan-members.ts';
import type { Demand } from './rule.ts';
import { groupsWith, holds } from './grants.ts';

export class Scope {
  /** The permission is held on everything. */
  readonly isAll: boolean;
  readonly #groups: ReadonlySet<string>;
  readonly #vmUuids: ReadonlySet<string>;

  constructor(isAll: boolean, groups: ReadonlySet<string>, vmUuids: ReadonlySet<string>) {
    this.isAll = isAll;
    this.#groups = groups;
    this.#vmUuids = vmUuids;
  }

  /** Nothing at all is in no group. */
  covers(on: Demand['on']): boolean {
    if (this.isAll) return true;
    if (on === 'everything') return false;
    const [asked, had] = 'groups' in on ? [on.groups, this.#groups] : [on.vmUuids, this.#vmUuids];
    return asked.length > 0 && asked.every((one) => had.has(one));
  }

  coversGroups(groups: readonly string[]): boolean {
    return this.covers({ groups });
  }

  coversVms(vmUuids: readonly string[]): boolean {
    return this.covers({ vmUuids });
  }
}

export async function scopeOf(
  grants: readonly Grant[],
  permission: Permission,
  { plans }: Pick<Manager, 'plans'>,
): Promise<Scope> {
  if (holds(grants, permission)) return new Scope(true, new Set(), new Set());
  const ids = groupsWith(grants, permission);
  const facts = await plans.facts();
  const groups = facts.groups.filter(({ id }) => ids.includes(id));
  const findings = new Findings();
  const vmUuids = groups.flatMap(({ document }) =>
    replicasOf(document, facts, findings, () => []).map((replica) => replica.vm_uuid),
  );
  return new Scope(false, new Set(groups.map(({ name }) => name)), new Set(vmUuids));
}
