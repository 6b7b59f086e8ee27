import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ProtectionView } from '#/api/protections.ts';
import type { RecoveryView } from '#/api/recoveries.ts';
import { doneTask, failedTask, finalPoint, ledgerVm, offPoints, twoSites, VIEW } from './site-fixture.ts';

type Sites = Awaited<ReturnType<typeof twoSites>>;

async function protectedLedger({ east, eastServer, west }: Sites): Promise<string> {
  const request = { vm: 'ledger', site: 'east', rpo_ms: 5000 };
  const { replica_id: id } = await west.api<ProtectionView>('POST', '/protections', request);
  await eastServer.holds(id!, [Date.now() - 1000]);
  await east.manager.replicas.find('ledger');
  return id!;
}

function migrate({ east }: Sites, change: object = {}): Promise<RecoveryView> {
  return east.api('POST', '/recoveries', { vm: 'ledger', purpose: 'migration', ...change });
}

async function settled({ east }: Sites, id: string, state: RecoveryView['state']): Promise<RecoveryView> {
  const { changes } = east.manager.context;
  for (;;) {
    const news = changes.next(['jobs'], 5000, AbortSignal.timeout(20_000));
    const view = await east.api<RecoveryView>('GET', `/recoveries/${id}`);
    if (view.state === state) return view;
    assert(['running', 'cleaning'].includes(view.state), `it is ${view.state}: ${view.failure?.message}`);
    await news;
  }
}

/** West shuts it down, and tells of its last point, which east has as well. */
async function handedOver({ eastServer, westAgent }: Sites, replicaId: string): Promise<void> {
  const shutDown = await westAgent.task('shut_down');
  westAgent.report.vms = [ledgerVm({ state: 'shutoff' })];
  await westAgent.finish(doneTask(shutDown.id, { was_active: true, autostart: false, off_ms: 1 }));
  const cycle = await westAgent.task('final_cycle');
  await eastServer.holds(replicaId, [Date.now()], { points: offPoints(2) });
  await westAgent.finish(doneTask(cycle.id, finalPoint(2)));
}

const names = (view: RecoveryView): string[] => view.steps.map(({ name, state }) => `${name} ${state}`);
const done = (...steps: string[]): string[] => steps.map((name) => `${name} done`);

test('a migration shuts the VM down, has its last point, and recovers from that very point', async () => {
  await using sites = await twoSites();
  const { eastAgent, eastServer, westAgent } = sites;
  const replicaId = await protectedLedger(sites);
  const started = await migrate(sites, { shut_down_timeout_ms: 90_000 });
  assert.deepEqual([started.purpose, started.epoch], ['migration', 2]);
  const task = await westAgent.task('shut_down');
  assert.deepEqual([task.mode, task.timeout_ms], ['guest', 90_000]);
  assert.equal(
    (await eastServer.now()).replicas[0]?.epoch,
    1,
    'the epoch is not raised before the last cycle',
  );
  await handedOver(sites, replicaId);
  await westAgent.yields(2, 'shutoff');
  const open = await eastServer.task('open_view');
  assert(open.kind === 'open_view');
  assert.equal(open.sequence, 2);
  assert.equal(eastServer.orders?.replicas[0]?.epoch, 2);
  await eastServer.finish(doneTask(open.id, VIEW));
  const recover = await eastAgent.task('recover');
  assert.deepEqual([recover.purpose, recover.epoch, recover.name], ['recovery', 2, 'ledger']);
  await eastAgent.finish(doneTask(recover.id));
  await eastServer.finish(doneTask((await eastServer.task('close_view')).id));
  const end = await settled(sites, started.id, 'done');
  const all = [
    'shut_down_source',
    'last_cycle',
    'raise_epoch',
    'stop_source',
    'open_view',
    'recover',
    'close_view',
  ];
  assert.deepEqual(names(end), done(...all));
  assert.equal(end.point, 2);
  assert.match(end.steps[1]!.details[0]!.name, /point 2 is equal at both sites, all 2 disks/);
  await assert.rejects(sites.east.api('POST', `/recoveries/${started.id}/cleanup`), { code: 'conflict' });
});

test('a guest that does not shut down runs on, is as it was, and may be migrated again', async () => {
  await using sites = await twoSites();
  const { east, westAgent } = sites;
  await protectedLedger(sites);
  const started = await migrate(sites);
  const shutDown = await westAgent.task('shut_down');
  await westAgent.finish(failedTask(shutDown.id, 'VM ledger has not shut down within 300 s'));
  const start = await westAgent.task('start_again');
  assert.equal(start.shut_down_task_id, shutDown.id);
  await westAgent.finish(doneTask(start.id, { started: false, vm_state: 'running' }));
  const end = await settled(sites, started.id, 'cleaned');
  assert.deepEqual(names(end), ['shut_down_source failed', 'start_source done']);
  assert.match(end.failure?.message ?? '', /within 300 s; at the protected site it is as it was before/);
  const { items } = await east.api<{ items: { state: string; epoch: number }[] }>('GET', '/replicas');
  assert.deepEqual(
    items.map(({ state, epoch }) => [state, epoch]),
    [['active', 1]],
  );
  await migrate(sites);
});

