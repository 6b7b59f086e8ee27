/** Which site runs a VM, as two real managers agree on it, and what their hosts are told. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { FenceView } from '#/api/fences.ts';
import type { Vm } from '#/api/inventory.ts';
import type { ProtectionView } from '#/api/protections.ts';
import type { RecoveryView } from '#/api/recoveries.ts';
import { verifyClaim } from '#/lib/epoch-claim.ts';
import { X509Certificate } from 'node:crypto';
import {
  doneTask,
  failedTask,
  ledgerVm,
  LEDGER_UUID,
  twoSites,
  VIEW,
  type TestSite,
} from './site-fixture.ts';

type Sites = Awaited<ReturnType<typeof twoSites>>;

async function protectedLedger({ west, eastServer }: Sites): Promise<string> {
  const request = { vm: 'ledger', site: 'east', rpo_ms: 5000 };
  const view = await west.api<ProtectionView>('POST', '/protections', request);
  await eastServer.holds(view.replica_id!, [Date.now() - 2000, Date.now() - 1000]);
  await eastServer.poll();
  return view.replica_id!;
}

/** east runs ledger; the step that west is asked in is done. Resolves with the recovery. */
async function recovered(sites: Sites, epoch: number): Promise<RecoveryView> {
  const { east, eastAgent, eastServer, westAgent } = sites;
  const started = await east.api<RecoveryView>('POST', '/recoveries', { vm: 'ledger', force: true });
  await westAgent.yields(epoch);
  await eastServer.finish(doneTask((await eastServer.task('open_view')).id, VIEW));
  await eastAgent.finish(doneTask((await eastAgent.task('recover')).id));
  eastAgent.report.vms = [ledgerVm({ recovered_by_task: `${started.id}-recover` })];
  await eastAgent.send();
  await eastServer.finish(doneTask((await eastServer.task('close_view')).id));
  return await ended(east, started.id);
}

async function ended(site: TestSite, id: string): Promise<RecoveryView> {
  return await eventually(async () => {
    const view = await site.api<RecoveryView>('GET', `/recoveries/${id}`);
    return ['running', 'cleaning'].includes(view.state) ? undefined : view;
  }, site);
}

async function eventually<T>(ask: () => Promise<T | undefined>, site: TestSite): Promise<T> {
  const signal = AbortSignal.timeout(20_000);
  for (;;) {
    signal.throwIfAborted();
    const news = site.manager.context.changes.next(['jobs', 'orders', 'reports'], 200, signal);
    const answer = await ask();
    if (answer !== undefined) return answer;
    await news;
  }
}

async function fenceAt(site: TestSite): Promise<FenceView> {
  const { items } = await site.api<{ items: FenceView[] }>('GET', '/fences');
  assert.equal(items.length, 1);
  return items[0]!;
}

test('a protected VM is claimed by its site, signed, for the host that has it', async () => {
  await using sites = await twoSites();
  await protectedLedger(sites);
  const { claims, trust } = await sites.westAgent.now();
  const west = sites.west.manager.context.identity.siteId;
  assert.deepEqual(
    claims?.map(({ claim, is_here }) => [claim.vm_uuid, claim.epoch, claim.site_id, is_here]),
    [[LEDGER_UUID, 1, west, true]],
  );
  const ca = trust.find(({ site_id: id }) => id === west)!.ca_pem;
  verifyClaim(claims![0]!.claim, [{ siteId: west, certificate: new X509Certificate(ca) }]);
});

test('a forced recovery does not bring the VM up before the copy that runs has yielded', async () => {
  await using sites = await twoSites();
  const { east, west, eastAgent, eastServer, westAgent } = sites;
  await protectedLedger(sites);
  const started = await east.api<RecoveryView>('POST', '/recoveries', { vm: 'ledger', force: true });
  const order = await eventually(
    async () => (await westAgent.now()).claims?.find(({ claim }) => claim.epoch === 2),
    west,
  );
  assert.equal(order.is_here, false);
  assert.deepEqual(westAgent.orders?.protections, [], 'what yields is not replicated');
  assert.deepEqual((await eastServer.now()).tasks, [], 'no view is opened before');
  assert.deepEqual((await eastAgent.now()).tasks, []);
  await westAgent.yields(2);
  await eastServer.finish(doneTask((await eastServer.task('open_view')).id, VIEW));
  const recover = await eastAgent.task('recover');
  assert(recover.kind === 'recover');
  assert.deepEqual(recover.claim, order.claim);
  const view = await east.api<RecoveryView>('GET', `/recoveries/${started.id}`);
  const step = view.steps.find(({ name }) => name === 'stop_source');
  assert.match(step?.details[0]?.name ?? '', /copy at site west yields: on host west-host it is paused/);
  const vms = await west.api<{ items: Vm[] }>('GET', '/vms');
  assert.deepEqual(
    { ...vms.items[0]?.fence, yielded_ms: 0 },
    { epoch: 2, site_name: 'east', state: 'yielded', yielded_ms: 0 },
  );
  const status = await west.api<{ vms: { state: string; notices: string[] }[] }>('GET', '/status');
  assert.equal(status.vms[0]?.state, 'superseded');
  assert.match(status.vms[0].notices[0] ?? '', /runs at site east since epoch 2; the copy here has yielded/);
});

