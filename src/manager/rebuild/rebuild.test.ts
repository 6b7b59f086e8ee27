import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Page } from '#/api/common.ts';
import type { FenceView } from '#/api/fences.ts';
import type { ProtectionView } from '#/api/protections.ts';
import type { RebuildView } from '#/api/rebuild.ts';
import type { ReplicaView } from '#/api/replicas.ts';
import type { RecoveryView } from '#/api/recoveries.ts';
import { hasCode } from '#/lib/failure.ts';
import { doneTask, ledgerVm, pairSites, TestSite, twoSites, VIEW } from '#/manager/site-fixture.ts';
import { isRefused, loseDatabase, protectLedger, rebuild, reportAndTell } from './rebuild-fixture.ts';

async function replicasOf(site: TestSite): Promise<unknown[]> {
  const { items } = await site.api<Page<ReplicaView>>('GET', '/replicas');
  return items.map((item) => ({ ...item, report_ms: 0 }));
}

test('a database that is gone is noticed; programs are turned away, and nothing is told or changed', async () => {
  await using sites = await twoSites();
  const { east, eastAgent, eastServer, west } = sites;
  await protectLedger(sites);
  await loseDatabase(east);
  assert.equal((await east.api<RebuildView>('GET', '/rebuild')).state, 'waiting');
  assert(await isRefused(eastServer));
  assert(await isRefused(eastAgent));
  const view = await east.api<RebuildView>('GET', '/rebuild');
  assert.deepEqual(view.strangers.map(({ kind }) => kind).toSorted(), ['agent', 'replication-server']);
  await assert.rejects(
    east.api('POST', '/recoveries', { vm: 'ledger' }),
    (error: Error) => hasCode(error, 'unreachable') && /was lost/.test(error.message),
  );
  const [mine] = (await west.api<Page<ProtectionView>>('GET', '/protections')).items;
  assert.equal(mine?.state, 'active', 'the other site is not told that its replica is gone');
});

test('east is rebuilt with west alive: the same replica, protection and epochs, and orders as they were', async () => {
  await using sites = await twoSites();
  const { east, eastAgent, eastServer } = sites;
  const protection = await protectLedger(sites);
  const before = await replicasOf(east);
  await loseDatabase(east);
  const { result } = await rebuild(east, [eastAgent, eastServer]);
  assert.deepEqual([result?.replicas, result?.protections], [1, 0]);
  assert.deepEqual(result?.notes, []);
  assert.deepEqual(await replicasOf(east), before);
  const { replicas, revision } = await eastServer.now();
  assert.deepEqual(
    replicas.map((order) => [order.replica_id, order.kept?.protection_id]),
    [[protection.replica_id, protection.id]],
  );
  assert(revision > 1_000_000, 'no number that a program may have had before');
  const hosts = await east.api<Page<{ name: string }>>('GET', '/hosts');
  assert.deepEqual(
    hosts.items.map(({ name }) => name),
    ['east-host'],
  );
});

test('east is rebuilt with west dead, and recovers', async () => {
  await using sites = await twoSites();
  const { east, eastAgent, eastServer, west } = sites;
  await protectLedger(sites);
  await loseDatabase(east);
  await west.stop();
  const { result } = await rebuild(east, [eastAgent, eastServer], { without: ['west'] });
  assert.equal(result?.replicas, 1);
  assert.match(result.notes.join(), /site west was not asked/);
  const job = await east.api<RecoveryView>('POST', '/recoveries', { vm: 'ledger' });
  await eastServer.finish(doneTask((await eastServer.task('open_view')).id, VIEW));
  const task = await eastAgent.task('recover');
  assert(task.kind === 'recover');
  assert.equal(task.epoch, 2);
  assert.equal(task.claim?.epoch, 2);
  assert.equal((await east.api<RecoveryView>('GET', `/recoveries/${job.id}`)).state, 'running');
});

test('no lower epoch than any that somebody knows: of the replica, of a host, or of the other site', async () => {
  await using sites = await twoSites();
  const { east, eastAgent, eastServer, west, westAgent } = sites;
  const { replica_id: replicaId } = await protectLedger(sites);
  await east.api('POST', '/recoveries', { vm: 'ledger', force: true });
  await westAgent.yields(2);
  await eastServer.finish(doneTask((await eastServer.task('open_view')).id, VIEW));
  await eastServer.holds(replicaId!, [Date.now() - 1000], { epoch: 2 });
  await eastAgent.now();
  const claim = (await east.api<Page<FenceView>>('GET', '/fences')).items[0];
  assert.equal(claim?.epoch, 2);
  await loseDatabase(east);
  await rebuild(east, [eastAgent, eastServer]);
  const [again] = (await east.api<Page<FenceView>>('GET', '/fences')).items;
  assert.deepEqual([again?.epoch, again?.is_here], [2, true]);
  const [replica] = (await east.api<Page<ReplicaView>>('GET', '/replicas')).items;
  assert.deepEqual([replica?.state, replica?.epoch], ['recovered', 2]);
  const [mine] = (await west.api<Page<ProtectionView>>('GET', '/protections')).items;
  assert.equal(mine?.state, 'superseded');
});