test('a last cycle that fails starts the VM again, and so does a cancel in the middle', async () => {
  await using sites = await twoSites();
  const { east, westAgent } = sites;
  await protectedLedger(sites);
  const first = await migrate(sites);
  await westAgent.finish(doneTask((await westAgent.task('shut_down')).id, { was_active: true }));
  const cycle = await westAgent.task('final_cycle');
  await westAgent.finish(failedTask(cycle.id, 'the store of east is full'));
  const start = await westAgent.task('start_again');
  await westAgent.finish(doneTask(start.id, { started: true, vm_state: 'running' }));
  const failed = await settled(sites, first.id, 'cleaned');
  assert.match(
    failed.failure?.message ?? '',
    /store of east is full; at the protected site it was started again/,
  );

  await westAgent.now();
  const second = await migrate(sites);
  await westAgent.task('shut_down');
  await east.api('POST', `/recoveries/${second.id}/cleanup`);
  const back = await westAgent.task('start_again');
  assert.deepEqual(
    (await westAgent.now()).tasks.map(({ kind }) => kind),
    ['start_again'],
  );
  await westAgent.finish(doneTask(back.id, { started: true, vm_state: 'running' }));
  const cancelled = await settled(sites, second.id, 'cleaned');
  assert.deepEqual(names(cancelled).at(-1), 'start_source done');
  assert.equal(cancelled.failure, null);
});

test('a migration whose VM does not come up is given back by a cleanup: it runs again where it was, with a higher epoch', async () => {
  await using sites = await twoSites();
  const { east, eastAgent, eastServer, west, westAgent } = sites;
  const replicaId = await protectedLedger(sites);
  const started = await migrate(sites);
  await handedOver(sites, replicaId);
  await westAgent.yields(2, 'shutoff');
  await eastServer.finish(doneTask((await eastServer.task('open_view')).id, VIEW));
  const recover = await eastAgent.task('recover');
  await eastAgent.finish(failedTask(recover.id, 'no space left on the host'));
  const failed = await settled(sites, started.id, 'failed');
  assert.match(failed.failure?.message ?? '', /no space left/);
  await east.api('POST', `/recoveries/${started.id}/cleanup`);
  await eastAgent.finish(doneTask((await eastAgent.task('discard')).id));
  await eastServer.finish(doneTask((await eastServer.task('close_view')).id));
  const start = await westAgent.task('start_again');
  const claim = westAgent.orders?.claims?.find(({ claim: { epoch } }) => epoch === 3);
  assert.equal(claim?.is_here, true, 'the host may run it before it is told to start it');
  await westAgent.finish(doneTask(start.id, { started: true, vm_state: 'running' }));
  const cleaned = await settled(sites, started.id, 'cleaned');
  assert.deepEqual(names(cleaned).slice(-3), done('discard', 'close_view', 'start_source'));
  const fences = await west.api<{ items: { epoch: number; is_here: boolean }[] }>('GET', '/fences');
  assert.deepEqual(
    fences.items.map(({ epoch, is_here }) => [epoch, is_here]),
    [[3, true]],
  );
  // Its protection is as it was, on the same replica, without anybody asking.
  const [peer] = await west.manager.peers.list();
  await west.manager.protections.reconcile(peer!);
  const { items } = await west.api<{ items: ProtectionView[] }>('GET', '/protections');
  assert.deepEqual(
    items.map(({ state, replica_id: id, rpo_ms: rpoMs, epoch }) => [state, id, rpoMs, epoch]),
    [['active', replicaId, 5000, 3]],
  );
  assert.equal((await westAgent.now()).protections[0]?.replica_id, replicaId);
});

test('a VM that somebody starts between its last cycle and the claim is not brought up without what it wrote', async () => {
  await using sites = await twoSites();
  const replicaId = await protectedLedger(sites);
  const started = await migrate(sites);
  await handedOver(sites, replicaId);
  await sites.westAgent.yields(2, 'paused');
  const failed = await settled(sites, started.id, 'failed');
  assert.match(failed.failure?.message ?? '', /was started at site west after its last cycle/);
  assert.deepEqual((await sites.eastServer.now()).tasks, []);
});

test('what speaks against a migration is said before the VM is touched', async () => {
  await using sites = await twoSites();
  const { east, eastAgent, west, westAgent } = sites;
  const replicaId = await protectedLedger(sites);
  await assert.rejects(migrate(sites, { point: 1 }), { code: 'usage_invalid', hint: /--point 1/ });
  await assert.rejects(migrate(sites, { force: true }), { code: 'usage_invalid' });
  const recovery = { vm: 'ledger', shut_down: 'guest' };
  await assert.rejects(east.api('POST', '/recoveries', recovery), { code: 'usage_invalid' });
  eastAgent.report.host.storage_free_bytes = 1000;
  await eastAgent.send();
  await assert.rejects(migrate(sites), { code: 'storage_full', message: /1000 free/ });
  eastAgent.report.host.storage_free_bytes = 2 ** 40;
  await eastAgent.send();
  westAgent.report.vms = [ledgerVm({ state: 'paused' })];
  await westAgent.send();
  await assert.rejects(migrate(sites), { code: 'conflict', hint: /--power-off/ });
  westAgent.report.vms = [];
  await westAgent.send();
  await assert.rejects(migrate(sites), { code: 'not_found', message: /site west has no VM ledger/ });
  await west.stop();
  await assert.rejects(migrate(sites), {
    code: 'unreachable',
    hint: /If that site is lost: antipode recover/,
  });
  assert.deepEqual((await east.api<{ items: unknown[] }>('GET', '/recoveries')).items, []);
  assert.equal(typeof replicaId, 'string');
});
