/** The protections of a lost database: what agents were ordered, and what paired sites keep for them. Pure. */
import { DEFAULT_RETENTION } from '#/api/common.ts';
import type { PeerMemory } from '#/api/peer.ts';
import { DEFAULT_SCRATCH_BYTES } from '#/api/protections.ts';
import type { ProtectionOrder } from '#/control/orders.ts';
import type { ClaimRecord } from '#/manager/store/claim-store.ts';
import type { Protection } from '#/manager/store/protection-store.ts';
import type { Told } from './merge.ts';

type KeptReplica = PeerMemory['replicas'][number];
type Ordered = { hostId: string; order: ProtectionOrder };

export function mergeProtections(
  told: Told,
  claims: ReadonlyMap<string, ClaimRecord>,
  notes: string[],
): Protection[] {
  const ordered = new Map<string, Ordered>();
  for (const { id, kept } of told.agents) {
    for (const order of kept.orders?.protections ?? []) {
      const known = ordered.get(order.replica_id);
      if (known === undefined || order.epoch >= known.order.epoch) {
        ordered.set(order.replica_id, { hostId: id, order });
      }
    }
  }
  const rows = new Map<string, Protection>();
  const add = (row: Protection | undefined): void => {
    if (row === undefined) return;
    const key = `${row.vm_uuid} ${row.target_site_id}`;
    const known = rows.get(key);
    if (known === undefined || row.epoch > known.epoch) rows.set(key, superseded(row, claims, told.siteId));
  };
  for (const { siteId, memory } of told.peers) {
    for (const replica of memory.replicas) {
      add(kept(told, siteId, { replica, ordered: ordered.get(replica.replica_id) }));
    }
  }
  const answered = new Set(told.peers.map(({ siteId }) => siteId));
  for (const one of ordered.values()) {
    const { order } = one;
    if (!answered.has(order.server.site_id)) {
      add(alone(told, one));
      continue;
    }
    const isKept = [...rows.values()].some((row) => row.replica_id === order.replica_id);
    if (!isKept) notes.push(`VM ${order.vm_name}: the other site no longer keeps its replica`);
  }
  return [...rows.values()];
}

/** As the site says that keeps the replica. */
function kept(
  told: Told,
  siteId: string,
  known: { replica: KeptReplica; ordered: Ordered | undefined },
): Protection | undefined {
  const { replica, ordered } = known;
  const isRecovered = replica.state === 'recovered';
  if (replica.state !== 'active' && !isRecovered) return undefined;
  return {
    id: replica.protection_id,
    vm_uuid: replica.vm_uuid,
    vm_name: replica.vm_name,
    host_id: ordered?.hostId ?? hostOf(told, replica.vm_uuid),
    target_site_id: siteId,
    disks: ordered?.order.disks ?? replica.disks.map(({ key }) => key),
    rpo_ms: replica.rpo_ms,
    added_disks: ordered?.order.added_disks ?? 'report',
    retention: replica.retention,
    scratch_bytes: ordered?.order.scratch_bytes ?? DEFAULT_SCRATCH_BYTES,
    state: isRecovered ? 'superseded' : 'active',
    replica_id: replica.replica_id,
    epoch: replica.epoch,
    server: replica.server ?? ordered?.order.server ?? null,
    delete_replica: 0,
    from_old_copy: 0,
    revision: 1,
    told_revision: 1,
    created_ms: replica.created_ms,
  };
}

/** As the agent was ordered: the other site is silent, and has the last word when it is back. */
function alone(told: Told, { hostId, order }: Ordered): Protection {
  return {
    id: order.kept?.protection_id ?? `protection-of-${order.replica_id}`.slice(0, 64),
    vm_uuid: order.vm_uuid,
    vm_name: order.vm_name,
    host_id: hostId,
    target_site_id: order.server.site_id,
    disks: order.disks,
    rpo_ms: order.rpo_ms,
    added_disks: order.added_disks,
    retention: order.kept?.retention ?? DEFAULT_RETENTION,
    scratch_bytes: order.scratch_bytes,
    state: 'active',
    replica_id: order.replica_id,
    epoch: order.epoch,
    server: order.server,
    delete_replica: 0,
    from_old_copy: 0,
    revision: 1,
    told_revision: 1,
    created_ms: order.kept?.created_ms ?? told.nowMs,
  };
}

/** Another site runs the VM by a higher epoch: the copy here is not replicated. */
function superseded(row: Protection, claims: ReadonlyMap<string, ClaimRecord>, siteId: string): Protection {
  const claim = claims.get(row.vm_uuid);
  const isOthers = claim !== undefined && claim.site_id !== siteId && claim.is_withdrawn === 0;
  return isOthers && claim.epoch > row.epoch ? { ...row, state: 'superseded' } : row;
}

function hostOf(told: Told, vmUuid: string): string {
  const host = told.agents.find(({ vmUuids }) => vmUuids.includes(vmUuid)) ?? told.agents[0];
  return host?.id ?? 'host-unknown';
}
