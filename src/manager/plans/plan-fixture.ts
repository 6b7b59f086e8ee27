/** For tests: a site that keeps replicas of web, app, db and cache of site west, and what is written about them. */
import { DEFAULT_RETENTION } from '#/api/common.ts';
import type { VmFacts } from '#/api/peer.ts';
import type { GroupDocument, PlanDocument } from '#/api/plans.ts';
import type { ReplicaRecord } from '#/manager/store/replica-store.ts';
import type { PlanFacts } from './plan-facts.ts';

export const WEST = { site_id: 'site-west', site_name: 'west' };
const NAMES = ['web', 'app', 'db', 'cache'] as const;

export function uuidOf(name: string): string {
  return `00000000-0000-4000-8000-${Buffer.from(name.padEnd(6, '.')).toString('hex').slice(0, 12)}`;
}

export function replicaOf(name: string): ReplicaRecord {
  return {
    id: `replica-${name}`,
    protection_id: `protection-${name}`,
    vm_uuid: uuidOf(name),
    vm_name: name,
    source_site_id: WEST.site_id,
    server_id: 'server-1',
    disks: [],
    rpo_ms: 5000,
    retention: DEFAULT_RETENTION,
    epoch: 1,
    state: 'active',
    created_ms: 1,
    seed_sequence: null,
    seed_note: null,
    revision: 1,
    bookmarks: [],
  };
}

export function vmFacts(change: Partial<VmFacts> = {}): VmFacts {
  return {
    host_name: 'west-host',
    memory_bytes: 1024 ** 3,
    vcpu_count: 1,
    networks: ['lan'],
    disk_directories: ['/var/lib/libvirt/images'],
    interfaces: [{ mac: '52:54:00:00:00:01', network: 'lan', addresses: [] }],
    ...change,
  };
}

/** Group `shop` has web, app and db; nobody has cache. */
export function planFacts(change: Partial<PlanFacts> = {}): PlanFacts {
  return {
    sites: [WEST],
    groups: [groupOf('shop', ['web', 'app', 'db'])],
    replicas: NAMES.map(replicaOf),
    mappings: [],
    vms: new Map(NAMES.map((name) => [`replica-${name}`, vmFacts()])),
    here: {
      networks: ['default', 'lan', 'lan-b'],
      hosts: ['host-1', 'east-host'],
      vms: [uuidOf('build'), 'build'],
    },
    ...change,
  };
}

export function groupOf(name: string, vms: string[]): PlanFacts['groups'][number] {
  const document: GroupDocument = { name, site: 'west', vms };
  return { id: `group-${name}`, name, document, created_ms: 1, updated_ms: 1 };
}

export function planOf(document: Partial<PlanDocument> = {}) {
  const whole: PlanDocument = { name: 'all', groups: ['shop'], ...document };
  return { id: 'plan-1', name: whole.name, revision: 3, document: whole, created_ms: 1, updated_ms: 1 };
}
