import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { RecoveryView } from '#/api/recoveries.ts';
import type { ProtectionView } from '#/api/protections.ts';
import { doneTask, failedTask, ledgerVm, twoSites, VIEW, type TestSite } from './site-fixture.ts';

type Sites = Awaited<ReturnType<typeof twoSites>>;

/** ledger is protected from west to east, which holds two points. Resolves with the replica's id. */
async function protectedLedger(sites: Sites): Promise<string> {
  const request = { vm: 'ledger', site: 'east', rpo_ms: 5000 };
  const view = await sites.west.api<ProtectionView>('POST', '/protections', request);
  const replicaId = view.replica_id!;
  await sites.eastServer.holds(replicaId, [Date.now() - 2000, Date.now() - 1000]);
  await sites.eastServer.poll();
  return replicaId;
}

async function settled(site: TestSite, id: string, state: RecoveryView['state']): Promise<RecoveryView> {
  const { changes } = site.manager.context;
  for (;;) {
    const news = changes.next(['jobs'], 5000, AbortSignal.timeout(15_000));
    const view = await site.api<RecoveryView>('GET', `/recoveries/${id}`);
    if (view.state === state) return view;
    assert(['running', 'cleaning'].includes(view.state), `it is ${view.state}: ${view.failure?.message}`);
    await news;
  }
}

test('a test recovery opens a view, brings the VM up isolated, and is cleaned up in reverse', async () => {
  await using sites = await twoSites();
  const { east, eastAgent, eastServer } = sites;
  const replicaId = await protectedLedger(sites);
  const started = await east.api<RecoveryView>('POST', '/recoveries', { vm: 'ledger', purpose: 'test' });
  const open = await eastServer.task('open_view');
  assert.deepEqual({ ...open, id: '' }, { id: '', kind: 'open_view', replica_id: replicaId, sequence: 0 });
  assert.equal(eastServer.orders?.replicas[0]?.epoch, 1, 'a test raises no epoch');
  await eastServer.finish(doneTask(open.id, VIEW));
  const recover = await eastAgent.task('recover');
  assert(recover.kind === 'recover');
  assert.deepEqual(recover.view, VIEW);
  assert.equal(recover.name, 'ledger-test');
  assert.equal(recover.default_network, null, 'a test is isolated');
  await eastAgent.finish(doneTask(recover.id));
  const ready = await settled(east, started.id, 'ready');
  assert.equal(ready.point, 2);
  assert((await eastServer.now()).tasks.some((task) => task.id === open.id));

  await east.api('POST', '/recoveries/ledger/cleanup');
  const discard = await eastAgent.task('discard');
  assert(discard.kind === 'discard');
  assert.equal(discard.recover_task_id, recover.id);
  await eastAgent.finish(doneTask(discard.id));
  const close = await eastServer.task('close_view');
  assert(!eastServer.orders?.tasks.some((task) => task.id === open.id), 'close takes the place of open');
  await eastServer.finish(doneTask(close.id));
  const cleaned = await settled(east, started.id, 'cleaned');
  assert.deepEqual(
    cleaned.steps.map((step) => [step.name, step.state]),
    [
      ['open_view', 'done'],
      ['recover', 'done'],
      ['discard', 'done'],
      ['close_view', 'done'],
    ],
  );
});

test('a test is told which networks it shares with others, and only a test can be', async () => {
  await using sites = await twoSites();
  const { east, eastAgent, eastServer } = sites;
  await protectedLedger(sites);
  const router = { lan: '10.2.0.1/24' };
  const shared = { tag: 'run-1', networks: 'each', router } as const;
  const ask = (change: object): Promise<RecoveryView> =>
    east.api<RecoveryView>('POST', '/recoveries', { vm: 'ledger', test_network: shared, ...change });
  await assert.rejects(ask({ purpose: 'recovery' }), { code: 'usage_invalid' });
  const one = { purpose: 'test', test_network: { ...shared, networks: 'one' } };
  await assert.rejects(ask(one), { code: 'usage_invalid' });
  await ask({ purpose: 'test' });
  await eastServer.finish(doneTask((await eastServer.task('open_view')).id, VIEW));
  const recover = await eastAgent.task('recover');
  assert(recover.kind === 'recover');
  assert.deepEqual(recover.test_network, shared);
});

