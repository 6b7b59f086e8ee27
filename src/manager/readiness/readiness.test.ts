/** Readiness through the API, of a site with a plan of one VM. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { ProtectionView } from '#/api/protections.ts';
import type { ReadinessView } from '#/api/readiness.ts';
import type { RecoveryView } from '#/api/recoveries.ts';
import { doneTask, GIB, ledgerVm, twoSites, VIEW } from '#/manager/site-fixture.ts';

let sites: Awaited<ReturnType<typeof twoSites>>;
let replicaId: string;

before(async () => {
  sites = await twoSites();
  const { east, eastServer, west, westAgent } = sites;
  const hardware = {
    arch: 'x86_64',
    machine: 'pc-q35-9.9',
    cpu_mode: 'host-model',
    cpu_model: null,
    firmware: 'bios',
    is_secure_boot: false,
    has_tpm: false,
  } as const;
  westAgent.report.vms = [ledgerVm({ hardware })];
  await westAgent.send();
  const request = { vm: 'ledger', site: 'east', rpo_ms: 60_000 };
  const protection = await west.api<ProtectionView>('POST', '/protections', request);
  replicaId = protection.replica_id!;
  await eastServer.holds(replicaId, [Date.now() - 2000, Date.now() - 1000]);
  const [peer] = await west.manager.peers.list();
  await west.manager.protections.reconcile(peer!);
  await east.api('POST', '/groups', { name: 'shop', site: 'west', vms: ['ledger'] });
  await east.api('POST', '/plans', { name: 'all', groups: ['shop'] });
});
after(() => sites[Symbol.asyncDispose]());

const readiness = () => sites.east.api<ReadinessView>('GET', '/plans/all/readiness');
const codes = async () => (await readiness()).findings.map(({ code }) => code);

test('what a host cannot give is found as soon as it says what it has', async () => {
  const { eastAgent } = sites;
  assert.deepEqual(await codes(), ['unproven', 'hardware_unknown']);
  const capabilities = {
    arch: 'x86_64',
    machines: ['pc-q35-7.2'],
    cpu_models: [],
    has_efi: true,
    has_secure_boot: true,
    has_tpm: true,
  };
  eastAgent.report.host.capabilities = capabilities;
  await eastAgent.send();
  const view = await readiness();
  assert.equal(view.is_ready, false);
  assert.deepEqual(
    view.findings.map(({ code }) => code),
    ['machine_missing', 'unproven'],
  );
  assert.match(view.findings[0]!.text, /ledger: the QEMU of host east-host has no machine type pc-q35-9.9/);
  eastAgent.report.host.capabilities = { ...capabilities, machines: ['pc-q35-9.9'] };
  await eastAgent.send();
  assert.equal((await readiness()).is_ready, true);
});

test('a test that brought the VM up proves it, and says what a run would take', async () => {
  const { east, eastAgent, eastServer } = sites;
  assert.equal((await readiness()).proven_ms, null);
  const job = await east.api<RecoveryView>('POST', '/recoveries', { vm: 'ledger', purpose: 'test' });
  await eastServer.finish(doneTask((await eastServer.task('open_view')).id, VIEW));
  await eastAgent.finish(doneTask((await eastAgent.task('recover')).id));
  for (;;) {
    const view = await readiness();
    if (view.proven_ms === null) continue;
    assert.equal(view.vms[0]?.proven?.job_id, job.id);
    assert.equal(view.predicted_rto_ms, view.vms[0]?.proven?.rto_ms);
    assert((view.predicted_rpo_ms ?? 0) >= 1000);
    assert.deepEqual(view.findings, []);
    return;
  }
});

test('an event tells of what lasted, once, and of its end', async () => {
  const { east, eastAgent } = sites;
  const { clock, db } = east.manager.context;
  const told = async (): Promise<string[]> => {
    const rows = await db.selectFrom('events').selectAll().where('subject_kind', '=', 'plan').execute();
    return rows.map(({ kind }) => kind).filter((kind) => /ready/.test(kind));
  };
  let atMs = clock.monotonicMs() + 60_000;
  /** Looks as often as the manager does within half a minute. */
  const halfMinute = async (): Promise<void> => {
    for (const endMs = atMs + 30_000; atMs <= endMs; atMs += 5000) await east.manager.readiness.look(atMs);
  };
  await halfMinute();
  assert.deepEqual(await told(), []);
  eastAgent.report.host.memory_bytes = GIB / 2;
  await eastAgent.send();
  await halfMinute();
  await halfMinute();
  assert.deepEqual(await told(), ['plan.unready']);
  eastAgent.report.host.memory_bytes = 8 * GIB;
  await eastAgent.send();
  await halfMinute();
  assert.deepEqual(await told(), ['plan.unready', 'plan.ready']);
});
