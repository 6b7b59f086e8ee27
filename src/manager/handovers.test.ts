import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HandoverAnswer } from '#/api/handovers.ts';
import type { ProtectionView } from '#/api/protections.ts';
import type { StepOutcome } from './runs/ports.ts';
import type { ReplicaRecord } from './store/replica-store.ts';
import {
  doneTask,
  failedTask,
  finalPoint,
  LEDGER_UUID,
  ledgerVm,
  offPoints,
  ROOTS,
  TestSite,
  twoSites,
  pairSites,
} from './site-fixture.ts';

type Sites = Awaited<ReturnType<typeof twoSites>>;
const GUEST = { mode: 'guest', timeoutMs: 60_000 } as const;

async function protectedLedger({ east, eastServer, west }: Sites): Promise<ReplicaRecord> {
  const request = { vm: 'ledger', site: 'east', rpo_ms: 5000 };
  const { replica_id: id } = await west.api<ProtectionView>('POST', '/protections', request);
  await eastServer.holds(id!, [Date.now() - 1000]);
  return east.manager.replicas.find('ledger');
}

/** Asks until it ends. */
async function ended(site: TestSite, ask: () => Promise<StepOutcome>): Promise<StepOutcome> {
  const { changes } = site.manager.context;
  for (;;) {
    const news = changes.next(['jobs', 'reports'], 5000, AbortSignal.timeout(15_000));
    const outcome = await ask();
    if (outcome.state !== 'waiting') return outcome;
    await news;
  }
}

test('a VM is shut down, replicated once more and started again at the site that protects it, each asked for once', async () => {
  await using sites = await twoSites();
  const { east, eastServer, westAgent } = sites;
  const replica = await protectedLedger(sites);
  const copies = east.manager.sourceCopies;
  const shutDown = ended(east, () => copies.shutDown('run-1:shut', replica, GUEST));
  const task = await westAgent.task('shut_down');
  assert.deepEqual([task.vm_uuid, task.mode, task.timeout_ms], [LEDGER_UUID, 'guest', 60_000]);
  await westAgent.finish(doneTask(task.id, { was_active: true, autostart: true, off_ms: 1 }));
  assert.equal((await shutDown).state, 'done');
  const again = await ended(east, () => copies.shutDown('run-1:shut', replica, GUEST));
  assert.deepEqual([again.state, again.state === 'done' && again.note], ['done', 'it was shut down']);
  assert.deepEqual((await westAgent.now()).tasks, [], 'what is done is ordered no more');

  const lastCycle = ended(east, () => copies.lastCycle('run-1:last', replica));
  const cycle = await westAgent.task('final_cycle');
  assert.deepEqual([cycle.replica_id, cycle.shut_down_task_id], [replica.id, task.id]);
  await westAgent.finish(doneTask(cycle.id, finalPoint(2)));
  await eastServer.holds(replica.id, [Date.now()], { points: offPoints(2) });
  const last = await lastCycle;
  assert(last.state === 'done', JSON.stringify(last));
  assert.equal(last.result?.['sequence'], 2);
  assert.match(last.note ?? '', /equal at both sites/);

  const start = ended(east, () => copies.startAgain('run-1:start', replica, 'run-1:shut'));
  const startTask = await westAgent.task('start_again');
  assert.equal(startTask.shut_down_task_id, task.id);
  await westAgent.finish(doneTask(startTask.id, { started: true, vm_state: 'running' }));
  const started = await start;
  assert.deepEqual(
    [started.state, started.state === 'done' && started.note],
    ['done', 'it was started again'],
  );
});

test('a last point whose digests are others at the recovery site, or of a VM that runs again, is none', async () => {
  await using sites = await twoSites();
  const { east, eastServer, westAgent } = sites;
  const replica = await protectedLedger(sites);
  const copies = east.manager.sourceCopies;
  const shutDown = ended(east, () => copies.shutDown('a', replica, GUEST));
  await westAgent.finish(doneTask((await westAgent.task('shut_down')).id, { was_active: true }));
  await shutDown;
  const lastCycle = ended(east, () => copies.lastCycle('b', replica));
  await westAgent.finish(doneTask((await westAgent.task('final_cycle')).id, finalPoint(2)));
  const other = [ROOTS[0]!, { key: 'vdb', root: 'ff'.repeat(16) }];
  await eastServer.holds(replica.id, [Date.now()], { points: offPoints(2, other) });
  const differs = await lastCycle;
  assert(differs.state === 'failed');
  assert.match(differs.failure.message, /digests of vdb have the root b2.*and ff/);
  const points = [...offPoints(2), { ...offPoints(3)[0]!, consistency: 'crash' }];
  await eastServer.holds(replica.id, [Date.now()], { points });
  const runs = await ended(east, () => copies.lastCycle('b', replica));
  assert(runs.state === 'failed');
  assert.match(runs.failure.message, /started after it had been shut down/);
});

