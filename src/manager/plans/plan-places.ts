/** Where a plan's VMs come up: networks, host and storage, from its own settings and the site's mappings. Pure. */
import type { MappingRecord } from '#/manager/store/mapping-store.ts';
import type { Findings } from './findings.ts';
import type { PlanFacts } from './plan-facts.ts';
import type { Member } from './plan-members.ts';

/** `networks` is from the protected site's to this one's. Null leaves the choice to the recovery. */
export type Whereabouts = {
  networks: Record<string, string>;
  host: string | null;
  storagePath: string | null;
};

export function whereaboutsOf(member: Member, facts: PlanFacts, findings: Findings): Whereabouts {
  const { replica, settings } = member;
  const mappings = facts.mappings.filter(({ peer_site_id: id }) => id === replica.source_site_id);
  const vm = facts.vms.get(replica.id);
  const hostThere = vm?.host_name;
  const mappedHost = mappings.find(({ kind, there }) => kind === 'host' && there === hostThere)?.here;
  const host = settings.host ?? mappedHost ?? null;
  if (host !== null && !facts.here.hosts.includes(host)) {
    findings.add('blocks_runs', {
      code: 'not_found',
      message: `VM ${replica.vm_name} is to come up on host ${host}, which this site has not`,
      hint: 'List the hosts with: antipode hosts',
      at: settings.host === undefined ? ['plan'] : ['plan', 'vms', member.key, 'host'],
    });
  }
  return {
    networks: networksOf(member, { facts, mappings, findings }),
    host,
    storagePath: settings.storage_path ?? mappedDirectory(vm?.disk_directories[0], mappings),
  };
}

function networksOf(
  { key, replica, settings }: Member,
  known: { facts: PlanFacts; mappings: readonly MappingRecord[]; findings: Findings },
): Record<string, string> {
  const { facts, findings, mappings } = known;
  const own = settings.networks ?? {};
  const used = facts.vms.get(replica.id)?.networks ?? [];
  const networks = new Map<string, string>();
  for (const there of new Set([...used, ...Object.keys(own)])) {
    const isOwn = Object.hasOwn(own, there);
    const mapped = mappings.find((mapping) => mapping.kind === 'network' && mapping.there === there)?.here;
    const here = isOwn ? own[there] : (mapped ?? facts.here.networks.find((name) => name === there));
    const at = isOwn ? ['plan', 'vms', key, 'networks', there] : ['plan'];
    if (here === undefined) {
      findings.add('blocks_runs', {
        code: 'conflict',
        message: `network ${there} of VM ${replica.vm_name} is mapped to none of this site`,
        hint: `Map it: antipode mapping add network ${there} NETWORK --of SITE. Or name one in the plan.`,
        at,
      });
      continue;
    }
    networks.set(there, here);
    if (facts.here.networks.includes(here)) continue;
    findings.add('blocks_runs', {
      code: 'not_found',
      message: `network ${there} of VM ${replica.vm_name} becomes ${here}, which no host of this site has`,
      hint: `Define ${here} on the hosts here, or map ${there} to another.`,
      at,
    });
  }
  return Object.fromEntries(networks);
}

/** The mapping of the innermost directory that holds it. */
function mappedDirectory(path: string | undefined, mappings: readonly MappingRecord[]): string | null {
  if (path === undefined) return null;
  const found = mappings
    .filter(({ kind, there }) => kind === 'storage' && (path === there || path.startsWith(slashed(there))))
    .toSorted((a, b) => b.there.length - a.there.length)[0];
  return found?.here ?? null;
}

function slashed(directory: string): string {
  return directory.endsWith('/') ? directory : `${directory}/`;
}
