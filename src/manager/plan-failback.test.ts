/** Bringing the VMs of a plan home, as two real managers agree on it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { RunReprotection } from '#/api/reprotections.ts';
import type { RunCheck, RunView } from '#/api/runs.ts';
import { movedToEast, SEEDED, seedTask, until } from './moved-fixture.ts';
import { doneTask, finalPoint, ledgerVm, offPoints, VIEW } from './site-fixture.ts';

const FAILBACK = { plan: 'all', kind: 'failback' };

/** east runs ledger and protects it to west, which has points of it. */
async function reprotected(plan: object = {}) {
  const sites = await movedToEast(plan);
  const { east, westAgent, westServer } = sites;
  const { vms } = await east.api<RunReprotection>('POST', '/runs/all/reprotection');
  await westAgent.finish({ ...doneTask((await seedTask(westAgent)).id), result: SEEDED });
  const { items } = await sites.west.api<{ items: { id: string }[] }>('GET', '/replicas');
  const replicaId = items[0]!.id;
  await westServer.holds(replicaId, [1, Date.now()], { epoch: 2 });
  await until(east, async () => {
    const view = await east.api<RunReprotection>('GET', '/runs/all/reprotection');
    return view.vms[0]?.state === 'active' ? true : undefined;
  });
  assert.equal(vms.length, 1);
  return { ...sites, replicaId };
}

test('a plan is brought home: shut down there, last cycle, up on its own networks, and protected as before', async () => {
  await using sites = await reprotected();
  const { east, west, eastAgent, westAgent, westServer } = sites;
  const check = await west.api<RunCheck>('POST', '/runs/check', FAILBACK);
  assert.deepEqual([check.is_possible, check.refusals], [true, []]);
  assert.equal(check.vms[0]?.source, 'answers');
  const run = await west.api<RunView>('POST', '/runs', FAILBACK);
  assert.deepEqual([run.kind, run.plan], ['failback', 'all']);
  const shutDown = await eastAgent.task('shut_down');
  eastAgent.report.vms = [ledgerVm({ state: 'shutoff', recovered_by_task: 'task' })];
  await eastAgent.finish(doneTask(shutDown.id, { was_active: true, autostart: false, off_ms: 1 }));
  const cycle = await eastAgent.task('final_cycle');
  await westServer.holds(sites.replicaId, [Date.now()], { points: offPoints(3), epoch: 2 });
  await eastAgent.finish(doneTask(cycle.id, finalPoint(3)));
  await eastAgent.yields(3, 'shutoff');
  const open = await westServer.task('open_view');
  assert(open.kind === 'open_view');
  assert.equal(open.sequence, 3, 'from the very point of the last cycle');
  await westServer.finish(doneTask(open.id, VIEW));
  const recover = await westAgent.task('recover');
  assert.deepEqual([recover.networks, recover.purpose, recover.epoch], [{}, 'recovery', 3]);
  westAgent.report.vms = [ledgerVm({ recovered_by_task: recover.id })];
  westAgent.report.fences = [];
  await westAgent.finish(doneTask(recover.id, { vm_uuid: ledgerVm().uuid, vm_name: 'ledger', up_ms: 1 }));
  await westServer.finish(doneTask((await westServer.task('close_view')).id));
  await until(west, async () => {
    const { state } = await west.api<RunView>('GET', `/runs/${run.id}`);
    return state === 'done' ? true : undefined;
  });
  const seeding = await until(west, async () => {
    const [vm] = (await west.api<RunReprotection>('GET', '/runs/all/reprotection')).vms;
    return vm?.state === 'seeding' ? vm : undefined;
  });
  assert.deepEqual([seeding.site_name, seeding.rpo_ms], ['east', 5000]);
  assert.equal((await seedTask(eastAgent)).vm_name, 'ledger');
  await assert.rejects(east.api('POST', '/runs/all/reprotection'), /runs here any more/);
  await assert.rejects(west.api('POST', '/runs', FAILBACK), { code: 'conflict' });
});

test('what speaks against the way home is said before anything is changed', async () => {
  const before = [{ kind: 'command', name: 'switch', command: 'switch-network', in: ['failback'] }];
  await using sites = await movedToEast({ before });
  const { east, west, westServer } = sites;
  const refusals = async (more: object = {}): Promise<string> => {
    const check = await west.api<RunCheck>('POST', '/runs/check', { ...FAILBACK, ...more });
    assert.equal(check.is_possible, false);
    return check.refusals.map(({ message }) => message).join();
  };
  const bare = await refusals();
  assert.match(bare, /VM ledger, which runs at site east, is not protected to this one/);
  assert.match(bare, /program switch-network: no programs of plans are run on this manager/);
  assert.match(await refusals({ at_ms: 1 }), /takes the last state/);
  await assert.rejects(west.api('POST', '/runs', { ...FAILBACK, plan: 'other' }), {
    code: 'not_found',
    message: /no paired site has VMs of this one by a plan other/,
  });
  await assert.rejects(east.api('POST', '/runs', FAILBACK), { code: 'not_found' });
  await assert.rejects(east.api('POST', '/runs', { ...FAILBACK, kind: 'disaster', site: 'west' }), {
    code: 'usage_invalid',
  });
  await east.stop();
  await assert.rejects(west.api('POST', '/runs', FAILBACK), { code: 'unreachable' });
  assert.deepEqual((await westServer.now()).tasks, []);
});
