/**
 * What a lost database held, put together from what programs keep on disk and what paired sites say. Pure.
 *
 * Invariants: of an epoch that several tell, the highest counts; a claim of this site that was taken back is told to
 * nobody again; a protection is only taken up when the site that keeps its replica, if it answered, still does.
 */
import type { PeerMemory } from '#/api/peer.ts';
import type { KeptByAgent, KeptByServer } from '#/control/kept-orders.ts';
import type { ReplicaReport } from '#/control/reports.ts';
import { supersedes, type EpochClaim } from '#/lib/epoch-claim.ts';
import type { ClaimRecord } from '#/manager/store/claim-store.ts';
import type { Protection } from '#/manager/store/protection-store.ts';
import type { ReplicaRecord } from '#/manager/store/replica-store.ts';
import { mergeProtections } from './merge-protections.ts';
import { mergeReplicas } from './merge-replicas.ts';

export type AgentTold = { id: string; kept: KeptByAgent; vmUuids: readonly string[] };
export type ServerTold = { id: string; kept: KeptByServer; replicas: readonly ReplicaReport[] };
export type PeerTold = { siteId: string; memory: PeerMemory };
export type Told = {
  siteId: string;
  nowMs: number;
  agents: readonly AgentTold[];
  servers: readonly ServerTold[];
  peers: readonly PeerTold[];
  /** Whether the claim is signed by the authority of its site. */
  isSigned: (claim: EpochClaim) => boolean;
};
export type Merged = {
  replicas: ReplicaRecord[];
  protections: Protection[];
  claims: ClaimRecord[];
  /** What is not as it was, or cannot be known, for people. */
  notes: string[];
};

export function merge(told: Told): Merged {
  const notes: string[] = [];
  const claims = mergeClaims(told);
  const replicas = mergeReplicas(told, claims, notes);
  const protections = mergeProtections(told, claims, notes);
  const related = (vmUuid: string): string[] => [
    ...replicas.filter((one) => one.vm_uuid === vmUuid).map((one) => one.source_site_id),
    ...protections.filter((one) => one.vm_uuid === vmUuid).map((one) => one.target_site_id),
  ];
  return {
    replicas,
    protections,
    claims: [...claims.values()].map((record) => ({
      ...withdrawn(record, replicas, told.siteId),
      related_site_ids: [...new Set([...record.related_site_ids, ...related(record.vm_uuid)])],
    })),
    notes,
  };
}

/** The newest claim of each VM. */
function mergeClaims(told: Told): Map<string, ClaimRecord> {
  const newest = new Map<string, ClaimRecord>();
  const take = (claim: EpochClaim, from: Partial<ClaimRecord> & { vm_name: string }): void => {
    if (!told.isSigned(claim)) return;
    const known = newest.get(claim.vm_uuid);
    const relatedIds = [...(known?.related_site_ids ?? []), ...(from.related_site_ids ?? [])];
    const related = { related_site_ids: [...new Set([...relatedIds, claim.site_id])] };
    if (known !== undefined && !supersedes(claim, known)) {
      // The same claim, told by the host whose copy it is about, or by somebody who knows that it still holds.
      const isSame = claim.signature === known.signature;
      const hostId = isSame ? (known.host_id ?? from.host_id ?? null) : known.host_id;
      const isWithdrawn = isSame ? Math.min(known.is_withdrawn, from.is_withdrawn ?? 0) : known.is_withdrawn;
      newest.set(claim.vm_uuid, { ...known, host_id: hostId, is_withdrawn: isWithdrawn, ...related });
      return;
    }
    newest.set(claim.vm_uuid, { host_id: null, is_withdrawn: 0, ...from, ...claim, ...related });
  };
  for (const { siteId, memory } of told.peers) {
    for (const { claim, vm_name } of memory.claims) take(claim, { vm_name, related_site_ids: [siteId] });
  }
  for (const { id, kept } of told.agents) {
    for (const { claim, vm_name, is_here: isHere } of kept.orders?.claims ?? []) {
      take(claim, { vm_name, host_id: isHere && claim.site_id === told.siteId ? id : null });
    }
    // A host keeps a record for ever, also of a claim that its site has taken back since.
    for (const { claim, vm_name } of kept.fences) {
      take(claim, { vm_name, is_withdrawn: claim.site_id === told.siteId ? 1 : 0 });
    }
  }
  return newest;
}

/** An own claim of a replica that is merely kept is of a recovery that was taken back. */
function withdrawn(record: ClaimRecord, replicas: readonly ReplicaRecord[], siteId: string): ClaimRecord {
  const replica = replicas.find((one) => one.vm_uuid === record.vm_uuid);
  const isTakenBack =
    record.site_id === siteId && replica?.state === 'kept' && replica.epoch === record.epoch;
  return isTakenBack ? { ...record, is_withdrawn: 1, host_id: null } : record;
}