test('a replica is not deleted under a test recovery, but once that is cleaned up', async () => {
  await using sites = await twoSites();
  const { east, west, eastAgent, eastServer } = sites;
  const replicaId = await protectedLedger(sites);
  const started = await east.api<RecoveryView>('POST', '/recoveries', { vm: 'ledger', purpose: 'test' });
  await eastServer.finish(doneTask((await eastServer.task('open_view')).id, VIEW));
  await eastAgent.finish(doneTask((await eastAgent.task('recover')).id));
  await settled(east, started.id, 'ready');
  await west.api('DELETE', '/protections/ledger?delete_replica=true');
  await east.manager.replicas.carryOutDeletes();
  const { replicas, tasks } = await eastServer.now();
  assert.deepEqual([replicas, tasks.map(({ kind }) => kind)], [[], ['open_view']]);
  const { items } = await east.api<{ items: { message: string }[] }>('GET', '/events');
  assert(items.some(({ message }) => message.endsWith(`deleted once ${started.id} has been cleaned up`)));
  await east.api('POST', '/recoveries/ledger/cleanup');
  await eastAgent.finish(doneTask((await eastAgent.task('discard')).id));
  await eastServer.finish(doneTask((await eastServer.task('close_view')).id));
  await settled(east, started.id, 'cleaned');
  await east.manager.replicas.carryOutDeletes();
  const task = await eastServer.task('delete_replica');
  assert(task.kind === 'delete_replica' && task.replica_id === replicaId);
});

test('a recovery raises the epoch before it opens the view, and the protected site learns that it is superseded', async () => {
  await using sites = await twoSites();
  const { east, west, eastAgent, eastServer, westAgent } = sites;
  const replicaId = await protectedLedger(sites);
  westAgent.report.vms = [ledgerVm({ state: 'shutoff' })];
  await westAgent.send();
  const request = { vm: 'ledger', point: 1 };
  const started = await east.api<RecoveryView>('POST', '/recoveries', request);
  await westAgent.yields(2);
  const open = await eastServer.task('open_view');
  assert(open.kind === 'open_view');
  assert.equal(open.sequence, 1);
  assert.equal(eastServer.orders?.replicas[0]?.epoch, 2);
  await eastServer.finish(doneTask(open.id, { ...VIEW, sequence: 1 }));
  const recover = await eastAgent.task('recover');
  assert(recover.kind === 'recover');
  assert.equal(recover.name, 'ledger');
  assert.equal(recover.epoch, 2);
  assert.equal(recover.default_network, 'default');
  await eastAgent.finish(doneTask(recover.id));
  const close = await eastServer.task('close_view');
  await eastServer.finish(doneTask(close.id));
  await settled(east, started.id, 'done');
  await assert.rejects(east.api('POST', `/recoveries/${started.id}/cleanup`), { code: 'conflict' });

  const peer = await west.manager.peers.find('east');
  await west.manager.protections.reconcile(peer);
  const page = await west.api<{ items: ProtectionView[] }>('GET', '/protections');
  assert.equal(page.items[0]?.state, 'superseded');
  assert.deepEqual((await westAgent.now()).protections, []);
  assert.equal(page.items[0].replica_id, replicaId);
});

test('with the protected site gone a recovery needs no force, and without its answer it goes on at once', async () => {
  await using sites = await twoSites();
  const { east, eastServer, west } = sites;
  await protectedLedger(sites);
  const refused = east.api('POST', '/recoveries', { vm: 'ledger' });
  await assert.rejects(refused, { code: 'conflict', message: /running at site west/ });
  await west.stop();
  await east.api('POST', '/recoveries', { vm: 'ledger' });
  await eastServer.task('open_view');
  assert.equal(eastServer.orders?.replicas[0]?.epoch, 2);
});

test('a recovery that failed is shown with its reason and cleared by a cleanup', async () => {
  await using sites = await twoSites();
  const { east, eastAgent, eastServer, westAgent } = sites;
  await protectedLedger(sites);
  const request = { vm: 'ledger', force: true };
  const started = await east.api<RecoveryView>('POST', '/recoveries', request);
  await westAgent.yields(2);
  const open = await eastServer.task('open_view');
  await eastServer.finish(doneTask(open.id, VIEW));
  const recover = await eastAgent.task('recover');
  await eastAgent.finish(failedTask(recover.id, 'start VM ledger: no such machine type'));
  const failed = await settled(east, started.id, 'failed');
  assert.equal(failed.failure?.code, 'libvirt_error');
  assert.match(failed.failure.message, /no such machine type/);
  const again = east.api('POST', '/recoveries', { vm: 'ledger', force: true });
  await assert.rejects(again, { code: 'conflict', hint: /antipode cleanup/ });
  await east.api('DELETE', `/recoveries/${started.id}`);
  await eastAgent.finish(doneTask((await eastAgent.task('discard')).id));
  await eastServer.finish(doneTask((await eastServer.task('close_view')).id));
  await settled(east, started.id, 'cleaned');
  const status = await east.api<{ vms: { state: string }[] }>('GET', '/status');
  assert.equal(status.vms[0]?.state, 'kept');
});

