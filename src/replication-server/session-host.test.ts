import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { DIGEST_KEY } from '#/disk/digest-fixture.ts';
import type { ServerOrders } from '#/control/orders.ts';
import { hasCode } from '#/lib/failure.ts';
import { silentLog } from '#/lib/log.ts';
import { systemClock as clock } from '#/lib/system-clock.ts';
import type { RecoveryPoint } from '#/replica/replica.ts';
import { AGENT, dataSegment, joined, STAMP } from '#/wire/session-fixture.ts';
import { SessionRegistry } from '#/wire/session-registry.ts';
import { Compactor } from './compactor.ts';
import { OrderBook } from './order-book.ts';
import { DISK, replicaOrder, VM } from './real-server-fixture.ts';
import { ReplicaDirectory } from './replica-directory.ts';
import { replicaOpener } from './replica-opener.ts';
import { ReplicaStore } from './replica-store.ts';
import { ReplicaHost } from './session-host.ts';

const OPEN = { replicaId: 'replica-1', vm: VM, epoch: 1, disks: [DISK] };
const BEGIN = { sequence: 1, stamp: STAMP, momentMs: 5, disks: [DISK] };

function ordersOf(changes: Partial<ServerOrders> = {}): ServerOrders {
  return { revision: 1, site_id: 'east', trust: [], replicas: [replicaOrder()], tasks: [], ...changes };
}

/** The parts of a server around a real store, without sockets. */
async function parts() {
  const path = await mkdtemp(join(tmpdir(), 'antipode-host-'));
  const store = new ReplicaStore(new ReplicaDirectory(path), replicaOpener(path, clock));
  await store.load();
  const orders = new OrderBook();
  orders.take(ordersOf());
  const sessions = new SessionRegistry(clock);
  const committed: RecoveryPoint[] = [];
  const host = new ReplicaHost({ orders, store, sessions, committed: (_id, point) => committed.push(point) });
  return {
    path,
    store,
    orders,
    sessions,
    host,
    committed,
    async [Symbol.asyncDispose]() {
      await store[Symbol.asyncDispose]();
      await rm(path, { recursive: true, force: true });
    },
  };
}

test('orders of a higher epoch end the session of the older one, in the middle of a point', async () => {
  await using own = await parts();
  const ends = joined(own.host);
  await using session = await ends.open(OPEN);
  await session.begin(BEGIN);
  await session.segment(0, dataSegment(0));
  own.orders.take(ordersOf({ replicas: [replicaOrder(2)] }));
  own.host.recheck();
  assert.equal((await ends.served).failure?.code, 'epoch_stale');
  await assert.rejects(session.segment(1, dataSegment(1)), (error) => hasCode(error, 'epoch_stale'));
  assert.equal(own.sessions.count, 0);
  await assert.rejects(joined(own.host).open(OPEN), (error) => hasCode(error, 'epoch_stale'));
  await using newer = await joined(own.host).open({ ...OPEN, epoch: 2 });
  own.host.recheck();
  assert.equal(await newer.begin({ ...BEGIN, stamp: 'ff'.repeat(16) }), 0);
});

test('orders that change while a session waits for room are the ones that count', async () => {
  await using own = await parts();
  const claim = await own.sessions.claim('replica-1', AGENT, () => {});
  const opening = joined(own.host).open(OPEN);
  const refused = assert.rejects(opening, (error) => hasCode(error, 'not_found'));
  await new Promise((resolve) => setImmediate(resolve));
  own.orders.take(ordersOf({ replicas: [] }));
  await claim[Symbol.asyncDispose]();
  await refused;
  assert.deepEqual([own.sessions.count, await own.store.directory.list()], [0, []]);
});

test('who fills a new replica from an old copy names its key, and nobody else does', async () => {
  await using own = await parts();
  const key = 'ab'.repeat(32);
  const named = { ...OPEN, digestKey: key };
  {
    await using plain = await joined(own.host).open(named);
    assert.notEqual(plain.opened.digestKey, key, 'it is not being filled');
  }
  const seeding = { ...replicaOrder(), writer_site_id: AGENT.siteId };
  own.orders.take(ordersOf({ replicas: [{ ...seeding, replica_id: 'replica-2' }, seeding] }));
  {
    await using filled = await joined(own.host).open({ ...named, replicaId: 'replica-2' });
    assert.equal(filled.opened.digestKey, key);
  }
  await using again = await joined(own.host).open({
    ...named,
    replicaId: 'replica-2',
    digestKey: 'cd'.repeat(32),
  });
  assert.equal(again.opened.digestKey, key, 'a replica keeps the key that it was made with');
});

test('another VM under the same id is refused, and so is a replica that is being removed', async () => {
  await using own = await parts();
  const other = { ...OPEN, vm: { ...VM, uuid: '99999999-2222-4333-8444-555555555555' } };
  await assert.rejects(joined(own.host).open(other), (error) => hasCode(error, 'conflict'));
  const ends = joined(own.host);
  await using session = await ends.open(OPEN);
  await own.host.close('replica-1');
  assert.equal((await ends.served).failure?.code, 'not_found');
  await assert.rejects(session.begin(BEGIN), (error) => hasCode(error, 'not_found'));
  await assert.rejects(joined(own.host).open(OPEN), (error) => hasCode(error, 'not_found'));
  await own.store.remove('replica-1');
  own.host.reopen('replica-1');
  await using again = await joined(own.host).open(OPEN);
  assert.equal(again.opened.head, undefined);
});

test('replicas that no orders speak of are not compacted', async () => {
  await using own = await parts();
  const seen: string[] = [];
  for (const replicaId of ['replica-1', 'replica-2']) {
    const replica = await own.store.getOrCreate({ replicaId, vm: VM, siteId: 'west', digestKey: DIGEST_KEY });
    replica.compact = async () => {
      seen.push(replicaId);
      return seen.length < 20;
    };
  }
  const compactor = new Compactor({ store: own.store, orders: own.orders, clock, log: silentLog });
  const { signal } = new AbortController();
  assert.equal(await compactor.round(signal), true);
  assert.equal(seen.length, 8, 'a replica has its turn and no more');
  while (await compactor.round(signal));
  assert.deepEqual([...new Set(seen)], ['replica-1']);
});

test('what a crash has left of a removal or of a creation is cleaned up or made whole', async () => {
  await using own = await parts();
  await own.store.getOrCreate({ replicaId: 'replica-1', vm: VM, siteId: 'west', digestKey: DIGEST_KEY });
  const { mkdir, rename } = await import('node:fs/promises');
  await mkdir(join(own.path, 'replica-2'));
  await own.store[Symbol.asyncDispose]();
  await rename(join(own.path, 'replica-1'), join(own.path, '.removing-replica-1'));
  await using store = new ReplicaStore(new ReplicaDirectory(own.path), replicaOpener(own.path, clock));
  await store.load();
  assert.deepEqual([...store.entries()], []);
  assert.deepEqual(await store.directory.list(), ['replica-2']);
  const made = await store.getOrCreate({
    replicaId: 'replica-2',
    vm: VM,
    siteId: 'west',
    digestKey: DIGEST_KEY,
  });
  assert.equal(made.identity.replicaId, 'replica-2');
});
