/** One VM with replicas at two sites: who knows of whom once the protected one is gone, as three real managers agree. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { FenceView } from '#/api/fences.ts';
import type { ProtectionView } from '#/api/protections.ts';
import type { RecoveryView } from '#/api/recoveries.ts';
import type { ReplicaView } from '#/api/replicas.ts';
import { recordReprotection } from './record-reprotection.ts';
import { doneTask, ledgerVm, pairSites, TestSite, twoSites, VIEW } from './site-fixture.ts';

/** Two sites and north, each paired with each; ledger of west is protected to both, with two points at each. */
async function threeSites() {
  const sites = await twoSites();
  const north = await TestSite.start('north');
  await pairSites(north, sites.west);
  await pairSites(north, sites.east);
  const northAgent = await north.agent('north-host');
  await northAgent.send();
  const northServer = await north.server('north-server');
  await northServer.send();
  const toEast = await protect(sites.west, { site: 'east', rpo_ms: 5000 });
  const toNorth = await protect(sites.west, { site: 'north', rpo_ms: 60_000 });
  await sites.eastServer.holds(toEast.replica_id!, [Date.now() - 2000, Date.now() - 1000]);
  await sites.eastServer.poll();
  await northServer.holds(toNorth.replica_id!, [Date.now() - 9000, Date.now() - 8000]);
  for (const peer of await sites.west.manager.peers.list()) {
    await sites.west.manager.protections.reconcile(peer);
  }
  return {
    ...sites,
    north,
    northAgent,
    northServer,
    toNorth,
    async [Symbol.asyncDispose]() {
      await north[Symbol.asyncDispose]();
      await sites[Symbol.asyncDispose]();
    },
  };
}

type Sites = Awaited<ReturnType<typeof threeSites>>;

async function protect(site: TestSite, change: object): Promise<ProtectionView> {
  return await site.api<ProtectionView>('POST', '/protections', { vm: 'ledger', rpo_ms: 5000, ...change });
}

/** West is gone, and east runs the VM. */
async function recoveredAtEast({ west, east, eastAgent, eastServer }: Sites): Promise<void> {
  await west.stop();
  const started = await east.api<RecoveryView>('POST', '/recoveries', { vm: 'ledger' });
  await eastServer.finish(doneTask((await eastServer.task('open_view')).id, VIEW));
  await eastAgent.finish(doneTask((await eastAgent.task('recover')).id));
  eastAgent.report.vms = [ledgerVm({ recovered_by_task: `${started.id}-recover` })];
  await eastAgent.send();
  await eastServer.finish(doneTask((await eastServer.task('close_view')).id));
  await until(east, async () => {
    const { state } = await east.api<RecoveryView>('GET', `/recoveries/${started.id}`);
    return state === 'done' ? true : undefined;
  });
}

async function until<T>(site: TestSite, ask: () => Promise<T | undefined>): Promise<T> {
  const signal = AbortSignal.timeout(30_000);
  for (;;) {
    signal.throwIfAborted();
    const news = site.manager.context.changes.next(['jobs', 'orders', 'reports'], 200, signal);
    const answer = await ask();
    if (answer !== undefined) return answer;
    await news;
  }
}

async function fenceAt(site: TestSite): Promise<FenceView | undefined> {
  return (await site.api<{ items: FenceView[] }>('GET', '/fences')).items[0];
}

async function replicaAt(site: TestSite): Promise<ReplicaView> {
  return (await site.api<{ items: ReplicaView[] }>('GET', '/replicas')).items[0]!;
}

test('the third site is told who runs the VM, takes nothing more of the old copy, and brings up no second one', async () => {
  await using sites = await threeSites();
  const { east, north, northServer } = sites;
  await recoveredAtEast(sites);
  const fence = await until(north, async () => {
    const known = await fenceAt(north);
    return known?.epoch === 2 ? known : undefined;
  });
  assert.equal(fence.site_name, 'east');
  const { epoch } = (await northServer.now()).replicas[0]!;
  assert.equal(epoch, 2, 'sessions of west are refused from now on');
  await assert.rejects(north.api('POST', '/recoveries', { vm: 'ledger' }), {
    code: 'conflict',
    message: /is running at site east, on host east-host/,
  });
  assert.equal((await fenceAt(east))?.epoch, 2, 'what was refused has changed nothing');
});

