/** Rows and reports as the API shows them. */
import type { Page, PageQuery } from '#/api/common.ts';
import { PAGE_MAX } from '#/api/common.ts';
import type { FenceView } from '#/api/fences.ts';
import type { Host, ReplicationServer, Site, Vm } from '#/api/inventory.ts';
import type { ProtectionView } from '#/api/protections.ts';
import type { ReplicaView } from '#/api/replicas.ts';
import { scopeOf, type Scope } from '#/manager/access/scope.ts';
import type { AgentMember, Member, ServerMember } from '#/manager/inventory.ts';
import type { Manager } from '#/manager/manager.ts';
import { problemOf } from '#/manager/problem.ts';
import type { Protection } from '#/manager/store/protection-store.ts';
import { bookmarkViews } from '#/manager/bookmarks.ts';
import type { ReplicaRecord } from '#/manager/store/replica-store.ts';
import type { Caller } from './route.ts';

export function page<Item>(items: readonly Item[], query: PageQuery): Page<Item> {
  const offset = query.offset ?? 0;
  return { items: items.slice(offset, offset + (query.limit ?? PAGE_MAX)), total: items.length };
}

/** What a caller may see of plans, groups, runs and fences. */
export async function scopeFor(caller: Caller, manager: Manager): Promise<Scope> {
  const grants = caller.role === 'person' ? caller.grants : [];
  return scopeOf(grants, 'site.view', manager);
}

export async function sites({ context, peers, port }: Manager): Promise<Site[]> {
  const { config, identity } = context;
  const self = {
    id: identity.siteId,
    name: config.siteName,
    is_self: true,
    address: `${config.advertisedHost}:${port}`,
    is_reachable: true,
    contact_ms: null,
    failure: null,
  };
  const others = (await peers.list()).map((peer) => {
    const contact = peers.contact(peer.site_id);
    return {
      id: peer.site_id,
      name: peer.site_name,
      is_self: false,
      address: `${peer.host}:${peer.port}`,
      is_reachable: contact?.isReachable ?? null,
      contact_ms: contact?.atMs ?? null,
      failure: contact?.failure === undefined ? null : problemOf(contact.failure),
    };
  });
  return [self, ...others];
}

function memberView(manager: Manager, member: Member<unknown>) {
  return {
    id: member.id,
    name: member.name,
    joined_ms: member.joinedMs,
    certificate_expires_ms: member.certificateExpiresMs,
    report_ms: member.reportMs ?? null,
    is_alive: manager.context.inventory.isFresh(member),
  };
}

const NO_HOST = {
  hostname: null,
  libvirt_version: null,
  libvirt_failure: null,
  memory_bytes: null,
  cpu_count: null,
  networks: [],
  storage_path: null,
  storage_free_bytes: null,
  start_hook: null,
};

export function hostView(manager: Manager, agent: AgentMember): Host {
  const { report } = agent;
  return {
    ...memberView(manager, agent),
    ...NO_HOST,
    ...report?.host,
    vm_count: report?.vms.length ?? 0,
  };
}

export function serverView(manager: Manager, server: ServerMember): ReplicationServer {
  const { report } = server;
  return {
    ...memberView(manager, server),
    endpoint: report === undefined ? null : `${report.endpoint.host}:${report.endpoint.port}`,
    store_path: report?.store_path ?? null,
    store_free_bytes: report?.store_free_bytes ?? null,
    replica_count: report?.replicas.length ?? 0,
  };
}

export async function vms(manager: Manager): Promise<Vm[]> {
  const { inventory } = manager.context;
  const names = new Map((await manager.peers.list()).map((peer) => [peer.site_id, peer.site_name]));
  const protections = Map.groupBy(await manager.protections.list(), (known) => known.vm_uuid);
  const fences = new Map((await manager.fences.list()).map((fence) => [fence.vm_uuid, fence]));
  const copyOf = (vmUuid: string, hostId: string): FenceView['copies'][number] | undefined =>
    fences.get(vmUuid)?.copies.find((copy) => copy.host_id === hostId);
  return inventory
    .vms()
    .map(({ agent, vm }) => ({
      uuid: vm.uuid,
      name: vm.name,
      host_id: agent.id,
      host_name: agent.name,
      state: inventory.isFresh(agent) ? (copyOf(vm.uuid, agent.id)?.vm_state ?? vm.state) : 'unknown',
      memory_bytes: vm.memory_bytes,
      vcpu_count: vm.vcpu_count,
      networks: vm.networks,
      disks: vm.disks.map(({ key, bytes, format, path, refusal }) => ({ key, bytes, format, path, refusal })),
      refusals: vm.refusals,
      fence: fenceOf(fences.get(vm.uuid), copyOf(vm.uuid, agent.id)),
      protected_to: (protections.get(vm.uuid) ?? [])
        .filter((known) => known.state === 'active')
        .map((known) => names.get(known.target_site_id) ?? known.target_site_id),
      recovery_id: vm.recovered_by_task?.replace(/-recover$/, '') ?? null,
    }))
    .toSorted((a, b) => a.name.localeCompare(b.name));
}

function fenceOf(fence: FenceView | undefined, copy: FenceView['copies'][number] | undefined): Vm['fence'] {
  if (fence === undefined || copy === undefined) return null;
  const { state, yielded_ms } = copy;
  return { epoch: fence.epoch, site_name: fence.site_name, state, yielded_ms };
}

export async function protectionView(manager: Manager, protection: Protection): Promise<ProtectionView> {
  const { server: _, delete_replica: __, target_site_id: siteId, ...rest } = protection;
  const peer = (await manager.peers.list()).find((known) => known.site_id === siteId);
  const failure = manager.protections.failureOf(protection.id);
  return {
    ...rest,
    site_id: siteId,
    site_name: peer?.site_name ?? siteId,
    failure: failure === undefined ? null : problemOf(failure),
  };
}

export async function replicaView(manager: Manager, replica: ReplicaRecord): Promise<ReplicaView> {
  const { protection_id: _, ...rest } = replica;
  const { server, report } = manager.context.inventory.replicaReport(replica.server_id, replica.id);
  const peer = (await manager.peers.list()).find((known) => known.site_id === replica.source_site_id);
  return {
    ...rest,
    disks: replica.disks.map(({ key, bytes }) => ({ key, bytes })),
    bookmarks: bookmarkViews(manager.context, replica),
    source_site_name: peer?.site_name ?? replica.source_site_id,
    condition: report?.state ?? null,
    point_count: report?.point_count ?? 0,
    stored_bytes: report?.stored_bytes ?? 0,
    report_ms: server?.reportMs ?? null,
    failure: report?.failure ?? null,
  };
}