test('a site that does not say that its copy yields is waited for, and the recovery goes on with a warning', async () => {
  await using sites = await twoSites();
  const { east, west, westAgent } = sites;
  await protectedLedger(sites);
  westAgent.report.host.libvirt_failure = { code: 'unreachable', message: 'no libvirtd', hint: null };
  const fence = {
    vm_uuid: LEDGER_UUID,
    vm_name: 'ledger',
    site_id: 'x',
    state: 'failing',
    vm_state: '',
  } as const;
  const failure = { code: 'unreachable', message: 'ask libvirt', hint: null };
  westAgent.report.fences = [{ ...fence, epoch: 2, yielded_ms: null, failure }];
  await westAgent.send();
  const started = await east.api<RecoveryView>('POST', '/recoveries', { vm: 'ledger', force: true });
  const note = await eventually(async () => {
    const view = await east.api<RecoveryView>('GET', `/recoveries/${started.id}`);
    return view.steps.find(({ name }) => name === 'stop_source')?.details[0]?.name;
  }, east);
  assert.match(note, /WARNING, two copies may run: the copy on host west-host may run: ask libvirt/);
  assert.equal((await fenceAt(west)).copies[0]?.state, 'failing');
});

test('a site that was away when its VM was recovered is told within seconds of its return', async () => {
  await using sites = await twoSites();
  const { east, west, eastServer, westAgent } = sites;
  await protectedLedger(sites);
  await west.stop();
  const started = await east.api<RecoveryView>('POST', '/recoveries', { vm: 'ledger' });
  await eastServer.task('open_view');
  const view = await east.api<RecoveryView>('GET', `/recoveries/${started.id}`);
  const note = view.steps.find(({ name }) => name === 'stop_source')?.details[0]?.name;
  assert.match(
    note ?? '',
    /the protected site does not answer: if its copy runs, it yields when the site is back/,
  );
  await west.restart();
  const order = await westAgent.yields(2);
  assert.equal(order.claim.site_id, east.manager.context.identity.siteId);
  assert.equal((await fenceAt(west)).site_name, 'east');
});

test('only a site that has a copy may claim a VM, and only in its own name', async () => {
  await using sites = await twoSites();
  const { east, west } = sites;
  const claim = await east.manager.context.authority.sign({
    vm_uuid: LEDGER_UUID,
    epoch: 7,
    site_id: east.manager.context.identity.siteId,
    issued_ms: Date.now(),
  });
  const hear = (told: typeof claim): ReturnType<typeof west.manager.claims.hear> =>
    west.manager.claims.hear(
      east.manager.context.identity.siteId,
      { claims: [{ claim: told, vm_name: 'ledger' }], wait_ms: 0 },
      AbortSignal.timeout(5000),
    );
  const [unrelated] = await hear(claim);
  assert.deepEqual([unrelated?.state, /keeps no replica/.test(unrelated?.message ?? '')], ['refused', true]);
  await protectedLedger(sites);
  const inWestsName = { ...claim, site_id: west.manager.context.identity.siteId };
  for (const forged of [inWestsName, { ...claim, epoch: 8 }]) {
    const [answer] = await hear(forged);
    assert.deepEqual([answer?.state, /not signed/.test(answer?.message ?? '')], ['refused', true]);
  }
  assert.equal((await fenceAt(west)).epoch, 1);
  const [believed] = await hear(claim);
  assert.equal(believed?.state, 'pending');
  assert.equal((await fenceAt(west)).epoch, 7);
});

test('a release is refused while the VM runs at the other site, and raises the epoch over it when forced', async () => {
  await using sites = await twoSites();
  const { east, west, eastAgent, westAgent } = sites;
  await protectedLedger(sites);
  assert.equal((await recovered(sites, 2)).state, 'done');
  const release = (body: object): Promise<FenceView> => west.api('POST', '/fences/ledger/release', body);
  await assert.rejects(release({}), { code: 'conflict', message: /running at site east/, hint: /--force/ });
  const protect = { vm: 'ledger', site: 'east', rpo_ms: 5000 };
  await assert.rejects(west.api('POST', '/protections', protect), {
    code: 'conflict',
    message: /runs at site east since epoch 2/,
    hint: /fence release/,
  });
  await assert.rejects(west.api('POST', '/fences/nobody/release', {}), { code: 'not_found' });
  const view = await release({ force: true });
  assert.deepEqual([view.epoch, view.site_name, view.is_here], [3, 'west', true]);
  const here = (await westAgent.now()).claims?.[0];
  assert.deepEqual([here?.claim.epoch, here?.is_here], [3, true]);
  // The copy of east yields in turn.
  await eastAgent.yields(3);
  assert.deepEqual(
    (await fenceAt(east)).copies.map(({ state }) => state),
    ['yielded'],
  );
  const audit = await west.api<{ items: { action: string; outcome: string }[] }>('GET', '/audit');
  const released = audit.items.filter(({ action }) => action.endsWith('/fences/ledger/release'));
  assert.deepEqual(released.map(({ outcome }) => outcome).toSorted(), ['conflict', 'ok']);
  // Once that copy is gone, the VM is protected again, to the replica that it left.
  eastAgent.report.vms = [];
  eastAgent.report.fences = [];
  await eastAgent.send();
  const again = await west.api<ProtectionView>('POST', '/protections', protect);
  assert.deepEqual([again.state, again.epoch], ['active', 3]);
});