test('west is rebuilt: its protection comes back from its agent and from east, with or without east', async () => {
  for (const isEastAlive of [true, false]) {
    await using sites = await twoSites();
    const { east, west, westAgent } = sites;
    const protection = await protectLedger(sites);
    await loseDatabase(west);
    if (!isEastAlive) await east.stop();
    const { result } = await rebuild(west, [westAgent], isEastAlive ? {} : { without: ['east'] });
    assert.equal(result?.protections, 1);
    const [again] = (await west.api<Page<ProtectionView>>('GET', '/protections')).items;
    assert.deepEqual(
      [again?.id, again?.state, again?.rpo_ms, again?.retention],
      [protection.id, 'active', protection.rpo_ms, protection.retention],
    );
    const { protections } = await westAgent.now();
    assert.equal(protections[0]?.replica_id, protection.replica_id);
  }
});

test('a program that was removed stays out, and one that an administrator leaves out is not let in', async () => {
  await using sites = await twoSites();
  const { east, eastAgent, eastServer } = sites;
  await protectLedger(sites);
  const gone = await east.agent('gone');
  await loseDatabase(east);
  assert(await isRefused(gone));
  const { id } = gone.client.membership;
  const without = [id];
  await rebuild(east, [eastAgent, eastServer], { without });
  assert(await isRefused(gone));
  const view = await east.api<RebuildView>('GET', '/rebuild');
  assert.deepEqual([view.state, view.strangers.map((one) => one.id)], ['none', [id]]);
  await east.api('POST', '/rebuild', {});
  await reportAndTell(gone);
  assert.equal((await east.api<RebuildView>('POST', '/rebuild', {})).state, 'none');
  await east.api('DELETE', `/hosts/${id}`);
  assert(await isRefused(gone));
  assert.deepEqual((await east.api<RebuildView>('GET', '/rebuild')).strangers, []);
});

test('a late replication server brings its replicas along', async () => {
  await using sites = await twoSites();
  const { east, eastAgent, eastServer, west } = sites;
  await protectLedger(sites);
  await loseDatabase(east);
  await west.stop();
  // Only the replication server knows of the replica, and it is down when the rebuild ends.
  await rebuild(east, [eastAgent], { without: ['west'] });
  assert.equal((await east.api<Page<ReplicaView>>('GET', '/replicas')).total, 0);
  const { result } = await rebuild(east, [eastServer], { without: ['west'] });
  assert.equal(result?.replicas, 1);
});

test('killed anywhere on the way, the rebuild goes on: what was gathered is told again', async () => {
  await using sites = await twoSites();
  const { east, eastAgent, eastServer } = sites;
  await protectLedger(sites);
  await loseDatabase(east);
  assert(await isRefused(eastAgent));
  assert(await isRefused(eastServer));
  await east.api('POST', '/rebuild', {});
  await reportAndTell(eastAgent);
  await east.restart();
  assert.equal((await east.api<RebuildView>('GET', '/rebuild')).state, 'open');
  const held = await eastServer.client.serverOrders(7, AbortSignal.timeout(300)).catch(() => 'held');
  assert.equal(held, 'held', 'no orders before the end');
  await reportAndTell(eastServer);
  await east.restart();
  await reportAndTell(eastAgent);
  await reportAndTell(eastServer);
  assert.equal((await east.api<RebuildView>('POST', '/rebuild', {})).state, 'none');
  assert.equal((await east.api<Page<ReplicaView>>('GET', '/replicas')).total, 1);
});

test('with the keys lost as well, a new site takes in what stands beside the replicas', async () => {
  await using sites = await twoSites();
  const { east, eastServer, west } = sites;
  const protection = await protectLedger(sites);
  const [order] = eastServer.orders!.replicas;
  await using fresh = await TestSite.start('east-again');
  await pairSites(fresh, west);
  await east.stop();
  const server = await fresh.server('east-server');
  server.beside = [order!];
  await server.holds(protection.replica_id!, [Date.now() - 1000], { epoch: 3 });
  await fresh.api('POST', '/rebuild', {});
  await reportAndTell(server);
  const { result } = await fresh.api<RebuildView>('POST', '/rebuild', {});
  assert.equal(result?.replicas, 1);
  const [replica] = (await fresh.api<Page<ReplicaView>>('GET', '/replicas')).items;
  assert.deepEqual([replica?.id, replica?.state, replica?.epoch], [protection.replica_id, 'kept', 3]);
});

test('an administrator may start empty instead; a site that lost nothing rebuilds nothing', async () => {
  await using sites = await twoSites();
  const { east, eastServer, west } = sites;
  await assert.rejects(west.api('POST', '/rebuild', {}), /no program of this site asks/);
  await assert.rejects(west.api('POST', '/rebuild/abandon'), /waits for no rebuild/);
  await protectLedger(sites);
  await loseDatabase(east);
  assert.equal((await east.api<RebuildView>('POST', '/rebuild/abandon')).state, 'none');
  assert(await isRefused(eastServer));
  const agent = await east.agent('new-host');
  agent.report.vms = [ledgerVm()];
  await agent.send();
});