test('by force the copy of the second site yields before the third brings the VM up', async () => {
  await using sites = await threeSites();
  const { eastAgent, north, northServer } = sites;
  await recoveredAtEast(sites);
  await until(north, async () => ((await fenceAt(north))?.epoch === 2 ? true : undefined));
  const started = await north.api<RecoveryView>('POST', '/recoveries', { vm: 'ledger', force: true });
  await eastAgent.yields(3);
  await northServer.task('open_view');
  const view = await north.api<RecoveryView>('GET', `/recoveries/${started.id}`);
  const step = view.steps.find(({ name }) => name === 'stop_source');
  assert.match(step?.details[0]?.name ?? '', /does not answer.*; the copy at site east yields: .* paused/);
});

test('a plan of the third site leaves out a VM that the second one runs, and says who does', async () => {
  await using sites = await threeSites();
  const { north } = sites;
  await north.api('POST', '/groups', { name: 'all', site: 'west', vms: ['ledger'] });
  await north.api('POST', '/plans', { name: 'all', groups: ['all'] });
  await recoveredAtEast(sites);
  await until(north, async () => ((await fenceAt(north))?.epoch === 2 ? true : undefined));
  const check = await north.api<{ is_possible: boolean; refusals: { message: string }[] }>(
    'POST',
    '/runs/check',
    { plan: 'all', kind: 'disaster' },
  );
  assert.equal(check.is_possible, false);
  assert.match(check.refusals.map(({ message }) => message).join(), /runs at site east since epoch 2/);
});

test('the second site takes the replica of the third over, with its points, and no other site can', async () => {
  await using sites = await threeSites();
  const { east, eastAgent, north, northServer, toNorth } = sites;
  await assert.rejects(protect(east, { site: 'north' }), { code: 'not_found' }, 'east runs no such VM yet');
  await recoveredAtEast(sites);
  const view = await protect(east, { site: 'north' });
  assert.deepEqual([view.state, view.replica_id, view.epoch], ['active', toNorth.replica_id, 2]);
  const order = (await northServer.now()).replicas[0]!;
  const eastId = east.manager.context.identity.siteId;
  assert.deepEqual([order.source_site_id, order.epoch], [eastId, 2]);
  const { protections } = await eastAgent.now();
  assert.equal(protections[0]?.replica_id, toNorth.replica_id);
  assert.equal((await replicaAt(north)).source_site_name, 'east');
  await assert.rejects(
    north.api('POST', '/recoveries', { vm: 'ledger', force: true }),
    { code: 'conflict', message: /the newest point of ledger is the old copy, not the VM as it runs now/ },
    'points of west are not brought up unasked',
  );
});

test('a VM that has come home is protected to all sites again that it was protected to', async () => {
  await using sites = await threeSites();
  const { east, west, westAgent } = sites;
  await recoveredAtEast(sites);
  await west.restart();
  await westAgent.yields(2);
  const westServer = await west.server('west-server');
  await westServer.send();
  const away = await east.api<ProtectionView>('POST', '/reprotections', { vm: 'ledger' });
  const { context } = west.manager;
  const vm = { replicaId: away.replica_id!, vmName: 'ledger', hostId: 'west-host', disks: [] };
  await context.db.transaction().execute((at) => recordReprotection(at, context, vm));
  const { items } = await west.api<{ items: ProtectionView[] }>('GET', '/protections');
  assert.deepEqual(
    items
      .map(({ site_name, state, rpo_ms }) => [site_name, state, rpo_ms])
      .toSorted((a, b) => String(a).localeCompare(String(b))),
    [
      ['east', 'requested', 5000],
      ['north', 'requested', 60_000],
    ],
  );
});
