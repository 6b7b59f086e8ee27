import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ProtectionChangeCheck, ProtectionView } from '#/api/protections.ts';
import type { ReplicaView } from '#/api/replicas.ts';
import { ledgerVm, TestSite, twoSites } from './site-fixture.ts';

const LEDGER = { vm: 'ledger', site: 'east', rpo_ms: 5000, disks: ['vda'] };
const MINUTE_MS = 60_000;

async function sync(from: TestSite, to: string): Promise<void> {
  await from.manager.protectionChanges.tell(await from.manager.peers.find(to));
}

test('how a VM is protected is changed in place: both sites know, and agent and server get other orders', async () => {
  await using sites = await twoSites();
  const { west, east, westAgent, eastServer } = sites;
  const { replica_id: replicaId, revision } = await west.api<ProtectionView>('POST', '/protections', LEDGER);
  const retention = { keep_all_ms: MINUTE_MS, tiers: [] };
  const change = { revision, rpo_ms: 30_000, retention, disks: ['vda', 'vdb'], scratch_bytes: 2 ** 31 };
  const after = await west.api<ProtectionView>('POST', '/protections/ledger', change);
  assert.deepEqual([after.revision, after.told_revision, after.rpo_ms], [2, 2, 30_000]);

  const order = (await westAgent.now()).protections[0]!;
  assert.equal(order.replica_id, replicaId, 'the same replica: nothing is copied again');
  assert.deepEqual([order.rpo_ms, order.disks, order.scratch_bytes], [30_000, ['vda', 'vdb'], 2 ** 31]);
  assert.deepEqual((await eastServer.now()).replicas[0]?.retention, retention);
  const replica = await east.api<ReplicaView>('GET', '/replicas/ledger');
  assert.deepEqual([replica.rpo_ms, replica.retention], [30_000, retention]);
  assert.deepEqual(
    replica.disks.map(({ key }) => key),
    ['vda', 'vdb'],
  );
});

test('a change is of the revision that its maker saw, and one that changes nothing makes none', async () => {
  await using sites = await twoSites();
  const { west } = sites;
  await west.api('POST', '/protections', LEDGER);
  const set = (body: object) => west.api<ProtectionView>('POST', '/protections/ledger', body);
  assert.equal((await set({ revision: 1, rpo_ms: 5000 })).revision, 1);
  assert.equal((await set({ revision: 1, rpo_ms: 9000 })).revision, 2);
  await assert.rejects(set({ revision: 1, rpo_ms: 7000 }), {
    code: 'conflict',
    message: /revision 2 by now/,
  });
  await assert.rejects(set({ revision: 2, rpo_ms: 10 }), { code: 'usage_invalid' });
  await assert.rejects(set({ revision: 2, disks: ['vdz'] }), { code: 'not_found', hint: /vda, vdb/ });
  assert.equal((await west.api<ProtectionView>('GET', '/protections/ledger')).rpo_ms, 9000);
});

test('the other site is told of a change once it is there again, of the newest only, and nothing old undoes it', async () => {
  await using sites = await twoSites();
  const { west, east } = sites;
  const { id } = await west.api<ProtectionView>('POST', '/protections', LEDGER);
  await east.stop();
  const untold = await west.api<ProtectionView>('POST', '/protections/ledger', { revision: 1, rpo_ms: 8000 });
  assert.deepEqual([untold.revision, untold.told_revision], [2, 1]);
  await west.api('POST', '/protections/ledger', { revision: 2, rpo_ms: 9000 });
  await east.restart();
  await sites.eastServer.send();
  await sync(west, 'east');
  const told = await west.api<ProtectionView>('GET', '/protections/ledger');
  assert.deepEqual([told.revision, told.told_revision], [3, 3]);
  assert.equal((await east.api<ReplicaView>('GET', '/replicas/ledger')).rpo_ms, 9000);

  const peer = await west.manager.peers.find('east');
  const old = { protection_id: id, revision: 2, rpo_ms: 8000, retention: told.retention };
  const { ReplicaChanged } = await import('#/api/peer.ts');
  const call = { method: 'POST', path: '/peer/v1/replicas/change', body: old } as const;
  const answer = await west.manager.peers.call(peer, call, ReplicaChanged);
  assert.deepEqual(answer, { revision: 3, is_taken: false });
  assert.equal((await east.api<ReplicaView>('GET', '/replicas/ledger')).rpo_ms, 9000);
});

test('a site that was rebuilt changes a protection whose revision the other site has counted further', async () => {
  await using sites = await twoSites();
  const { west, east } = sites;
  await west.api('POST', '/protections', LEDGER);
  await east.manager.context.db.updateTable('replicas').set({ revision: 7 }).execute();
  await west.api('POST', '/protections/ledger', { revision: 1, rpo_ms: 8000 });
  await sync(west, 'east');
  const view = await west.api<ProtectionView>('GET', '/protections/ledger');
  assert.deepEqual([view.revision, view.told_revision], [8, 8]);
  assert.equal((await east.api<ReplicaView>('GET', '/replicas/ledger')).rpo_ms, 8000);
});

test('what a change costs is said before: points that go, disks that are copied, cycles that are too long', async () => {
  await using sites = await twoSites();
  const { west, westAgent, eastServer } = sites;
  const protection = await west.api<ProtectionView>('POST', '/protections', LEDGER);
  const nowMs = Date.now();
  const moments = [50, 40, 30, 20, 10, 1].map((minutes) => nowMs - minutes * MINUTE_MS);
  await eastServer.holds(protection.replica_id!, moments);
  const cycle = { started_ms: nowMs, duration_ms: 2000, read_bytes: 1, changed_bytes: 1, wire_bytes: 1 };
  westAgent.report.vms = [ledgerVm()];
  westAgent.report.replications = [
    {
      replica_id: protection.replica_id!,
      state: 'waiting',
      sequence: 6,
      moment_ms: nowMs,
      last_cycle: cycle,
      progress: null,
      failure: null,
      notices: [],
    },
  ];
  await westAgent.send();
  const check = await west.api<ProtectionChangeCheck>('POST', '/protections/ledger/check', {
    revision: 1,
    rpo_ms: 3000,
    retention: { keep_all_ms: 15 * MINUTE_MS, tiers: [] },
    disks: ['vdb'],
  });
  assert.deepEqual(check.points_lost, {
    looked_at: 6,
    total: 6,
    count: 4,
    oldest_ms: moments[0],
    newest_ms: moments[3],
  });
  const all = check.costs.join('\n');
  assert.match(all, /4 of 6 recovery points go within minutes, and for ever/);
  assert.match(all, /took 2 s, more than half of the new RPO/);
  assert.match(check.changes.join('\n'), /Replicated from now on: vdb.*No longer replicated: vda/s);
  assert.equal((await west.api<ProtectionView>('GET', '/protections/ledger')).revision, 1);
});