test('a shut-down that is taken back before its host heard of it is never carried out, not even when asked for again', async () => {
  await using sites = await twoSites();
  const { east, westAgent } = sites;
  const replica = await protectedLedger(sites);
  const copies = east.manager.sourceCopies;
  await copies.shutDown('a', replica, GUEST);
  const { id } = await westAgent.task('shut_down');
  const start = ended(east, () => copies.startAgain('b', replica, 'a'));
  const task = await westAgent.task('start_again');
  assert.deepEqual(
    (await westAgent.now()).tasks.map((known) => known.kind),
    ['start_again'],
  );
  assert.equal(task.shut_down_task_id, id);
  await westAgent.finish(doneTask(task.id, { started: false, vm_state: null }));
  assert.equal((await start).state, 'done');
  const late = await ended(east, () => copies.startAgain('d', replica, 'c'));
  assert.deepEqual([late.state, late.state === 'done' && late.note], ['done', 'it is as it was before']);
  const refused = await ended(east, () => copies.shutDown('c', replica, GUEST));
  assert(refused.state === 'failed');
  assert.match(refused.failure.message, /taken back/);
  assert.deepEqual((await westAgent.now()).tasks, []);
});

test('what fails at the protected site is told as it is there, and a site that is silent is unreachable', async () => {
  await using sites = await twoSites();
  const { east, west, westAgent } = sites;
  const replica = await protectedLedger(sites);
  const copies = east.manager.sourceCopies;
  const early = await ended(east, () => copies.lastCycle('early', replica));
  assert(early.state === 'failed');
  assert.match(early.failure.message, /was not shut down before/);
  const failing = ended(east, () => copies.shutDown('a', replica, GUEST));
  await westAgent.finish(failedTask((await westAgent.task('shut_down')).id, 'the guest ignores it'));
  const failed = await failing;
  assert.deepEqual(failed.state === 'failed' && failed.failure.message, 'the guest ignores it');
  await west.stop();
  const silent = await ended(east, () => copies.shutDown('b', replica, GUEST));
  assert.equal(silent.state === 'failed' && silent.failure.code, 'unreachable');
});

test('only the site that keeps a replica of a VM may have it shut down, and of that VM alone', async () => {
  await using sites = await twoSites();
  const { west, westAgent } = sites;
  const replica = await protectedLedger(sites);
  await using north = await TestSite.start('north');
  await pairSites(north, west);
  const peer = await north.manager.peers.find('west');
  const ask = (site: TestSite, change: object): Promise<unknown> => {
    const about = { vm_uuid: LEDGER_UUID, replica_id: replica.id, wait_ms: 0 };
    const body = { id: 'x', kind: 'shut_down', mode: 'guest', timeout_ms: 1000, ...about, ...change };
    return site.manager.peers
      .find('west')
      .then((to) =>
        site.manager.peers.call(to, { method: 'POST', path: '/peer/v1/handovers', body }, HandoverAnswer),
      );
  };
  assert.equal(peer.site_name, 'west');
  await assert.rejects(ask(north, {}), { code: 'not_found', message: /protects no such VM/ });
  const other = '7a2c9a52-6d1e-4a70-9c53-2b8a5e6f1009';
  await assert.rejects(ask(sites.east, { vm_uuid: other }), { code: 'not_found' });
  await assert.rejects(ask(sites.east, { timeout_ms: 0 }), { code: 'usage_invalid' });
  westAgent.report.vms = [ledgerVm({ uuid: other })];
  await westAgent.send();
  const nowhere = (await ask(sites.east, { id: 'y' })) as HandoverAnswer;
  assert.match(nowhere.failure?.message ?? '', /no host of the protected site has VM ledger/);
  assert.deepEqual((await westAgent.now()).tasks, []);
});
