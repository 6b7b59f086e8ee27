/** Protecting a recovered VM back to where it came from, as two real managers agree on it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ProtectionView } from '#/api/protections.ts';
import type { RecoveryView } from '#/api/recoveries.ts';
import type { SeedView } from '#/api/reprotections.ts';
import type { SeedResult, SeedTask } from '#/control/seed-tasks.ts';
import {
  doneTask,
  failedTask,
  GIB,
  ledgerVm,
  twoSites,
  VIEW,
  type FakeAgent,
  type TestSite,
} from './site-fixture.ts';

const RESULT: SeedResult = {
  sequence: 1,
  moment_ms: 1_795_377_600_000,
  read_bytes: GIB,
  changed_bytes: GIB,
  only_here: {
    sequence: 7,
    after_ms: 1_795_377_500_000,
    until_ms: 1_795_377_600_000,
    bytes: 8192,
    extent_count: 1,
    extents: [{ disk: 'vda', offset: 4096, length: 8192 }],
  },
  only_here_note: null,
};

/** east has recovered ledger; west has its old copy, and a replication server. */
async function failedOver(change: { reprotect?: boolean } = {}) {
  const sites = await twoSites();
  const { east, west, eastAgent, eastServer, westAgent } = sites;
  const request = { vm: 'ledger', site: 'east', rpo_ms: 5000 };
  const former = await west.api<ProtectionView>('POST', '/protections', request);
  await eastServer.holds(former.replica_id!, [Date.now() - 2000, Date.now() - 1000]);
  await eastServer.poll();
  const westServer = await west.server('west-server');
  await westServer.send();
  const started = await east.api<RecoveryView>('POST', '/recoveries', {
    vm: 'ledger',
    force: true,
    ...change,
  });
  await westAgent.yields(2);
  await eastServer.finish(doneTask((await eastServer.task('open_view')).id, VIEW));
  await eastAgent.finish(doneTask((await eastAgent.task('recover')).id));
  eastAgent.report.vms = [ledgerVm({ recovered_by_task: `${started.id}-recover` })];
  await eastAgent.send();
  await eastServer.finish(doneTask((await eastServer.task('close_view')).id));
  await until(east, async () => {
    const { state } = await east.api<RecoveryView>('GET', `/recoveries/${started.id}`);
    return state === 'done' ? true : undefined;
  });
  return { ...sites, westServer, former };
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

async function seedTask(agent: FakeAgent): Promise<SeedTask> {
  for (;;) {
    const task = agent.orders?.tasks.find((known) => known.kind === 'seed');
    if (task !== undefined) return task;
    await agent.poll();
  }
}

async function protectionAt(site: TestSite, state: string): Promise<ProtectionView> {
  return await until(site, async () => {
    const { items } = await site.api<{ items: ProtectionView[] }>('GET', '/protections');
    return items.find((view) => view.state === state);
  });
}

test('a recovered VM is reprotected from its old copy: that is filled in at home before the other site writes', async () => {
  await using sites = await failedOver();
  const { east, west, westAgent, westServer, former } = sites;
  const view = await east.api<ProtectionView>('POST', '/reprotections', { vm: 'ledger' });
  assert.deepEqual([view.state, view.rpo_ms, view.site_name], ['seeding', 5000, 'west']);
  const task = await seedTask(westAgent);
  assert.deepEqual(
    [task.replica_id, task.epoch, task.disks, task.former_replica_id],
    [view.replica_id, 2, ['vda', 'vdb'], former.replica_id],
  );
  assert.deepEqual((await westAgent.now()).kept_records, [former.replica_id]);
  const westId = west.manager.context.identity.siteId;
  const eastId = east.manager.context.identity.siteId;
  const seeding = (await westServer.now()).replicas[0];
  assert.deepEqual([seeding?.source_site_id, seeding?.writer_site_id], [eastId, westId]);
  assert.deepEqual((await sites.eastAgent.now()).protections, [], 'east does not write yet');
  await westAgent.finish(doneTask(task.id, RESULT));
  const active = await protectionAt(east, 'active');
  assert.equal(active.replica_id, view.replica_id);
  assert.equal((await westServer.now()).replicas[0]?.writer_site_id, undefined);
  assert.equal((await sites.eastAgent.now()).protections[0]?.replica_id, view.replica_id);
  const seed = await west.api<SeedView>('GET', '/seeds/ledger');
  assert.deepEqual([seed.state, seed.sequence, seed.only_here?.bytes], ['active', 1, 8192]);
  assert.match(seed.note ?? '', /8192 bytes of it, in 1 places, were written after point 7/);
});

test('a copy that cannot be used, or fails, costs a first copy, and that is said', async () => {
  await using sites = await failedOver();
  const { east, west, westAgent } = sites;
  await east.api<ProtectionView>('POST', '/reprotections', { vm: 'ledger' });
  await westAgent.finish(failedTask((await seedTask(westAgent)).id, 'the image is gone'));
  await protectionAt(east, 'active');
  const seed = await west.api<SeedView>('GET', '/seeds/ledger');
  assert.match(seed.note ?? '', /failed: the image is gone; everything is copied/);
  await east.api('DELETE', '/protections/ledger?delete_replica=false');
  westAgent.report.vms = [ledgerVm({ state: 'paused', disks: [] })];
  await westAgent.send();
  const again = await east.api<ProtectionView>('POST', '/reprotections', { vm: 'ledger' });
  assert.equal(again.state, 'active');
  const { note } = await west.api<SeedView>('GET', '/seeds/ledger');
  assert.match(note ?? '', /has no disk of the same name and size: everything is copied/);
});

test('what is not asked for is refused: a plain protection keeps off the old copy, and a VM at home is not reprotected', async () => {
  await using sites = await failedOver();
  const { east, west, westAgent } = sites;
  const back = { vm: 'ledger', site: 'west', rpo_ms: 5000 };
  await assert.rejects(east.api('POST', '/protections', back), /has the old copy of VM ledger still/);
  westAgent.report.fences = [];
  await westAgent.send();
  await assert.rejects(east.api('POST', '/reprotections', { vm: 'ledger' }), /has not yielded/);
  await assert.rejects(west.api('POST', '/reprotections', { vm: 'ledger' }), /keeps no replica/);
});

test('a filling that is not waited for any more is taken back', async () => {
  await using sites = await failedOver();
  const { east, westAgent } = sites;
  await east.api<ProtectionView>('POST', '/reprotections', { vm: 'ledger' });
  await seedTask(westAgent);
  await east.api('DELETE', '/protections/ledger');
  await until(sites.west, async () => {
    const { tasks } = await westAgent.now();
    return tasks.length === 0 ? true : undefined;
  });
});

test('both managers are killed while the replica is filled: it goes on, once', async () => {
  await using sites = await failedOver();
  const { east, west, westAgent } = sites;
  const view = await east.api<ProtectionView>('POST', '/reprotections', { vm: 'ledger' });
  const task = await seedTask(westAgent);
  await west.restart();
  await east.restart();
  for (const program of [westAgent, sites.westServer, sites.eastAgent, sites.eastServer])
    await program.send();
  const { tasks } = await westAgent.now();
  assert.deepEqual(
    tasks.map(({ id }) => id),
    [task.id],
  );
  await westAgent.finish(doneTask(task.id, RESULT));
  const active = await protectionAt(east, 'active');
  assert.equal(active.replica_id, view.replica_id);
});

test('a recovery that is to be reprotected is, by itself, with the settings of before', async () => {
  await using sites = await failedOver({ reprotect: true });
  const seeding = await protectionAt(sites.east, 'seeding');
  assert.deepEqual([seeding.vm_name, seeding.site_name, seeding.rpo_ms], ['ledger', 'west', 5000]);
  assert.equal((await seedTask(sites.westAgent)).replica_id, seeding.replica_id);
});

test('an old copy is no state of the VM: a recovery from it has to name the point', async () => {
  await using sites = await failedOver();
  const { east, west, westAgent, westServer } = sites;
  const view = await east.api<ProtectionView>('POST', '/reprotections', { vm: 'ledger' });
  const again = { vm: 'ledger', force: true };
  await westServer.holds(view.replica_id!, [RESULT.moment_ms]);
  await assert.rejects(west.api('POST', '/recoveries', again), /the newest point of ledger is the old copy/);
  await westAgent.finish(doneTask((await seedTask(westAgent)).id, RESULT));
  await protectionAt(east, 'active');
  await assert.rejects(west.api('POST', '/recoveries', again), /is the old copy, not the VM as it runs now/);
  await westServer.holds(view.replica_id!, [RESULT.moment_ms, Date.now() - 1000]);
  const home = await west.api<RecoveryView>('POST', '/recoveries', again);
  assert.deepEqual([home.epoch, home.name], [3, 'ledger'], 'its old copy here is not in the way');
});
