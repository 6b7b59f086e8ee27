import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ProtectionView } from '#/api/protections.ts';
import type { ReplicaView } from '#/api/replicas.ts';
import type { SiteStatus } from '#/api/status.ts';
import type { VmReport } from '#/control/reports.ts';
import { doneTask, failedTask, GIB, ledgerVm, LEDGER_UUID, TestSite, twoSites } from './site-fixture.ts';

const LEDGER = { vm: 'ledger', site: 'east', rpo_ms: 5000 };
type List<Item> = { items: Item[] };

async function reconcile(site: TestSite, peer: string): Promise<void> {
  await site.manager.protections.reconcile(await site.manager.peers.find(peer));
}

test('a VM that is protected is ordered at its host, kept at the other site, and shown at both', async () => {
  await using sites = await twoSites();
  const { west, east, westAgent, eastServer } = sites;
  const view = await west.api<ProtectionView>('POST', '/protections', LEDGER);
  assert.equal(view.state, 'active');
  const [order] = (await westAgent.poll()).protections;
  assert.equal(order?.vm_name, 'ledger');
  assert.equal(order.replica_id, view.replica_id);
  assert.deepEqual(order.server, {
    site_id: east.manager.context.identity.siteId,
    server_id: eastServer.client.membership.id,
    host: '192.0.2.10',
    port: 7481,
  });
  const orders = await eastServer.poll();
  assert.equal(orders.replicas[0]?.replica_id, order.replica_id);
  assert.equal(orders.replicas[0].source_site_id, west.manager.context.identity.siteId);
  assert.deepEqual(
    orders.trust.map((site) => site.site_name),
    ['east', 'west'],
  );
  const moment = Date.now() - 500;
  await eastServer.holds(order.replica_id, [moment - 500, moment]);
  const cycle = { started_ms: moment, duration_ms: 90, read_bytes: 1, changed_bytes: 1, wire_bytes: 1 };
  const common = { progress: null, failure: null, notices: ['vdc is not replicated'] };
  westAgent.report.replications = [
    {
      ...common,
      replica_id: order.replica_id,
      state: 'waiting',
      sequence: 2,
      moment_ms: moment,
      last_cycle: cycle,
    },
  ];
  await westAgent.send();
  for (const site of [east, west]) {
    const { vms } = await site.api<SiteStatus>('GET', '/status');
    assert.equal(vms.length, 1);
    assert.equal(vms[0]?.rpo, 'met');
    assert.deepEqual(vms[0].point, { sequence: 2, moment_ms: moment });
    assert.equal(vms[0].protected_site, 'west');
    assert.equal(vms[0].recovery_site, 'east');
    assert.equal(vms[0].role, site === east ? 'recovery' : 'protected');
  }
});

/** Each is refused with a message that names the thing, and a hint. */
const REFUSED: Record<
  string,
  { request?: object; vm?: Partial<VmReport>; code: string; message: RegExp; hint: RegExp }
> = {
  'an RPO below the floor': {
    request: { rpo_ms: 999 },
    code: 'usage_invalid',
    message: /999 ms is below the floor of 1000 ms/,
    hint: /--rpo 1s/,
  },
  'a VM that is not there': {
    request: { vm: 'nobody' },
    code: 'not_found',
    message: /"nobody"/,
    hint: /antipode vms/,
  },
  'a site that is not paired': {
    request: { site: 'north' },
    code: 'not_found',
    message: /"north"/,
    hint: /paired with: east/,
  },
  'a disk that is not there': {
    request: { disks: ['vdz'] },
    code: 'not_found',
    message: /no disk "vdz"/,
    hint: /vda, vdb/,
  },
  'a VM with a host device': {
    vm: { refusals: ['A host device is passed through.'] },
    code: 'vm_unsupported',
    message: /VM ledger cannot be protected: A host device/,
    hint: /Take that out of its definition/,
  },
  'a COLO pair': {
    vm: { refusals: ['it is one of a COLO pair'] },
    code: 'vm_unsupported',
    message: /COLO/,
    hint: /./,
  },
  'a raw disk': {
    vm: {
      disks: [
        { key: 'vda', bytes: GIB, format: 'qcow2', path: '/a', refusal: null },
        { key: 'vdb', bytes: GIB, format: 'raw', path: '/b', refusal: 'raw disks cannot track changes' },
      ],
    },
    code: 'vm_unsupported',
    message: /disk vdb .*raw disks/,
    hint: /--disk vda/,
  },
  'a VM that is larger than the space at the target': {
    vm: { disks: [{ key: 'vda', bytes: 200 * GIB, format: 'qcow2', path: '/a', refusal: null }] },
    code: 'storage_full',
    message: /needs 214748364800 bytes at site east.*107374182400 free/,
    hint: /space/,
  },
};

