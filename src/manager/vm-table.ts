/**
 * Every VM of the site in one list, searched, sorted and cut by the manager: a page of it costs a browser the same with
 * ten VMs as with ten thousand.
 *
 * I7: what a host or server last said counts while it is fresh; after that a VM stands `unknown`, not as it stood.
 */
import { VM_STANDINGS, type StandingCounts, type VmRow, type VmTableQuery } from '#/api/vm-table.ts';
import type { Vm } from '#/api/inventory.ts';
import type { VmStatus } from '#/api/status.ts';
import type { Inventory } from './inventory.ts';
import { AGE_PEAKS } from './limits.ts';
import type { ReplicaRecord } from './store/replica-store.ts';

/** The change rate of a replica is that of its last points. */
const RATE_POINTS = 10;

export type VmTableParts = {
  vms: readonly Vm[];
  statuses: readonly VmStatus[];
  replicas: readonly ReplicaRecord[];
  inventory: Inventory;
  nowMs: number;
};

export function vmRows(parts: VmTableParts): VmRow[] {
  const replicas = new Map(parts.replicas.map((replica) => [replica.id, replica]));
  const statuses = Map.groupBy(parts.statuses, (status) => status.vm_uuid);
  const here = parts.vms.map((vm) => rowOfVm(parts, { vm, statuses: statuses.get(vm.uuid) ?? [] }, replicas));
  const isHere = new Set(parts.vms.map((vm) => vm.uuid));
  const elsewhere = [...statuses.values()]
    .filter(([first]) => !isHere.has(first!.vm_uuid))
    .map((all) => rowOfReplicas(parts, all, replicas));
  return [...here, ...elsewhere];
}

export function countStandings(rows: readonly VmRow[]): StandingCounts {
  const counts = { all: rows.length } as StandingCounts;
  for (const standing of VM_STANDINGS) counts[standing] = 0;
  for (const row of rows) counts[row.standing]++;
  return counts;
}

/** What matches, in the order asked for; equals are in the order of their names. */
export function selectRows(rows: readonly VmRow[], query: VmTableQuery): VmRow[] {
  const words = (query.search ?? '').trim().toLowerCase();
  const matching = rows.filter(
    (row) =>
      (query.standing === undefined || row.standing === query.standing) &&
      (words === '' ||
        row.vm_name.toLowerCase().includes(words) ||
        (row.host_name ?? '').toLowerCase().includes(words) ||
        row.vm_uuid.startsWith(words)),
  );
  const sign = query.order === 'descending' ? -1 : 1;
  const key = SORT_KEYS[query.sort ?? 'name'];
  const keyed = matching.map((row) => ({ row, key: key(row) }));
  return keyed
    .toSorted((a, b) => sign * compare(a.key, b.key) || byName(a.row.vm_name, b.row.vm_name))
    .map(({ row }) => row);
}

/** Age by RPO, of the worst protection; -1 while there is none whose age is known. */
export function pressureOf(row: VmRow): number {
  return Math.max(
    -1,
    ...row.statuses.map((one) => (one.rpo === 'none' || one.age_ms === null ? -1 : one.age_ms / one.rpo_ms)),
  );
}

const SORT_KEYS: Record<NonNullable<VmTableQuery['sort']>, (row: VmRow) => string | number> = {
  name: () => '',
  host: (row) => row.host_name ?? '',
  state: (row) => row.state,
  standing: (row) => VM_STANDINGS.indexOf(row.standing),
  age: (row) => Math.max(-1, ...row.statuses.map((one) => one.age_ms ?? -1)),
  pressure: pressureOf,
  bytes: (row) => row.bytes ?? -1,
  change: (row) => row.change_bytes_per_s ?? -1,
};

const collator = new Intl.Collator('en', { numeric: true });
const byName = (a: string, b: string): number => collator.compare(a, b);

function compare(a: string | number, b: string | number): number {
  return typeof a === 'number' && typeof b === 'number' ? a - b : byName(String(a), String(b));
}

function rowOfVm(
  parts: VmTableParts,
  { vm, statuses }: { vm: Vm; statuses: VmStatus[] },
  replicas: ReadonlyMap<string, ReplicaRecord>,
): VmRow {
  const fence = vm.fence === null ? [] : [`It runs at site ${vm.fence.site_name}; this copy must not run.`];
  return {
    vm_uuid: vm.uuid,
    vm_name: vm.name,
    host_id: vm.host_id,
    host_name: vm.host_name,
    state: vm.state,
    standing: standingOf(statuses, vm.refusals.length > 0 || vm.fence !== null),
    reasons: [...fence, ...vm.refusals],
    bytes: vm.disks.reduce((sum, disk) => sum + disk.bytes, 0),
    ...measured(parts, statuses, replicas),
    statuses,
    recovery_id: vm.recovery_id,
  };
}

