/**
 * What is wrong at a site, as a pure function of what its manager knows.
 *
 * I7: where nothing is known now, nothing is said to be well again: alarms of such a subject are held as they are.
 */
import type { AlarmKind, AlarmSeverity } from '#/api/alarms.ts';
import type { ReadinessView } from '#/api/readiness.ts';
import type { VmStatus } from '#/api/status.ts';

export type Subject = {
  kind: 'vm' | 'host' | 'replication-server' | 'site' | 'plan' | 'user';
  id: string;
  name: string;
};
export type Condition = {
  kind: AlarmKind;
  severity: AlarmSeverity;
  subject: Subject;
  message: string;
  hint: string | null;
};

export type ProgramFacts = {
  kind: 'host' | 'replication-server';
  id: string;
  name: string;
  /** Its last report can be believed. */
  isFresh: boolean;
  hasReported: boolean;
  certificateExpiresMs: number;
  space: { path: string; freeBytes: number } | null;
  /** Why libvirt cannot be reached there. */
  libvirtFailure: string | null;
  /** Copies that may run while another site runs their VM. */
  mayRunTwice: readonly { vmUuid: string; vmName: string; message: string }[];
};

export type SiteFacts = {
  nowMs: number;
  vms: readonly VmStatus[];
  /** How long the last cycle of a replica took, from its moment to its acknowledgement. */
  cycleMs: ReadonlyMap<string, number>;
  programs: readonly ProgramFacts[];
  sites: readonly { id: string; name: string; isReachable: boolean | null }[];
  plans: readonly ReadinessView[];
  /** Users for when the identity provider is down, who signed in with the password that they still have. */
  brokenGlass: readonly { id: string; name: string; usedMs: number }[];
};

/** Below this an overlay has no room, and a full replica server refuses points (src/agent/recover-check.ts). */
const SPACE_SHORT_BYTES = 2 * 1024 ** 3;
/** Programs renew their certificates when a third of their life is left; one that has not by now will not. */
const CERTIFICATE_ENDS_MS = 14 * 86_400_000;
/** The law of RPO has no room for a cycle that takes longer than this part of it (design: T > RPO/2). */
const CYCLE_PART = 0.5;

export type Judged = {
  conditions: Condition[];
  /** Of these subjects nothing is known now. */
  unknown: { kind: AlarmKind; subjectId: string }[];
};

export function judgeAlarms(facts: SiteFacts): Judged {
  const judged: Judged = { conditions: [], unknown: [] };
  for (const vm of facts.vms) judgeVm(vm, facts, judged);
  for (const program of facts.programs) judgeProgram(program, facts.nowMs, judged);
  for (const { id, name, isReachable } of facts.sites) {
    if (isReachable !== false) continue;
    judged.conditions.push({
      kind: 'site_away',
      severity: 'warning',
      subject: { kind: 'site', id, name },
      message: `the manager of site ${name} does not answer`,
      hint: `Replication goes on without it. See what failed with: antipode sites`,
    });
  }
  for (const plan of facts.plans) judgePlan(plan, judged);
  for (const { id, name, usedMs } of facts.brokenGlass) {
    judged.conditions.push({
      kind: 'break_glass_used',
      severity: 'critical',
      subject: { kind: 'user', id, name },
      message: `the break-glass user ${name} signed in at ${new Date(usedMs).toISOString()}`,
      hint: `Look at antipode audit, and give another password when it is over: antipode user password ${name}`,
    });
  }
  return judged;
}

type Add = (kind: AlarmKind, severity: AlarmSeverity, message: string, hint: string | null) => void;

function judgeVm(vm: VmStatus, { cycleMs }: SiteFacts, { conditions, unknown }: Judged): void {
  // A VM may be protected to several sites: each replica is a subject of its own.
  const id = `${vm.vm_uuid} ${vm.replica_id ?? vm.recovery_site}`;
  if (vm.unknown_since_ms !== null) {
    for (const kind of ['rpo_missed', 'rpo_at_risk', 'replication_stopped', 'replica_damaged'] as const) {
      unknown.push({ kind, subjectId: id });
    }
    return;
  }
  const subject: Subject = { kind: 'vm', id, name: vm.vm_name };
  const to = `${vm.vm_name}, from ${vm.protected_site} to ${vm.recovery_site}`;
  const add: Add = (kind, severity, message, hint) =>
    conditions.push({ kind, severity, subject, message: `${to}: ${message}`, hint });
  judgeAge(vm, vm.replica_id === null ? undefined : cycleMs.get(vm.replica_id), add);
  judgeReplication(vm, add);
}

