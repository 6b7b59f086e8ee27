/**
 * What a lost database held, put together from what programs keep on disk and what paired sites say. Pure.
 *
 * Invariants: of an epoch that several tell, the highest counts; a claim of this site that was taken back is told to
 * nobody again; a protection is only taken up when the site that keeps its replica, if it answered, still does.
 */
import type { PeerMemory } from '#/api/peer.ts';
import type { KeptByAgent, KeptByServer } from '#/control/kept-orders.ts';
import type { ReplicaOrder } from '#/control/orders.ts';
import type { ReplicaReport } from '#/control/reports.ts';
import { supersedes, type EpochClaim } from '#/lib/epoch-claim.ts';
import type { ClaimRecord } from '#/manager/store/claim-store.ts';
import type { Protection } from '#/manager/store/protection-store.ts';
import type { ReplicaRecord } from '#/manager/store/replica-store.ts';
import { mergeProtections } from './merge-protections.ts';

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

/** Of a replica whose order nobody knows any more: nothing of it is thinned out. */
const KEEP_ALL = { keep_all_ms: Number.MAX_SAFE_INTEGER, tiers: [] };
/** Only a word for people then: no protection asks for it. */
const UNKNOWN_RPO_MS = 900_000;

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

type Draft = {
  id: string;
  serverId: string;
  order?: ReplicaOrder;
  report?: ReplicaReport;
  peer?: { siteId: string; protection: PeerMemory['protections'][number] };
};

function mergeReplicas(
  told: Told,
  claims: ReadonlyMap<string, ClaimRecord>,
  notes: string[],
): ReplicaRecord[] {
  const answered = new Set(told.peers.map(({ siteId }) => siteId));
  const rows = drafts(told).flatMap((draft) => {
    const row = replicaOf(draft, told, claims.get(vmOf(draft)));
    if (row === undefined) {
      notes.push(`replica ${draft.id}: nobody knows which site it came from; its directory stays as it is`);
      return [];
    }
    if (draft.order?.kept === undefined && draft.peer === undefined) {
      notes.push(
        `replica ${row.id} of ${row.vm_name}: nobody knows how it was protected; all points are kept`,
      );
    }
    if (draft.report === undefined) {
      notes.push(
        `replica ${row.id} of ${row.vm_name}: its replication server ${row.server_id} has not shown it`,
      );
    }
    // A protection that the other site has let go of while nobody here could be told.
    if (row.state === 'active' && draft.peer === undefined && answered.has(row.source_site_id)) {
      notes.push(`replica ${row.id} of ${row.vm_name}: no longer protected there; its points are kept`);
      return [{ ...row, state: 'kept' as const }];
    }
    return [row];
  });
  return unique(rows, told, notes);
}

function drafts(told: Told): Draft[] {
  const byId = new Map<string, Draft>();
  for (const { id: serverId, kept, replicas } of told.servers) {
    const reports = new Map(replicas.map((report) => [report.replica_id, report]));
    // The server's own orders are newer than what stands beside the replicas.
    for (const order of [...kept.replicas, ...(kept.orders?.replicas ?? [])]) {
      const report = reports.get(order.replica_id);
      const draft: Draft = { id: order.replica_id, serverId, order };
      byId.set(order.replica_id, report === undefined ? draft : { ...draft, report });
    }
    for (const report of replicas) {
      const known = byId.get(report.replica_id);
      if (known?.report === undefined) {
        byId.set(report.replica_id, { ...known, id: report.replica_id, serverId, report });
      }
    }
  }
  for (const { siteId, memory } of told.peers) {
    for (const protection of memory.protections) {
      const { replica_id: id, server } = protection;
      if (id === null) continue;
      const known = byId.get(id);
      // A site speaks for its own VMs alone.
      const sourceId = known?.order?.source_site_id ?? known?.report?.source_site_id ?? siteId;
      if (sourceId !== siteId) continue;
      const serverId = known?.serverId ?? server?.server_id;
      if (serverId !== undefined) byId.set(id, { ...known, id, serverId, peer: { siteId, protection } });
    }
  }
  return [...byId.values()];
}

function vmOf({ order, report, peer }: Draft): string {
  return order?.vm_uuid ?? report?.vm_uuid ?? peer?.protection.vm_uuid ?? '';
}

function replicaOf(draft: Draft, told: Told, claim: ClaimRecord | undefined): ReplicaRecord | undefined {
  const { order, report, peer } = draft;
  const sourceSiteId = order?.source_site_id ?? peer?.siteId ?? report?.source_site_id;
  if (sourceSiteId === undefined) return undefined;
  const known = order?.kept;
  const asked = peer?.protection;
  const epoch = Math.max(1, order?.epoch ?? 1, report?.epoch ?? 1, asked?.epoch ?? 1);
  return {
    id: draft.id,
    server_id: draft.serverId,
    vm_uuid: vmOf(draft),
    vm_name: order?.vm_name ?? report?.vm_name ?? asked?.vm_name ?? draft.id,
    source_site_id: sourceSiteId,
    protection_id: asked?.protection_id ?? known?.protection_id ?? `protection-of-${draft.id}`.slice(0, 64),
    disks: known?.disks ?? [],
    rpo_ms: asked?.rpo_ms ?? known?.rpo_ms ?? UNKNOWN_RPO_MS,
    retention: asked?.retention ?? order?.retention ?? KEEP_ALL,
    epoch,
    state: stateOf(draft, claim, { siteId: told.siteId, epoch }),
    created_ms: known?.created_ms ?? asked?.created_ms ?? report?.points[0]?.moment_ms ?? told.nowMs,
  };
}

/** A VM that this site runs, by its own word, was recovered from the replica. */
function stateOf(
  { order, peer }: Draft,
  claim: ClaimRecord | undefined,
  of: { siteId: string; epoch: number },
): ReplicaRecord['state'] {
  if (order?.kept !== undefined) return order.kept.state;
  const isOurs = claim?.site_id === of.siteId && claim.is_withdrawn === 0 && claim.epoch >= of.epoch;
  if (isOurs) return 'recovered';
  return peer !== undefined && ['active', 'requested'].includes(peer.protection.state) ? 'active' : 'kept';
}

/** One replica of a VM from a site, and one of a protection: the one that is ahead. */
function unique(rows: readonly ReplicaRecord[], told: Told, notes: string[]): ReplicaRecord[] {
  const heads = new Map(
    told.servers.flatMap(({ replicas }) =>
      replicas.map((report) => [report.replica_id, report.points.at(-1)?.moment_ms ?? 0]),
    ),
  );
  const ahead = rows.toSorted(
    (a, b) =>
      b.epoch - a.epoch || (heads.get(b.id) ?? 0) - (heads.get(a.id) ?? 0) || a.id.localeCompare(b.id),
  );
  const taken = new Set<string>();
  return ahead.filter((row) => {
    const keys = [`vm ${row.vm_uuid} ${row.source_site_id}`, `protection ${row.protection_id}`];
    if (keys.some((key) => taken.has(key))) {
      notes.push(
        `replica ${row.id} of ${row.vm_name}: another one of the same VM is ahead; it stays on disk`,
      );
      return false;
    }
    for (const key of keys) taken.add(key);
    return true;
  });
}
