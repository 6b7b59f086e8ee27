/** Reads what plans are resolved against, as it is now, or as it is inside a transaction. */
import type { Context } from '#/manager/context.ts';
import type { Database } from '#/manager/store/database.ts';
import { listGroups } from '#/manager/store/group-store.ts';
import { listMappings } from '#/manager/store/mapping-store.ts';
import { listPeers } from '#/manager/store/peer-store.ts';
import { listReplicas } from '#/manager/store/replica-store.ts';
import { listVmFacts } from '#/manager/store/vm-facts-store.ts';
import type { PlanFacts } from './plan-facts.ts';

export async function readFacts({ inventory }: Context, at: Database): Promise<PlanFacts> {
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
