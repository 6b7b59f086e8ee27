/** Recovery plans of this site, with the groups and mappings that they stand on. */
import { Failure } from '#/lib/failure.ts';
import type { Context } from '#/manager/context.ts';
import type { Database } from '#/manager/store/database.ts';
import { listGroups, type GroupRecord } from '#/manager/store/group-store.ts';
import { listMappings, type MappingRecord } from '#/manager/store/mapping-store.ts';
import { listPeers } from '#/manager/store/peer-store.ts';
import { listPlans, type PlanRecord } from '#/manager/store/plan-store.ts';
import { listReplicas } from '#/manager/store/replica-store.ts';
import { listVmFacts } from '#/manager/store/vm-facts-store.ts';
import type { PlanFacts } from './plan-facts.ts';
import { resolvePlan, type ResolvedPlan } from './resolved-plan.ts';

export class Plans {
  readonly #context: Context;

  constructor(context: Context) {
    this.#context = context;
  }

  list(): Promise<PlanRecord[]> {
    return listPlans(this.#context.db);
  }

  /** Throws not_found. */
  async find(nameOrId: string, at: Database = this.#context.db): Promise<PlanRecord> {
    const found = (await listPlans(at)).find(({ id, name }) => id === nameOrId || name === nameOrId);
    if (found !== undefined) return found;
    throw new Failure('not_found', `this site has no recovery plan "${nameOrId}"`, {
      hint: 'List them with: antipode plan list. The command belongs at the recovery site.',
    });
  }

  listGroups(): Promise<GroupRecord[]> {
    return listGroups(this.#context.db);
  }

  async mappingsOf(peerSiteId: string): Promise<MappingRecord[]> {
    return (await listMappings(this.#context.db)).filter(({ peer_site_id: id }) => id === peerSiteId);
  }

  /** What plans are resolved against, as it is now. */
  async facts(at: Database = this.#context.db): Promise<PlanFacts> {
    const { inventory } = this.#context;
    const agents = inventory.agents();
    return {
      sites: await listPeers(at),
      groups: await listGroups(at),
      replicas: await listReplicas(at),
      mappings: await listMappings(at),
      vms: await listVmFacts(at),
      here: {
        networks: [...new Set(agents.flatMap(({ report }) => report?.host.networks ?? []))],
        hosts: agents.flatMap(({ id, name }) => [id, name]),
        vms: inventory.vms().flatMap(({ vm }) => [vm.uuid, vm.name]),
      },
    };
  }

  /** Throws what keeps the plan from being run. */
  async resolve(plan: PlanRecord, at: Database = this.#context.db): Promise<ResolvedPlan> {
    return resolvePlan(plan, await this.facts(at));
  }
}