test('a recovery that is cancelled before its VM came up is taken back', async () => {
  await using sites = await twoSites();
  const { east, eastServer } = sites;
  await protectedLedger(sites);
  const request = { vm: 'ledger', purpose: 'test' };
  const started = await east.api<RecoveryView>('POST', '/recoveries', request);
  await eastServer.task('open_view');
  await east.api('DELETE', `/recoveries/${started.id}`);
  await eastServer.finish(doneTask((await eastServer.task('close_view')).id));
  const cleaned = await settled(east, started.id, 'cleaned');
  assert.deepEqual(
    cleaned.steps.map((step) => step.name),
    ['open_view', 'close_view'],
  );
});

test('what speaks against a recovery is said before anything is changed', async () => {
  await using sites = await twoSites();
  const { east, west, eastAgent, eastServer } = sites;
  const replicaId = await protectedLedger(sites);
  const recover = (change: object): Promise<unknown> =>
    east.api('POST', '/recoveries', { vm: 'ledger', ...change });
  await assert.rejects(recover({}), { code: 'conflict', message: /running at site west/, hint: /--force/ });
  await assert.rejects(recover({ vm: 'nobody' }), { code: 'not_found', message: /nobody/ });
  await assert.rejects(recover({ point: 99 }), { code: 'not_found', message: /newest is 2/ });
  await assert.rejects(recover({ host_id: 'host-x', force: true }), {
    code: 'unreachable',
    message: /host-x/,
  });
  await assert.rejects(west.api('POST', '/recoveries', { vm: 'ledger' }), { code: 'not_found' });

  const moments = [Date.now() - 1000];
  const points = [{ ...eastServer.report.replicas[0]!.points[1]!, sequence: 7 }];
  await eastServer.holds(replicaId, moments, { points });
  await assert.rejects(recover({ point: 3 }), { code: 'point_expired', message: /point 3/ });
  await eastServer.holds(replicaId, []);
  await assert.rejects(recover({}), { code: 'not_found', message: /no recovery point yet/ });
  const failure = { code: 'storage_corrupt', message: 'the log does not match', hint: null };
  await eastServer.holds(replicaId, moments, { state: 'broken', failure });
  await assert.rejects(recover({}), { code: 'storage_corrupt', message: /log does not match/ });

  await eastServer.holds(replicaId, moments);
  eastAgent.report.vms = [ledgerVm({ uuid: '7a2c9a52-6d1e-4a70-9c53-2b8a5e6f1009' })];
  await eastAgent.send();
  await assert.rejects(recover({ force: true }), { code: 'already_exists', hint: /--name/ });
  eastAgent.report.vms = [];
  eastAgent.report.host.machine = 'b2'.repeat(16);
  await eastAgent.send();
  await assert.rejects(recover({ force: true }), {
    code: 'unreachable',
    message: /machine of replication server/,
  });
  const elsewhere = recover({ force: true, host_id: 'east-host' });
  await assert.rejects(elsewhere, {
    code: 'conflict',
    message: /machine of replication server/,
    hint: /--host/,
  });
  eastAgent.report.host.libvirt_failure = { code: 'unreachable', message: 'no libvirtd', hint: null };
  await eastAgent.send();
  await assert.rejects(recover({ force: true }), { code: 'unreachable', message: /libvirt running/ });
  const jobs = await east.api<{ items: unknown[] }>('GET', '/recoveries');
  assert.deepEqual(jobs.items, []);
  assert.equal((await eastServer.now()).replicas[0]?.epoch, 1);
});

