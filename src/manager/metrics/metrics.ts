/**
 * The state of the site as Prometheus reads it, made anew for each reading: what is not known now has no sample, so
 * that an alert on absence tells it (I7). Times are in seconds and sizes in bytes, as is that system's custom.
 */
import { Gauge, Registry } from 'prom-client';
import type { VmStatus } from '#/api/status.ts';
import type { ProgramFacts, SiteFacts } from '#/manager/alarms/judge-alarms.ts';

export type ReplicaFacts = {
  replicaId: string;
  vmName: string;
  points: number;
  storedBytes: number;
};
export type CycleFacts = {
  replicaId: string;
  vmName: string;
  durationMs: number;
  readBytes: number;
  changedBytes: number;
  wireBytes: number;
};
export type MetricFacts = SiteFacts & {
  siteName: string;
  replicas: readonly ReplicaFacts[];
  cycles: readonly CycleFacts[];
  alarms: Readonly<Record<'critical' | 'warning', number>>;
};

export const METRICS_TYPE = Registry.PROMETHEUS_CONTENT_TYPE;

/** In the text format of Prometheus, version 0.0.4. */
export async function metricsText(facts: MetricFacts): Promise<string> {
  const registry = new Registry();
  const gauge = gaugesOf(registry);
  gauge('antipode_site_info', 'The site of this manager', ['site'])({ site: facts.siteName }, 1);
  addVms(facts.vms, gauge);
  addReplicas(facts, gauge);
  addPrograms(facts.programs, gauge);
  addPlans(facts, gauge);
  const reachable = gauge('antipode_site_reachable', 'Whether the manager of a paired site answers', [
    'site',
  ]);
  for (const { name, isReachable } of facts.sites) {
    if (isReachable !== null) reachable({ site: name }, isReachable ? 1 : 0);
  }
  const alarms = gauge('antipode_alarms', 'Alarms that stand', ['severity']);
  for (const [severity, count] of Object.entries(facts.alarms)) alarms({ severity }, count);
  return registry.metrics();
}

type Sample = (labels: Record<string, string>, value: number) => void;
type MakeGauge = (name: string, help: string, labels: readonly string[]) => Sample;

function gaugesOf(registry: Registry): MakeGauge {
  return (name, help, labelNames) => {
    const gauge = new Gauge({ name, help, labelNames: [...labelNames], registers: [registry] });
    return (labels, value) => gauge.set(labels, value);
  };
}

function addVms(vms: readonly VmStatus[], gauge: MakeGauge): void {
  const labels = ['vm', 'vm_uuid', 'replica', 'protected_site', 'recovery_site', 'role'];
  const age = gauge('antipode_replica_age_seconds', 'Age of the newest recovery point that is known', labels);
  const rpo = gauge('antipode_replica_rpo_seconds', 'What that age must never exceed', labels);
  const isMet = gauge(
    'antipode_replica_rpo_met',
    '1 while the age is within its RPO, 0 while it is not',
    labels,
  );
  const isKnown = gauge('antipode_replica_known', '0 while nothing is known of it now', labels);
  const isFailing = gauge('antipode_replica_failing', '1 while its replication fails', labels);
  for (const vm of vms) {
    const of = {
      vm: vm.vm_name,
      vm_uuid: vm.vm_uuid,
      replica: vm.replica_id ?? '',
      protected_site: vm.protected_site,
      recovery_site: vm.recovery_site,
      role: vm.role,
    };
    rpo(of, vm.rpo_ms / 1000);
    isKnown(of, vm.unknown_since_ms === null ? 1 : 0);
    // An age grows also while nothing is heard: what is not known to be newer is that old.
    if (vm.age_ms !== null) age(of, vm.age_ms / 1000);
    if (vm.rpo === 'met' || vm.rpo === 'violated') isMet(of, vm.rpo === 'met' ? 1 : 0);
    if (vm.unknown_since_ms === null) isFailing(of, vm.failure === null ? 0 : 1);
  }
}

function addReplicas({ replicas, cycles }: MetricFacts, gauge: MakeGauge): void {
  const labels = ['vm', 'replica'];
  const points = gauge('antipode_replica_points', 'Recovery points that it keeps', labels);
  const stored = gauge('antipode_replica_stored_bytes', 'What it takes at the recovery site', labels);
  for (const one of replicas) {
    const of = { vm: one.vmName, replica: one.replicaId };
    points(of, one.points);
    stored(of, one.storedBytes);
  }
  const duration = gauge('antipode_cycle_duration_seconds', 'Of its last cycle', labels);
  const read = gauge('antipode_cycle_read_bytes', 'What its last cycle read', labels);
  const changed = gauge('antipode_cycle_changed_bytes', 'What had changed in its last cycle', labels);
  const wire = gauge('antipode_cycle_wire_bytes', 'What its last cycle sent', labels);
  for (const one of cycles) {
    const of = { vm: one.vmName, replica: one.replicaId };
    duration(of, one.durationMs / 1000);
    read(of, one.readBytes);
    changed(of, one.changedBytes);
    wire(of, one.wireBytes);
  }
}

function addPrograms(programs: readonly ProgramFacts[], gauge: MakeGauge): void {
  const labels = ['kind', 'name'];
  const up = gauge('antipode_program_up', '1 while a host or replication server reports', labels);
  const free = gauge('antipode_storage_free_bytes', 'Free where it keeps disks or replicas', labels);
  const ends = gauge('antipode_certificate_end_timestamp_seconds', 'When its certificate ends', labels);
  for (const program of programs) {
    const of = { kind: program.kind, name: program.name };
    up(of, program.isFresh ? 1 : 0);
    ends(of, program.certificateExpiresMs / 1000);
    if (program.isFresh && program.space !== null) free(of, program.space.freeBytes);
  }
}

function addPlans({ plans }: MetricFacts, gauge: MakeGauge): void {
  const ready = gauge('antipode_plan_ready', '1 while a recovery plan would come up as a whole', ['plan']);
  const proven = gauge('antipode_plan_proven_timestamp_seconds', 'When a test last proved all of its VMs', [
    'plan',
  ]);
  for (const plan of plans) {
    ready({ plan: plan.plan }, plan.is_ready ? 1 : 0);
    if (plan.proven_ms !== null) proven({ plan: plan.plan }, plan.proven_ms / 1000);
  }
}
