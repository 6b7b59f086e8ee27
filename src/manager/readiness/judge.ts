/** Judges a plan's situation: what would keep it from coming up, and what would make it worse. Pure. */
import type { ReadinessFinding } from '#/api/readiness.ts';
import { ofVm, type Judge } from './finding.ts';
import { judgeHardware } from './judge-hardware.ts';
import { judgePlaces } from './judge-places.ts';
import type { Refusal, Situation, VmSituation } from './situation.ts';

/** More than a person reads. */
const FINDINGS_MAX = 500;
const TEXT_LENGTH_MAX = 4096;
const DAY_MS = 86_400_000;
/** Certificates renew by themselves at two thirds of a year: one that has so little left does not. */
const CERTIFICATE_WARN_MS = 30 * DAY_MS;
const STORE_LOW_BYTES = 1024 ** 3;

export function judge(situation: Situation): ReadinessFinding[] {
  const findings: ReadinessFinding[] = [];
  const add: Judge = (subject, { hint = null, text, ...rest }) => {
    if (findings.length >= FINDINGS_MAX) return;
    const cut = (words: string): string => words.slice(0, TEXT_LENGTH_MAX);
    findings.push({
      ...rest,
      subject,
      text: cut(text),
      hint: hint === null ? null : cut(hint),
      link: linkOf(subject),
    });
  };
  judgePlan(situation, add);
  for (const vm of situation.vms) judgeVm(vm, situation, add);
  judgePlaces(situation, add);
  judgeHardware(situation, add);
  judgePrograms(situation, add);
  const order = ['error', 'warning', 'info'];
  return findings.toSorted((a, b) => order.indexOf(a.severity) - order.indexOf(b.severity));
}

function linkOf({ kind, id }: ReadinessFinding['subject']): string | null {
  if (kind === 'plan') return `/api/v1/plans/${id}`;
  if (kind === 'host') return '/api/v1/hosts';
  if (kind === 'replication-server') return '/api/v1/replication-servers';
  return kind === 'site' ? '/api/v1/sites' : '/api/v1/replicas';
}

function judgePlan({ plan, problems, sites, nowMs }: Situation, add: Judge): void {
  const subject = { kind: 'plan', ...plan } as const;
  for (const { severity, message, hint } of problems) {
    add(subject, {
      severity: severity === 'warning' ? 'warning' : 'error',
      code: severity === 'blocks_runs' ? 'site_lacks' : 'plan_invalid',
      text: message,
      hint,
    });
  }
  for (const site of sites) {
    const ofSite = { kind: 'site', id: site.id, name: site.name } as const;
    if (site.isReachable === false) {
      add(ofSite, {
        severity: 'info',
        code: 'site_silent',
        text: `the manager of site ${site.name} does not answer: a migration is not possible, a disaster recovery is`,
        hint: `Check that the manager of ${site.name} runs and the link is up.`,
      });
    }
    judgeEnd(ofSite, { what: 'the authority of the site', endMs: site.authorityExpiresMs, nowMs }, add);
  }
}

function judgeVm(vm: VmSituation, { nowMs, provenForMs }: Situation, add: Judge): void {
  const subject = ofVm(vm);
  judgeReplica(vm, nowMs, add);
  refuse(vm.hostRefusal, 'no_host');
  for (const { hint, message } of vm.leftOver) {
    add(subject, { severity: 'warning', code: 'left_over', text: `${vm.name}: ${message}`, hint });
  }
  if (vm.proven === null || nowMs - vm.proven.at_ms > provenForMs) {
    const when = vm.proven === null ? 'never' : new Date(vm.proven.at_ms).toISOString();
    add(subject, {
      severity: 'warning',
      code: 'unproven',
      text: `${vm.name}: last proven by a test: ${when}`,
      hint: 'Test the plan; with test.every_ms it is tested by itself.',
    });
  }
  function refuse(refusal: Refusal | null, code: string): void {
    if (refusal !== null)
      add(subject, { severity: 'error', code, text: refusal.message, hint: refusal.hint });
  }
}

function judgeReplica(vm: VmSituation, nowMs: number, add: Judge): void {
  const subject = ofVm(vm);
  const { message, hint } = vm.replicaRefusal ?? { message: null, hint: null };
  if (vm.replicaState === 'recovered') {
    const text = `${vm.name} was recovered already, and runs here`;
    const way = `Protect it back with: antipode reprotect ${vm.name}. Or take it out of the plan.`;
    return add(subject, { severity: 'error', code: 'recovered', text, hint: way });
  }
  if (message !== null) return add(subject, { severity: 'error', code: 'no_replica', text: message, hint });
  if (vm.replicaState !== 'active') {
    const text = `${vm.name} is not protected any more: its points only get older`;
    const way = 'Protect it again at its site, or take it out of the plan.';
    return add(subject, { severity: 'warning', code: 'not_protected', text, hint: way });
  }
  const newest = vm.points.at(-1);
  const ageMs = newest === undefined ? 0 : nowMs - newest.momentMs;
  if (ageMs <= vm.rpoMs) return;
  add(subject, {
    severity: 'warning',
    code: 'rpo_violated',
    text: `${vm.name}: the newest recovery point is ${ageMs} ms old, its RPO is ${vm.rpoMs} ms`,
    hint: 'See why with: antipode status',
  });
}

function judgePrograms({ hosts, nowMs, servers, vms }: Situation, add: Judge): void {
  const usedHosts = new Set(vms.map(({ hostId }) => hostId));
  const usedServers = new Set(vms.map(({ serverId }) => serverId));
  for (const host of hosts.filter(({ id }) => usedHosts.has(id))) {
    const subject = { kind: 'host', id: host.id, name: host.name } as const;
    judgeEnd(subject, { what: 'the certificate of its agent', endMs: host.certificateExpiresMs, nowMs }, add);
    if (host.isHookWorking === false) {
      add(subject, {
        severity: 'warning',
        code: 'hook_idle',
        text: `host ${host.name}: libvirt was not seen to refuse a start by our hook`,
        hint: 'See why with: antipode hosts',
      });
    }
  }
  for (const server of servers.filter(({ id }) => usedServers.has(id))) {
    const subject = { kind: 'replication-server', id: server.id, name: server.name } as const;
    judgeEnd(subject, { what: 'its certificate', endMs: server.certificateExpiresMs, nowMs }, add);
    if (server.isFresh && server.freeBytes < STORE_LOW_BYTES) {
      add(subject, {
        severity: 'warning',
        code: 'store_low',
        text: `replication server ${server.name} has ${server.freeBytes} bytes free: new points may not fit`,
        hint: 'Add space, or keep fewer points.',
      });
    }
  }
}

function judgeEnd(
  subject: ReadinessFinding['subject'],
  certificate: { what: string; endMs: number; nowMs: number },
  add: Judge,
): void {
  const { what, endMs, nowMs } = certificate;
  if (endMs - nowMs > CERTIFICATE_WARN_MS) return;
  const isOver = endMs <= nowMs;
  add(subject, {
    severity: isOver ? 'error' : 'warning',
    code: 'certificate_ends',
    text: `${subject.name}: ${what} ${isOver ? 'ended' : 'ends'} ${new Date(endMs).toISOString()}`,
    hint:
      subject.kind === 'site'
        ? 'Pair the sites anew.'
        : 'Programs renew theirs by themselves: look at its log, or join it again.',
  });
}
