/** Protecting all VMs of a plan's run back to where they came from, as two real managers agree on it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ProtectionView } from '#/api/protections.ts';
import type { RunReprotection } from '#/api/reprotections.ts';
import type { RunView } from '#/api/runs.ts';
import { doneTask, ledgerVm, twoSites, VIEW, type FakeAgent, type TestSite } from './site-fixture.ts';

/** east has recovered ledger by a disaster recovery of plan "all"; west has its old copy, and a replication server. */
async function failedOver() {
  const sites = await twoSites();
  const { east, west, eastAgent, eastServer, westAgent } = sites;
  const request = { vm: 'ledger', site: 'east', rpo_ms: 5000 };
  const { replica_id: id } = await west.api<ProtectionView>('POST', '/protections', request);
  await eastServer.holds(id!, [Date.now() - 2000, Date.now() - 1000]);
  await eastServer.poll();
  const westServer = await west.server('west-server');
  await westServer.send();
  await east.api('POST', '/groups', { name: 'group', site: 'west', vms: ['ledger'] });
  await east.api('POST', '/plans', { name: 'all', groups: ['group'] });
  const run = await east.api<RunView>('POST', '/runs', { plan: 'all', kind: 'disaster' });
  const shutDown = await westAgent.task('shut_down');
  await westAgent.finish({ ...doneTask(shutDown.id), state: 'failed', failure: FAILURE });
  await westAgent.yields(2);
  await eastServer.finish(doneTask((await eastServer.task('open_view')).id, VIEW));
  const recover = await eastAgent.task('recover');
  const up = { vm_uuid: ledgerVm().uuid, vm_name: 'ledger', up_ms: Date.now() };
  eastAgent.report.vms = [ledgerVm({ recovered_by_task: recover.id })];
  await eastAgent.finish(doneTask(recover.id, up));
  const early = await east.api<RunReprotection>('GET', `/runs/all/reprotection`);
  assert.equal(early.vms[0]?.state, 'recovering', 'its view is still open');
  await assert.rejects(east.api('POST', '/runs/all/reprotection'), /run-.* of plan all is running/);
  await eastServer.finish(doneTask((await eastServer.task('close_view')).id));
  await until(east, async () => {
    const { state } = await east.api<RunView>('GET', `/runs/${run.id}`);
    return state === 'done' ? true : undefined;
  });
  return { ...sites, westServer, runId: run.id };
}

const FAILURE = { code: 'timeout', message: 'its guest is deaf', hint: null };

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

async function seedTask(agent: FakeAgent) {
  for (;;) {
    const task = agent.orders?.tasks.find((known) => known.kind === 'seed');
    if (task !== undefined) return task;
    await agent.poll();
  }
}

const stateAt = async (site: TestSite): Promise<string> =>
  (await site.api<RunReprotection>('GET', '/runs/all/reprotection')).vms[0]!.state;

test('a plan whose VMs run here is reprotected as a whole, once, and each VM says how it stands', async () => {
  await using sites = await failedOver();
  const { east, westAgent } = sites;
  assert.equal(await stateAt(east), 'unprotected');
  const view = await east.api<RunReprotection>('POST', '/runs/all/reprotection');
  const [vm] = view.vms;
  assert.deepEqual(
    [view.run_id, vm?.state, vm?.site_name, vm?.rpo_ms],
    [sites.runId, 'seeding', 'west', 5000],
  );
  const again = await east.api<RunReprotection>('POST', `/runs/${sites.runId}/reprotection`);
  assert.equal(again.vms[0]?.protection_id, vm?.protection_id, 'asking again changes nothing');
  await westAgent.finish({
    ...doneTask((await seedTask(westAgent)).id),
    result: {
      sequence: 1,
      moment_ms: 1,
      read_bytes: 0,
      changed_bytes: 0,
      only_here: null,
      only_here_note: null,
    },
  });
  await until(east, async () => ((await stateAt(east)) === 'active' ? true : undefined));
});

test('a site that is away is asked when it is back, also by a manager that was started again', async () => {
  await using sites = await failedOver();
  const { east, eastAgent, west, westAgent, westServer } = sites;
  await west.stop();
  const view = await east.api<RunReprotection>('POST', '/runs/all/reprotection');
  assert.equal(view.vms[0]?.state, 'requested');
  await east.restart();
  await west.restart();
  const report = (): Promise<unknown> =>
    Promise.all([eastAgent, westAgent, westServer].map((program) => program.send()));
  await until(east, async () => {
    await report();
    return (await stateAt(east)) === 'seeding' ? true : undefined;
  });
  assert.equal((await seedTask(westAgent)).vm_name, 'ledger');
});

test('what the other site refuses is said, and what is not a move is refused', async () => {
  await using sites = await failedOver();
  const { east, west, westAgent } = sites;
  // Another VM of that name.
  westAgent.report.vms = [ledgerVm({ uuid: '7a2c9a52-6d1e-4a70-9c53-2b8a5e6f1009' })];
  await westAgent.send();
  const view = await east.api<RunReprotection>('POST', '/runs/all/reprotection');
  assert.deepEqual([view.vms[0]?.state, view.vms[0]?.protection_id], ['unprotected', null]);
  assert.match(view.vms[0]?.failure?.message ?? '', /site west has a VM ledger already/);
  await assert.rejects(east.api('POST', '/runs/other/reprotection'), { code: 'not_found' });
  await assert.rejects(west.api('POST', '/runs/all/reprotection'), {
    code: 'not_found',
    hint: /at the site where the VMs run now/,
  });
});
