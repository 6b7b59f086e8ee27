/** What is an alarm, and what is not known, from facts alone. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { VmStatus } from '#/api/status.ts';
import { judgeAlarms, type ProgramFacts, type SiteFacts } from './judge-alarms.ts';

const DAY_MS = 86_400_000;

const VM: VmStatus = {
  vm_name: 'web',
  vm_uuid: 'u1',
  role: 'recovery',
  protected_site: 'west',
  recovery_site: 'east',
  protection_id: 'protection-1',
  replica_id: 'replica-1',
  rpo_ms: 5000,
  point: { sequence: 7, moment_ms: 1000 },
  age_ms: 1000,
  rpo: 'met',
  violated_since_ms: null,
  state: 'ready',
  unknown_since_ms: null,
  progress: null,
  failure: null,
  notices: [],
};
const HOST: ProgramFacts = {
  kind: 'host',
  id: 'host-1',
  name: 'kvm1',
  isFresh: true,
  hasReported: true,
  certificateExpiresMs: 100 * DAY_MS,
  space: { path: '/images', freeBytes: 2 ** 40 },
  libvirtFailure: null,
  mayRunTwice: [],
};
const WELL: SiteFacts = {
  nowMs: 10 * DAY_MS,
  vms: [VM],
  cycleMs: new Map([['replica-1', 2500]]),
  programs: [HOST, { ...HOST, kind: 'replication-server', id: 'server-1', name: 'store1' }],
  sites: [
    { id: 'site-west', name: 'west', isReachable: true },
    { id: 'site-north', name: 'north', isReachable: null },
  ],
  plans: [],
  brokenGlass: [],
};

const kinds = (change: Partial<SiteFacts>): string[] =>
  judgeAlarms({ ...WELL, ...change }).conditions.map(
    ({ kind, severity, subject }) => `${kind} ${severity} ${subject.id}`,
  );
const vm = (change: Partial<VmStatus>): Partial<SiteFacts> => ({ vms: [{ ...VM, ...change }] });
const host = (change: Partial<ProgramFacts>): Partial<SiteFacts> => ({ programs: [{ ...HOST, ...change }] });

test('a site that is well has no alarm, also with a site that was never asked and cycles of half the RPO', () => {
  assert.deepEqual(judgeAlarms(WELL), { conditions: [], unknown: [] });
});

test('an RPO that is missed is critical, and one that cycles barely keep is a warning', () => {
  assert.deepEqual(kinds(vm({ rpo: 'violated' })), ['rpo_missed critical u1 replica-1']);
  assert.deepEqual(kinds({ cycleMs: new Map([['replica-1', 2501]]) }), ['rpo_at_risk warning u1 replica-1']);
  const both = { ...vm({ rpo: 'violated' }), cycleMs: new Map([['replica-1', 9000]]) };
  assert.deepEqual(kinds(both), ['rpo_missed critical u1 replica-1']);
});

test('a replica that is broken is damaged; whatever else fails has stopped', () => {
  const failure = { code: 'storage_corrupt', message: 'a digest differs', hint: null };
  assert.deepEqual(kinds(vm({ state: 'broken', failure })), ['replica_damaged critical u1 replica-1']);
  assert.deepEqual(kinds(vm({ state: 'failing', failure })), ['replication_stopped critical u1 replica-1']);
  assert.deepEqual(kinds(vm({ state: 'stopped' })), ['replication_stopped critical u1 replica-1']);
});

test('of a VM of which nothing is known now, nothing is said, and nothing is well', () => {
  const { conditions, unknown } = judgeAlarms({ ...WELL, ...vm({ rpo: 'unknown', unknown_since_ms: 5 }) });
  assert.deepEqual(conditions, []);
  assert(unknown.some(({ kind, subjectId }) => kind === 'rpo_missed' && subjectId === 'u1 replica-1'));
});

test('a host that is silent, has no libvirt, no space, or an old certificate is named', () => {
  assert.deepEqual(kinds(host({ isFresh: false })), ['host_silent critical host-1']);
  assert.deepEqual(kinds(host({ isFresh: false, hasReported: false })), []);
  assert.deepEqual(kinds(host({ libvirtFailure: 'refused' })), ['libvirt_away critical host-1']);
  assert.deepEqual(kinds(host({ space: { path: '/', freeBytes: 2 ** 31 - 1 } })), [
    'space_short critical host-1',
  ]);
  assert.deepEqual(kinds(host({ certificateExpiresMs: 23 * DAY_MS })), ['certificate_ends warning host-1']);
  assert.deepEqual(kinds(host({ certificateExpiresMs: 10 * DAY_MS })), ['certificate_ends critical host-1']);
});

test('a copy that may run beside another is an alarm of its VM, and unknown while its host is silent', () => {
  const mayRunTwice = [{ vmUuid: 'u1', vmName: 'web', message: 'cannot pause it' }];
  assert.deepEqual(kinds(host({ mayRunTwice })), ['two_copies critical u1 host-1']);
  const { unknown } = judgeAlarms({ ...WELL, ...host({ mayRunTwice, isFresh: false }) });
  assert(unknown.some(({ kind, subjectId }) => kind === 'two_copies' && subjectId === 'u1 host-1'));
});

test('a site that does not answer is a warning', () => {
  const sites = [{ id: 'site-west', name: 'west', isReachable: false }];
  assert.deepEqual(kinds({ sites }), ['site_away warning site-west']);
});

test('a plan that is unready is critical, one that no test has proven lately a warning', () => {
  const finding = (code: string, severity: 'error' | 'warning') => ({
    severity,
    code,
    subject: { kind: 'vm' as const, id: 'u1', name: 'web' },
    text: 'web: last proven by a test: never',
    hint: null,
    link: null,
  });
  const plan = {
    plan: 'all',
    plan_id: 'plan-1',
    is_ready: false,
    checked_ms: 1,
    findings: [finding('unproven', 'warning'), finding('no_point', 'error')],
    vms: [],
    predicted_rpo_ms: null,
    predicted_rto_ms: null,
    proven_ms: null,
  };
  assert.deepEqual(kinds({ plans: [plan] }), [
    'plan_unready critical plan-1',
    'plan_unproven warning plan-1',
  ]);
});
