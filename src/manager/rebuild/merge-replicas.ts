/**
 * The replicas of a lost database: what replication servers keep and show, and what the sites say that protect them.
 * Pure.
 */
import type { PeerMemory } from '#/api/peer.ts';
import type { ReplicaOrder } from '#/control/orders.ts';
import type { ReplicaReport } from '#/control/reports.ts';
import type { ClaimRecord } from '#/manager/store/claim-store.ts';
import type { ReplicaRecord } from '#/manager/store/replica-store.ts';
import type { ServerTold, Told } from './merge.ts';

/** Of a replica whose order nobody knows any more: nothing of it is thinned out. */
const KEEP_ALL = { keep_all_ms: Number.MAX_SAFE_INTEGER, tiers: [] };
/** Only a word for people then: no protection asks for it. */
const UNKNOWN_RPO_MS = 900_000;

type PeerProtection = PeerMemory['protections'][number];
type Draft = {
  id: string;
  serverId: string;
  order?: ReplicaOrder;
  report?: ReplicaReport;
  peer?: { siteId: string; protection: PeerProtection };
};
/** What one source says of a replica. */
type Word = Partial<ReplicaRecord>;

export function mergeReplicas(
  told: Told,
  claims: ReadonlyMap<string, ClaimRecord>,
  notes: string[],
): ReplicaRecord[] {
  const answered = new Set(told.peers.map(({ siteId }) => siteId));
  const rows = drafts(told).flatMap((draft) => {
    const row = replicaOf(draft, told, claims);
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
  for (const server of told.servers) addServer(byId, server);
  for (const { siteId, memory } of told.peers) {
    for (const protection of memory.protections) addPeer(byId, { siteId, protection });
  }
  return [...byId.values()];
}

function addServer(byId: Map<string, Draft>, { id: serverId, kept, replicas }: ServerTold): void {
  const reports = new Map(replicas.map((report) => [report.replica_id, report]));
  // The server's own orders are newer than what stands beside the replicas.
  for (const order of [...kept.replicas, ...(kept.orders?.replicas ?? [])]) {
    const report = reports.get(order.replica_id);
    const draft: Draft = { id: order.replica_id, serverId, order };
    byId.set(order.replica_id, report === undefined ? draft : { ...draft, report });
  }
  for (const report of replicas) {
    const known = byId.get(report.replica_id);
    if (known?.report !== undefined) continue;
    byId.set(report.replica_id, { ...known, id: report.replica_id, serverId, report });
  }
}

function addPeer(byId: Map<string, Draft>, peer: NonNullable<Draft['peer']>): void {
  const { replica_id: id, server } = peer.protection;
  if (id === null) return;
  const known = byId.get(id);
  // A site speaks for its own VMs alone.
  const sourceId = known?.order?.source_site_id ?? known?.report?.source_site_id ?? peer.siteId;
  const serverId = known?.serverId ?? server?.server_id;
  if (sourceId === peer.siteId && serverId !== undefined) byId.set(id, { ...known, id, serverId, peer });
}

/** Later words count more; of epochs, the highest. */
function replicaOf(
  draft: Draft,
  told: Told,
  claims: ReadonlyMap<string, ClaimRecord>,
): ReplicaRecord | undefined {
  const { id, order, peer, report } = draft;
  const asked = peer === undefined ? {} : ofPeer(peer.siteId, peer.protection);
  // Taken up again since the order was given.
  const isTakenUp = order?.kept?.state === 'kept' && asked.state === 'active';
  const words: Word[] = [
    report === undefined ? {} : ofReport(report),
    asked,
    order === undefined ? {} : ofOrder(order),
    isTakenUp ? asked : {},
  ];
  const known: Word = Object.assign({}, ...words);
  const { source_site_id: sourceSiteId, vm_uuid: vmUuid } = known;
  if (sourceSiteId === undefined || vmUuid === undefined) return undefined;
  const row: ReplicaRecord = {
    id,
    server_id: draft.serverId,
    vm_name: id,
    protection_id: `protection-of-${id}`.slice(0, 64),
    disks: [],
    rpo_ms: UNKNOWN_RPO_MS,
    retention: KEEP_ALL,
    created_ms: told.nowMs,
    state: 'kept',
    seed_sequence: null,
    seed_note: null,
    revision: 1,
    bookmarks: [],
    ...known,
    source_site_id: sourceSiteId,
    vm_uuid: vmUuid,
    epoch: Math.max(1, ...words.map(({ epoch = 1 }) => epoch)),
  };
  // A VM that this site runs, by its own word, was recovered from the replica.
  const isRecovered = order?.kept === undefined && isOurs(claims.get(vmUuid), told.siteId, row.epoch);
  return isRecovered ? { ...row, state: 'recovered' } : row;
}

function isOurs(claim: ClaimRecord | undefined, siteId: string, epoch: number): boolean {
  return claim?.site_id === siteId && claim.is_withdrawn === 0 && claim.epoch >= epoch;
}

function ofReport(report: ReplicaReport): Word {
  const { epoch, points, source_site_id: sourceSiteId, vm_name, vm_uuid } = report;
  const [oldest] = points;
  return {
    vm_uuid,
    vm_name,
    epoch,
    ...(sourceSiteId === undefined ? {} : { source_site_id: sourceSiteId }),
    ...(oldest === undefined ? {} : { created_ms: oldest.moment_ms }),
  };
}

function ofOrder(order: ReplicaOrder): Word {
  const { bookmarks = [], epoch, kept, retention, source_site_id, vm_name, vm_uuid } = order;
  return { vm_uuid, vm_name, source_site_id, epoch, retention, bookmarks, ...kept };
}

function ofPeer(siteId: string, protection: PeerProtection): Word {
  const { created_ms, epoch, protection_id, retention, rpo_ms, state, vm_name, vm_uuid } = protection;
  return {
    source_site_id: siteId,
    vm_uuid,
    vm_name,
    protection_id,
    rpo_ms,
    retention,
    epoch,
    created_ms,
    // Whether the VM was recovered here is this site's own to say.
    ...(['active', 'requested'].includes(state) ? { state: 'active' as const } : {}),
  };
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