function rowOfReplicas(
  parts: VmTableParts,
  statuses: VmStatus[],
  replicas: ReadonlyMap<string, ReplicaRecord>,
): VmRow {
  const [first] = statuses;
  const disks = replicas.get(first!.replica_id ?? '')?.disks;
  return {
    vm_uuid: first!.vm_uuid,
    vm_name: first!.vm_name,
    host_id: null,
    host_name: null,
    state: 'elsewhere',
    standing: standingOf(statuses, false),
    reasons: [],
    bytes: disks?.reduce((sum, disk) => sum + disk.bytes, 0) ?? null,
    ...measured(parts, statuses, replicas),
    statuses,
    recovery_id: null,
  };
}

function standingOf(statuses: readonly VmStatus[], isRefused: boolean): VmRow['standing'] {
  const all = statuses.map((one): VmRow['standing'] => (ENDED.has(one.state) ? 'kept' : one.rpo));
  const protectedNow = VM_STANDINGS.find((standing) => standing !== 'kept' && all.includes(standing));
  if (protectedNow !== undefined) return protectedNow;
  if (isRefused) return 'refused';
  return all.includes('kept') ? 'kept' : 'unprotected';
}

/** States of protections and replicas of which no age is promised any more. */
const ENDED = new Set(['superseded', 'removing', 'kept', 'recovered', 'deleting']);

type Measured = Pick<VmRow, 'stored_bytes' | 'change_bytes_per_s' | 'age_peaks_ms'>;

/** What is here of its replica tells more than what its host says of the last cycle. */
function measured(
  parts: VmTableParts,
  statuses: readonly VmStatus[],
  replicas: ReadonlyMap<string, ReplicaRecord>,
): Measured {
  const kept = statuses.find((status) => status.role === 'recovery' && replicas.has(status.replica_id ?? ''));
  if (kept !== undefined) return ofReplica(parts, replicas.get(kept.replica_id ?? '')!);
  return ofHost(
    parts,
    statuses.find((status) => status.role === 'protected'),
  );
}

function ofReplica({ inventory, nowMs }: VmTableParts, replica: ReplicaRecord): Measured {
  const { report } = inventory.replicaReport(replica.server_id, replica.id);
  const points = report?.points ?? [];
  return {
    stored_bytes: report?.stored_bytes ?? null,
    change_bytes_per_s: pointRate(points, nowMs),
    age_peaks_ms: agePeaks(points),
  };
}

function ofHost({ inventory, nowMs }: VmTableParts, status: VmStatus | undefined): Measured {
  if (status === undefined) return { stored_bytes: null, change_bytes_per_s: null, age_peaks_ms: [] };
  const cycle = inventory.replicationReport(inventory.hostOf(status.vm_uuid), status.replica_id)?.last_cycle;
  return {
    stored_bytes: null,
    change_bytes_per_s: cycle === null || cycle === undefined ? null : cycleRate(cycle, nowMs),
    age_peaks_ms: inventory.agePeaks(status.replica_id),
  };
}

type Point = { moment_ms: number; acknowledged_ms: number; delta_bytes: number };

/** How old each point had become when the next one was acknowledged. */
export function agePeaks(points: readonly Point[]): number[] {
  const last = points.slice(-AGE_PEAKS - 1);
  return last.slice(1).map((point, index) => Math.max(0, point.acknowledged_ms - last[index]!.moment_ms));
}

/** Bytes a second; falls while no further point comes. */
function pointRate(points: readonly Point[], nowMs: number): number | null {
  const last = points.slice(-RATE_POINTS - 1);
  const [first] = last;
  if (first === undefined || last.length < 2) return null;
  const bytes = last.slice(1).reduce((sum, point) => sum + point.delta_bytes, 0);
  return perSecond(bytes, nowMs - first.moment_ms);
}

function cycleRate(cycle: { started_ms: number; changed_bytes: number }, nowMs: number): number {
  return perSecond(cycle.changed_bytes, nowMs - cycle.started_ms);
}

export function perSecond(bytes: number, spanMs: number): number {
  return Math.round((bytes * 1000) / Math.max(1000, spanMs));
}
