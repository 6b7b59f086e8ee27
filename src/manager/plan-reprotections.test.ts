/** Protecting all VMs of a plan's run back to where they came from, as two real managers agree on it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { RunReprotection } from '#/api/reprotections.ts';
import { movedToEast, SEEDED, seedTask, until } from './moved-fixture.ts';
import { doneTask, ledgerVm, type TestSite } from './site-fixture.ts';

const stateAt = async (site: TestSite): Promise<string> =>
  (await site.api<RunReprotection>('GET', '/runs/all/reprotection')).vms[0]!.state;

test('a plan whose VMs run here is reprotected as a whole, once, and each VM says how it stands', async () => {
  await using sites = await movedToEast();
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
    result: SEEDED,
  });
  await until(east, async () => ((await stateAt(east)) === 'active' ? true : undefined));
});

test('a site that is away is asked when it is back, also by a manager that was started again', async () => {
  await using sites = await movedToEast();
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
  await using sites = await movedToEast();
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