test('a release is refused while nobody can be asked, and never done unasked', async () => {
  await using sites = await twoSites();
  const { east, west, westAgent } = sites;
  await protectedLedger(sites);
  await recovered(sites, 2);
  await east.stop();
  const release = west.api('POST', '/fences/ledger/release', {});
  await assert.rejects(release, { code: 'unreachable', message: /not known/, hint: /--force/ });
  await west.restart();
  assert.equal((await westAgent.now()).claims?.[0]?.claim.epoch, 2, 'a restart keeps what was known');
});

test('a recovery that was taken back claims nothing more, and its epoch is never used again', async () => {
  await using sites = await twoSites();
  const { east, west, eastAgent, eastServer } = sites;
  await protectedLedger(sites);
  await west.stop();
  const started = await east.api<RecoveryView>('POST', '/recoveries', { vm: 'ledger' });
  await eastServer.finish(doneTask((await eastServer.task('open_view')).id, VIEW));
  await eastAgent.finish(failedTask((await eastAgent.task('recover')).id, 'no such machine type'));
  assert.equal((await ended(east, started.id)).state, 'failed');
  await east.api('POST', `/recoveries/${started.id}/cleanup`);
  await eastAgent.finish(doneTask((await eastAgent.task('discard')).id));
  await eastServer.finish(doneTask((await eastServer.task('close_view')).id));
  assert.equal((await ended(east, started.id)).state, 'cleaned');
  assert.deepEqual((await eastAgent.now()).claims, []);
  const again = await east.api<RecoveryView>('POST', '/recoveries', { vm: 'ledger' });
  assert.equal(again.epoch, 3);
});

test('a recovered VM that is protected the other way carries its epoch along', async () => {
  await using sites = await twoSites();
  const { east, west, eastAgent, westAgent } = sites;
  await protectedLedger(sites);
  await recovered(sites, 2);
  const westServer = await west.server('west-server');
  await westServer.send();
  // The old copy was removed by a person.
  westAgent.report.vms = [];
  westAgent.report.fences = [];
  await westAgent.send();
  const back = { vm: 'ledger', site: 'west', rpo_ms: 5000 };
  const view = await east.api<ProtectionView>('POST', '/protections', back);
  assert.deepEqual([view.state, view.epoch], ['active', 2]);
  assert.equal((await westServer.now()).replicas[0]?.epoch, 2);
  const order = (await eastAgent.now()).claims?.[0];
  assert.deepEqual([order?.claim.epoch, order?.is_here], [2, true]);
  await westServer.holds(view.replica_id!, [Date.now() - 1000]);
  const home = await west.api<RecoveryView>('POST', '/recoveries', { vm: 'ledger', force: true });
  assert.equal(home.epoch, 3);
});

test('when a recovery fails after the old copy has yielded, a person lets that copy run again without force', async () => {
  await using sites = await twoSites();
  const { east, west, eastAgent, eastServer, westAgent } = sites;
  await protectedLedger(sites);
  const started = await east.api<RecoveryView>('POST', '/recoveries', { vm: 'ledger', force: true });
  await westAgent.yields(2);
  await eastServer.finish(doneTask((await eastServer.task('open_view')).id, VIEW));
  await eastAgent.finish(failedTask((await eastAgent.task('recover')).id, 'no such machine type'));
  await ended(east, started.id);
  await east.api('POST', `/recoveries/${started.id}/cleanup`);
  await eastAgent.finish(doneTask((await eastAgent.task('discard')).id));
  await eastServer.finish(doneTask((await eastServer.task('close_view')).id));
  assert.equal((await ended(east, started.id)).state, 'cleaned');
  const { items } = await east.api<{ items: { kind: string; message: string }[] }>('GET', '/events');
  const told = items.find(({ kind }) => kind === 'recovery.claim_withdrawn');
  assert.match(told?.message ?? '', /antipode fence release ledger/);
  assert.equal((await westAgent.now()).claims?.[0]?.claim.epoch, 2, 'nothing is released by itself');
  const view = await west.api<FenceView>('POST', '/fences/ledger/release', {});
  assert.deepEqual([view.epoch, view.is_here], [3, true]);
  const request = { vm: 'ledger', site: 'east', rpo_ms: 5000 };
  const again = await west.api<ProtectionView>('POST', '/protections', request);
  assert.deepEqual([again.state, again.epoch], ['active', 3]);
});
