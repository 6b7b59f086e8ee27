import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Page } from '#/api/common.ts';
import type { ProtectionChangeCheck, ProtectionView } from '#/api/protections.ts';
import type { BookmarkView, PointView, ReplicaView } from '#/api/replicas.ts';
import { loseDatabase, protectLedger, rebuild } from './rebuild/rebuild-fixture.ts';
import { twoSites } from './site-fixture.ts';

const HOUR_MS = 3_600_000;

test('a bookmark is kept once the server says so, has its name among the points, and is taken away', async () => {
  await using sites = await twoSites();
  const { east, eastServer, west } = sites;
  const { replica_id: id } = await protectLedger(sites);
  const moments = [3, 2, 1].map((hours) => Date.now() - hours * HOUR_MS);
  await eastServer.holds(id!, moments);
  const request = { sequence: 2, name: 'before the upgrade', until_ms: null };
  const add = (body: object) => east.api<BookmarkView>('POST', '/replicas/ledger/bookmarks', body);
  const bookmark = { ...request, moment_ms: moments[1] };
  assert.deepEqual(await add(request), { ...bookmark, state: 'asked' });
  assert.deepEqual((await eastServer.now()).replicas[0]?.bookmarks, [bookmark]);

  const stateOf = async () => (await east.api<ReplicaView>('GET', '/replicas/ledger')).bookmarks[0]?.state;
  await eastServer.holds(id!, moments, { bookmarked: [2] });
  assert.equal(await stateOf(), 'kept');
  const { items } = await east.api<Page<PointView>>('GET', '/points?replica=ledger');
  assert.deepEqual(
    items.map((point) => point.bookmark),
    [null, 'before the upgrade', null],
  );
  const { revision } = await west.api<ProtectionView>('GET', '/protections/ledger');
  const check = await west.api<ProtectionChangeCheck>('POST', '/protections/ledger/check', {
    revision,
    retention: { keep_all_ms: 0, tiers: [] },
  });
  assert.equal(check.points_lost?.count, 1, 'neither the newest nor the bookmarked one');
  assert.equal((await add({ ...request, name: 'again' })).name, 'again');
  await east.api('DELETE', '/replicas/ledger/bookmarks/2');
  assert.equal((await eastServer.now()).replicas[0]?.bookmarks, undefined);
  await assert.rejects(east.api('DELETE', '/replicas/ledger/bookmarks/2'), { code: 'not_found' });
  await assert.rejects(add({ ...request, sequence: 9 }), { code: 'not_found', hint: /antipode points/ });
  await assert.rejects(add({ ...request, until_ms: 1 }), { code: 'usage_invalid' });
});

test('a point that went before it could be kept is told to be gone', async () => {
  await using sites = await twoSites();
  const { east, eastServer } = sites;
  const { replica_id: id } = await protectLedger(sites);
  const moments = [2, 1].map((hours) => Date.now() - hours * HOUR_MS);
  await eastServer.holds(id!, moments);
  for (const sequence of [1, 2]) {
    const request = { sequence, name: `n${sequence}`, until_ms: Date.now() + HOUR_MS };
    await east.api('POST', '/replicas/ledger/bookmarks', request);
  }
  const { points } = eastServer.report.replicas[0]!;
  await eastServer.holds(id!, moments, { points: points.slice(1) });
  const { bookmarks } = await east.api<ReplicaView>('GET', '/replicas/ledger');
  assert.deepEqual(
    bookmarks.map(({ state }) => state),
    ['gone', 'asked'],
  );
});

test('two who bookmark at the same time both have theirs, and a rebuilt manager has them from the server', async () => {
  await using sites = await twoSites();
  const { east, eastAgent, eastServer } = sites;
  const { replica_id: id } = await protectLedger(sites);
  await eastServer.holds(
    id!,
    [1, 2, 3].map((hours) => Date.now() - (4 - hours) * HOUR_MS),
  );
  await Promise.all(
    [1, 2, 3].map((sequence) =>
      east.api('POST', '/replicas/ledger/bookmarks', { sequence, name: `n${sequence}`, until_ms: null }),
    ),
  );
  const names = async () =>
    (await east.api<ReplicaView>('GET', '/replicas/ledger')).bookmarks.map(({ name }) => name);
  assert.deepEqual(await names(), ['n1', 'n2', 'n3']);
  await eastServer.now();
  await loseDatabase(east);
  await rebuild(east, [eastAgent, eastServer]);
  assert.deepEqual(await names(), ['n1', 'n2', 'n3']);
});