test('what speaks against protecting a VM is said before anything is changed', async (t) => {
  await using sites = await twoSites();
  const { west, east, westAgent, eastAgent, eastServer } = sites;
  for (const [what, { request, vm, code, message, hint }] of Object.entries(REFUSED)) {
    await t.test(what, async () => {
      westAgent.report.vms = [ledgerVm(vm)];
      await westAgent.send();
      const refused = west.api('POST', '/protections', { ...LEDGER, ...request });
      await assert.rejects(refused, { code, message, hint });
    });
  }
  westAgent.report.vms = [ledgerVm()];
  await westAgent.send();
  await t.test('a name that exists at the target', async () => {
    eastAgent.report.vms = [ledgerVm({ uuid: LEDGER_UUID.replace('7a', '7b') })];
    await eastAgent.send();
    const refused = west.api('POST', '/protections', LEDGER);
    await assert.rejects(refused, {
      code: 'already_exists',
      message: /site east has a VM ledger/,
      hint: /Rename/,
    });
    eastAgent.report.vms = [];
    await eastAgent.send();
  });
  await t.test('libvirt that is down', async () => {
    const failure = { code: 'unreachable', message: 'no libvirtd', hint: 'Start it.' };
    westAgent.report.host.libvirt_failure = failure;
    await westAgent.send();
    const refused = west.api('POST', '/protections', LEDGER);
    await assert.rejects(refused, {
      code: 'libvirt_error',
      message: /west-host: no libvirtd/,
      hint: 'Start it.',
    });
    westAgent.report.host.libvirt_failure = null;
    await westAgent.send();
  });
  await t.test('a host or a replication server that does not report', async () => {
    const inventories = [west.manager.context.inventory, east.manager.context.inventory];
    inventories[0]!.agents()[0]!.reportMs = Date.now() - 60_000;
    await assert.rejects(west.api('POST', '/protections', LEDGER), {
      code: 'unreachable',
      hint: /west-host/,
    });
    await westAgent.send();
    inventories[1]!.servers()[0]!.reportMs = Date.now() - 60_000;
    await assert.rejects(west.api('POST', '/protections', LEDGER), {
      code: 'unreachable',
      message: /no replication server/,
    });
    await eastServer.send();
  });
  await t.test('nothing was changed at either site', async () => {
    assert.deepEqual((await west.api<List<unknown>>('GET', '/protections')).items, []);
    assert.deepEqual((await east.api<List<unknown>>('GET', '/replicas')).items, []);
  });
  await t.test('a VM that is protected there already', async () => {
    await west.api('POST', '/protections', LEDGER);
    const refused = west.api('POST', '/protections', LEDGER);
    await assert.rejects(refused, { code: 'already_exists', hint: /antipode set ledger --rpo/ });
  });
});

test('a manager of the recovery site that is down is named, and nothing is left behind', async () => {
  await using sites = await twoSites();
  const { west, east } = sites;
  await east.stop();
  await assert.rejects(west.api('POST', '/protections', LEDGER), {
    code: 'unreachable',
    message: /manager of site east/,
  });
  assert.deepEqual((await west.api<List<unknown>>('GET', '/protections')).items, []);
});

test('many requests for one VM at the same time make one protection', async () => {
  await using sites = await twoSites();
  const { west, east } = sites;
  const tries = await Promise.allSettled(
    Array.from({ length: 4 }, () => west.api('POST', '/protections', LEDGER)),
  );
  assert.equal(tries.filter(({ status }) => status === 'fulfilled').length, 1);
  assert.equal((await west.api<List<unknown>>('GET', '/protections')).items.length, 1);
  assert.equal((await east.api<List<unknown>>('GET', '/replicas')).items.length, 1);
});

test('an answer that was lost halfway is asked for again until both sites agree', async () => {
  await using sites = await twoSites();
  const { west, east } = sites;
  const { db } = west.manager.context;
  await west.api('POST', '/protections', LEDGER);
  // As it is when the manager was killed after it recorded the intent, and the other site has accepted.
  const lost = { state: 'requested', replica_id: null, server: null } as const;
  await db.updateTable('protections').set(lost).execute();
  await west.restart();
  await sites.westAgent.send();
  await reconcile(west, 'east');
  const { items } = await west.api<List<ProtectionView>>('GET', '/protections');
  assert.equal(items[0]?.state, 'active');
  const replicas = await east.api<List<ReplicaView>>('GET', '/replicas');
  assert.deepEqual(
    replicas.items.map((replica) => replica.id),
    [items[0].replica_id],
  );
});

test('unprotecting keeps the replica, which a new protection takes up again', async () => {
  await using sites = await twoSites();
  const { west, east, westAgent, eastServer } = sites;
  const first = await west.api<ProtectionView>('POST', '/protections', LEDGER);
  await westAgent.now();
  await west.api('DELETE', '/protections/ledger');
  assert.deepEqual((await westAgent.now()).protections, []);
  assert.deepEqual((await west.api<List<unknown>>('GET', '/protections')).items, []);
  const kept = await east.api<List<ReplicaView>>('GET', '/replicas');
  assert.equal(kept.items[0]?.state, 'kept');
  assert.equal((await eastServer.now()).replicas.length, 1);
  const second = await west.api<ProtectionView>('POST', '/protections', { ...LEDGER, rpo_ms: 9000 });
  assert.equal(second.replica_id, first.replica_id);
  assert.notEqual(second.id, first.id);
});