function judgeAge(vm: VmStatus, tookMs: number | undefined, add: Add): void {
  const seconds = `${vm.rpo_ms / 1000} s`;
  if (vm.rpo === 'violated') {
    const hint = vm.failure?.hint ?? `See what holds it up with: antipode status ${vm.vm_name}`;
    add('rpo_missed', 'critical', `the newest recovery point is older than its RPO of ${seconds}`, hint);
  } else if (vm.rpo === 'met' && tookMs !== undefined && tookMs > vm.rpo_ms * CYCLE_PART) {
    const hint = 'Give the link more bandwidth, or the VM a longer RPO.';
    add('rpo_at_risk', 'warning', `cycles take more than half of its RPO of ${seconds}`, hint);
  }
}

function judgeReplication({ role, state, failure }: VmStatus, add: Add): void {
  const hint = failure?.hint ?? null;
  if (role === 'recovery' && state === 'broken') {
    add('replica_damaged', 'critical', failure?.message ?? 'the replica is broken', hint);
  } else if (failure !== null || state === 'stopped') {
    add('replication_stopped', 'critical', failure?.message ?? 'replication has stopped', hint);
  }
}

function judgeProgram(program: ProgramFacts, nowMs: number, { conditions, unknown }: Judged): void {
  const { kind, id, name } = program;
  const subject: Subject = { kind, id, name };
  const what = `${kind === 'host' ? 'host' : 'replication server'} ${name}`;
  const restMs = program.certificateExpiresMs - nowMs;
  if (restMs < CERTIFICATE_ENDS_MS) {
    const when = new Date(program.certificateExpiresMs).toISOString();
    conditions.push({
      kind: 'certificate_ends',
      severity: restMs <= 0 ? 'critical' : 'warning',
      subject,
      message: `the certificate of ${what} ${restMs <= 0 ? 'ended' : 'ends'} at ${when}`,
      hint: 'It is renewed by itself while the program runs and reaches its manager.',
    });
  }
  if (!program.isFresh) {
    for (const each of ['libvirt_away', 'space_short'] as const) unknown.push({ kind: each, subjectId: id });
    for (const copy of program.mayRunTwice) {
      unknown.push({ kind: 'two_copies', subjectId: copyId(copy.vmUuid, id) });
    }
    // A program that joined and never reported is being installed.
    if (!program.hasReported) return;
    conditions.push({
      kind: kind === 'host' ? 'host_silent' : 'server_silent',
      severity: 'critical',
      subject,
      message: `${what} has not reported for a while`,
      hint: `Look at ${kind === 'host' ? 'antipode-agent' : 'antipode-replication-server'} there, and at its network.`,
    });
    return;
  }
  if (program.libvirtFailure !== null) {
    const message = `${what} cannot reach its libvirt: ${program.libvirtFailure}`;
    conditions.push({ kind: 'libvirt_away', severity: 'critical', subject, message, hint: null });
  }
  if (program.space !== null && program.space.freeBytes < SPACE_SHORT_BYTES) {
    const message = `${what} has less than 2 GiB free in ${program.space.path}`;
    const hint = 'Make room there; recovery points are refused when it is full.';
    conditions.push({ kind: 'space_short', severity: 'critical', subject, message, hint });
  }
  for (const { vmUuid, vmName, message } of program.mayRunTwice) {
    conditions.push({
      kind: 'two_copies',
      severity: 'critical',
      subject: { kind: 'vm', id: copyId(vmUuid, id), name: vmName },
      message: `an old copy of ${vmName} on ${what} may run: ${message}`,
      hint: 'See docs/fencing.md.',
    });
  }
}

function copyId(vmUuid: string, hostId: string): string {
  return `${vmUuid} ${hostId}`;
}

function judgePlan(plan: ReadinessView, { conditions }: Judged): void {
  const subject: Subject = { kind: 'plan', id: plan.plan_id, name: plan.plan };
  if (!plan.is_ready) {
    const first = plan.findings.find(({ severity }) => severity === 'error');
    conditions.push({
      kind: 'plan_unready',
      severity: 'critical',
      subject,
      message: `plan ${plan.plan} would not come up as a whole${first === undefined ? '' : `: ${first.text}`}`,
      hint: `See everything with: antipode plan readiness ${plan.plan}`,
    });
  }
  const unproven = plan.findings.find(({ code }) => code === 'unproven');
  if (unproven === undefined) return;
  conditions.push({
    kind: 'plan_unproven',
    severity: 'warning',
    subject,
    message: `plan ${plan.plan}: ${unproven.text}`,
    hint: unproven.hint ?? `Test it with: antipode plan test ${plan.plan}`,
  });
}