test('a cleanup that fails says so once, and may be asked for again', async () => {
  await using sites = await twoSites();
  const { east, eastAgent, eastServer } = sites;
  await protectedLedger(sites);
  const started = await east.api<RecoveryView>('POST', '/recoveries', { vm: 'ledger', purpose: 'test' });
  await eastServer.finish(doneTask((await eastServer.task('open_view')).id, VIEW));
  await eastAgent.finish(doneTask((await eastAgent.task('recover')).id));
  await settled(east, started.id, 'ready');
  await east.api('POST', '/recoveries/ledger/cleanup');
  const first = await eastAgent.task('discard');
  await eastAgent.finish(failedTask(first.id, 'a VM without the mark uses its files'));
  const failed = await settled(east, started.id, 'failed');
  assert.match(failed.failure?.message ?? '', /uses its files/);
  assert.deepEqual(
    failed.steps.map(({ name }) => name),
    ['open_view', 'recover', 'discard'],
  );
  await eastAgent.now();
  await east.api('POST', '/recoveries/ledger/cleanup');
  const second = await eastAgent.task('discard');
  assert.notEqual(second.id, first.id);
  await eastAgent.finish(doneTask(second.id));
  await eastServer.finish(doneTask((await eastServer.task('close_view')).id));
  await settled(east, started.id, 'cleaned');
});

test('a manager that was just started again does not deny a point that its server has told before', async () => {
  await using sites = await twoSites();
  const { east, eastAgent, eastServer } = sites;
  // The next report is kept; the one after it comes too soon.
  for (const server of east.manager.context.inventory.servers()) server.keptMs = 0;
  const replicaId = await protectedLedger(sites);
  await eastServer.holds(replicaId, [Date.now() - 3000, Date.now() - 2000, Date.now() - 1000]);
  await east.restart();
  await eastAgent.send();
  const asked = { vm: 'ledger', force: true, point: 3 };
  await assert.rejects(east.api('POST', '/recoveries', asked), {
    code: 'unreachable',
    message: /has not reported yet since this start/,
  });
  await eastServer.send();
  assert.equal((await east.api<RecoveryView>('POST', '/recoveries', asked)).point, 3);
});

test('a recovery that fails when its VM is up is gone on with: its task is ordered once more, on the view that is still open', async () => {
  await using sites = await twoSites();
  const { east, eastAgent, eastServer } = sites;
  await protectedLedger(sites);
  const started = await east.api<RecoveryView>('POST', '/recoveries', { vm: 'ledger', force: true });
  await sites.westAgent.yields(2);
  const open = await eastServer.task('open_view');
  await eastServer.finish(doneTask(open.id, VIEW));
  const recover = await eastAgent.task('recover');
  const up = { vm_uuid: ledgerVm().uuid, vm_name: 'ledger', up_ms: Date.now() };
  await assert.rejects(east.api('POST', '/recoveries/ledger/retry'), {
    message: /is running: only one that failed/,
  });
  await eastAgent.finish({ ...failedTask(recover.id, 'the disks cannot be pulled'), result: up });
  await settled(east, started.id, 'failed');
  const going = await east.api<RecoveryView>('POST', '/recoveries/ledger/retry');
  assert.deepEqual([going.state, going.failure], ['running', null]);
  assert(
    (await eastServer.now()).tasks.some(({ id }) => id === open.id),
    'its view stayed open',
  );
  // The agent still tells of the failure; it has not heard that nobody asks for that any more.
  await eastAgent.send();
  await east.restart();
  await eastServer.send();
  assert(!(await eastAgent.now()).tasks.some(({ kind }) => kind === 'recover'));
  eastAgent.report.tasks = [];
  await eastAgent.send();
  const again = await eastAgent.task('recover');
  assert.deepEqual(again, recover);
  await eastAgent.finish(doneTask(again.id, up));
  await eastServer.finish(doneTask((await eastServer.task('close_view')).id));
  const done = await settled(east, started.id, 'done');
  assert.deepEqual(
    done.steps.slice(-3).map(({ name, state }) => `${name} ${state}`),
    ['recover failed', 'recover done', 'close_view done'],
  );
});

test('a recovery that failed before its VM was up has nothing to go on with', async () => {
  await using sites = await twoSites();
  const { east, eastAgent, eastServer } = sites;
  await protectedLedger(sites);
  const started = await east.api<RecoveryView>('POST', '/recoveries', { vm: 'ledger', force: true });
  await sites.westAgent.yields(2);
  await eastServer.finish(doneTask((await eastServer.task('open_view')).id, VIEW));
  await eastAgent.finish(failedTask((await eastAgent.task('recover')).id, 'no space left'));
  await settled(east, started.id, 'failed');
  await assert.rejects(east.api('POST', '/recoveries/ledger/retry'), {
    code: 'conflict',
    message: /failed before ledger was up: no space left/,
    hint: /antipode cleanup/,
  });
});