test('a replica that is to be deleted goes once its server has deleted it, and is tried again when that failed', async () => {
  await using sites = await twoSites();
  const { west, east, eastServer } = sites;
  const { replica_id: replicaId } = await west.api<ProtectionView>('POST', '/protections', LEDGER);
  await west.api('DELETE', '/protections/ledger?delete_replica=true');
  const task = await eastServer.task('delete_replica');
  assert(task.kind === 'delete_replica');
  assert.equal(task.replica_id, replicaId);
  assert.deepEqual((await eastServer.now()).replicas, []);
  await assert.rejects(west.api('POST', '/protections', LEDGER), { code: 'replica_busy' });
  await eastServer.finish(failedTask(task.id, 'input/output error'));
  await east.manager.replicas.carryOutDeletes();
  assert.equal((await east.api<List<unknown>>('GET', '/replicas')).items.length, 1);
  const { db } = east.manager.context;
  await db
    .updateTable('tasks')
    .set({ created_ms: Date.now() - 120_000 })
    .execute();
  await east.manager.replicas.carryOutDeletes();
  const again = (await eastServer.now()).tasks[0]!;
  assert.notEqual(again.id, task.id);
  await eastServer.finish(doneTask(again.id));
  await east.manager.replicas.carryOutDeletes();
  assert.deepEqual((await east.api<List<unknown>>('GET', '/replicas')).items, []);
});

test('a VM that moved to another host of the site is ordered there', async () => {
  await using sites = await twoSites();
  const { west, westAgent } = sites;
  const other = await west.agent('other-host');
  await west.api('POST', '/protections', LEDGER);
  assert.equal((await westAgent.now()).protections.length, 1);
  westAgent.report.vms = [];
  await westAgent.send();
  other.report.vms = [ledgerVm()];
  await other.send();
  assert.equal((await other.now()).protections.length, 1);
  assert.equal((await westAgent.now()).protections.length, 0);
});

test('orders keep their revision over a restart, and a poll is answered as soon as they change', async () => {
  await using sites = await twoSites();
  const { west, westAgent } = sites;
  await west.api('POST', '/protections', LEDGER);
  const before = await westAgent.now();
  await west.restart();
  assert.deepEqual(await westAgent.now(), before);
  const poll = westAgent.poll();
  await west.api('DELETE', '/protections/ledger');
  const after = await poll;
  assert.equal(after.revision, before.revision + 1);
});

test('what is not known now is shown as unknown since the last report, also after a restart', async () => {
  await using sites = await twoSites();
  const { west, east, eastServer } = sites;
  const { replica_id: replicaId } = await west.api<ProtectionView>('POST', '/protections', LEDGER);
  await eastServer.holds(replicaId!, [Date.now() - 100]);
  const server = east.manager.context.inventory.servers()[0]!;
  server.reportMs = Date.now() - 60_000;
  const { vms } = await east.api<SiteStatus>('GET', '/status');
  assert.equal(vms[0]?.rpo, 'unknown');
  assert.equal(vms[0].state, 'unknown');
  assert.equal(vms[0].unknown_since_ms, server.reportMs);
  assert.equal(vms[0].point?.sequence, 1);
});

test('an RPO violation is recorded at both ends with its exact beginning, and its end', async () => {
  await using sites = await twoSites();
  const { west, east, eastServer } = sites;
  const { replica_id: replicaId } = await west.api<ProtectionView>('POST', '/protections', LEDGER);
  const now = Date.now();
  await eastServer.holds(replicaId!, [now - 60_000]);
  await east.manager.watch.look();
  await east.restart();
  await eastServer.holds(replicaId!, [now - 60_000, now - 200]);
  await east.manager.watch.look();
  const { items } = await east.api<List<{ kind: string; at_ms: number }>>('GET', '/events');
  const turns = items.filter(({ kind }) => kind.startsWith('rpo.'));
  assert.deepEqual(
    turns.map(({ kind, at_ms: atMs }) => [kind, atMs]),
    [
      ['rpo.violation_began', now - 55_000],
      ['rpo.violation_ended', now - 100],
    ],
  );
});

test('a protection is checked at both sites, and nothing is changed by that', async () => {
  await using sites = await twoSites();
  const { west } = sites;
  const check = (query: string) =>
    west.api<{ disks: { key: string }[] }>('GET', `/protection-check?vm=ledger&site=east&${query}`);
  assert.deepEqual(
    (await check('rpo_ms=5000&disks=vda')).disks.map(({ key }) => key),
    ['vda'],
  );
  assert.equal((await check('rpo_ms=5000')).disks.length, 2);
  await assert.rejects(check('rpo_ms=1'), /below the floor/);
  await assert.rejects(check('rpo_ms=5000&disks=vda,vdz'), /no disk "vdz"/);
  assert.equal((await west.api<{ total: number }>('GET', '/protections')).total, 0);
  await west.api('POST', '/protections', { vm: 'ledger', site: 'east', rpo_ms: 5000 });
  await assert.rejects(check('rpo_ms=5000'), /is protected to site east already/);
});
