/** What a plan is resolved against: everything is at this site, so that the other one may be gone. */
import type { VmFacts } from '#/api/peer.ts';
import type { GroupRecord } from '#/manager/store/group-store.ts';
import type { MappingRecord } from '#/manager/store/mapping-store.ts';
import type { ReplicaRecord } from '#/manager/store/replica-store.ts';

export type PlanFacts = {
  sites: readonly { site_id: string; site_name: string }[];
  groups: readonly GroupRecord[];
  replicas: readonly ReplicaRecord[];
  mappings: readonly MappingRecord[];
  /** What the protected sites told, by the replica's id. */
  vms: ReadonlyMap<string, VmFacts>;
  /** Of this site, as its hosts last reported. */
  here: { networks: readonly string[]; hosts: readonly string[]; vms: readonly string[] };
};

export function siteIdOf({ sites }: Pick<PlanFacts, 'sites'>, nameOrId: string): string | undefined {
  return sites.find((site) => site.site_id === nameOrId || site.site_name === nameOrId)?.site_id;
}

export function siteNameOf({ sites }: Pick<PlanFacts, 'sites'>, id: string): string {
  return sites.find((site) => site.site_id === id)?.site_name ?? id;
}
