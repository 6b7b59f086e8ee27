import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ProtectionView } from '#/api/protections.ts';
import type { RunCheck, RunView } from '#/api/runs.ts';
import { doneTask, twoSites, VIEW, type TestSite } from '#/manager/site-fixture.ts';

type Sites = Awaited<ReturnType<typeof twoSites>>;
const UP = { vm_uuid: 'f3a0c1de-0000-4000-8000-000000000001', vm_name: 'ledger-test', up_ms: Date.now() };

/** ledger is protected from west to east, in a plan "all" with a message at its end. */
async function planned(sites: Sites, vms: Record<string, object> = {}): Promise<string> {
  const request = { vm: 'ledger', site: 'east', rpo_ms: 5000 };
  const view = await sites.west.api<ProtectionView>('POST', '/protections', request);
  await sites.eastServer.holds(view.replica_id!, [Date.now() - 2000, Date.now() - 1000]);
  await sites.eastServer.poll();
  await sites.east.api('POST', '/groups', { name: 'group', site: 'west', vms: ['ledger'] });
  const after = [{ kind: 'message', name: 'look at it', text: 'Does it work?' }];
  await sites.east.api('POST', '/plans', { name: 'all', groups: ['group'], after, vms });
  return view.replica_id!;
}

async function until(site: TestSite, id: string, isIt: (view: RunView) => boolean): Promise<RunView> {
  const { changes } = site.manager.context;
  const end = AbortSignal.timeout(20_000);
  for (;;) {
    const news = changes.next(['jobs'], 1000, end);
    const view = await site.api<RunView>('GET', `/runs/${id}`);
    if (isIt(view)) return view;
    if (end.aborted) throw new Error(`it is ${view.state}: ${JSON.stringify(view.steps, undefined, 1)}`);
    await news;
  }
}

const isAsked = ({ steps }: RunView): boolean =>
  steps!.some(({ kind, state }) => kind === 'message' && state === 'running');

test('a test of a plan brings its VM up on a network of the run, waits for a person, and is cleaned up', async () => {
  await using sites = await twoSites();
  const { east, eastAgent, eastServer } = sites;
  await planned(sites);
  const check = await east.api<RunCheck>('POST', '/runs/check', { plan: 'all', kind: 'test' });
  assert.deepEqual(check.refusals, []);
  assert.equal(check.vms[0]?.point, 2);
  assert.equal(check.vms[0]?.source, 'answers');
  const run = await east.api<RunView>('POST', '/runs', { plan: 'all', kind: 'test' });
  await assert.rejects(east.api('POST', '/runs', { plan: 'all', kind: 'disaster' }), {
    code: 'conflict',
    message: /of plan all, with VMs of this one, is running/,
  });
  await eastServer.finish(doneTask((await eastServer.task('open_view')).id, VIEW));
  const recover = await eastAgent.task('recover');
  assert(recover.kind === 'recover');
  assert.deepEqual(recover.test_network, { tag: run.id, networks: 'one' });
  // Up, and still at work: the plan goes on.
  await eastAgent.finish({ ...doneTask(recover.id, UP), state: 'running' });
  const asked = await until(east, run.id, isAsked);
  assert.equal(asked.vms[0]?.state, 'healthy');
  assert.equal(asked.vms[0]?.point, 2);
  await assert.rejects(east.api('POST', `/runs/${run.id}/steps/vm1-recover/answer`, { answer: 'abort' }), {
    code: 'conflict',
  });
  await east.restart();
  await eastAgent.send();
  await east.api('POST', `/runs/${run.id}/steps/plan-after-1/answer`, { answer: 'continue' });
  const ready = await until(east, run.id, ({ state }) => state === 'ready');
  assert(ready.up_ms !== null);
  await eastAgent.finish(doneTask(recover.id, UP));
  await east.api('POST', '/runs/all/cleanup');
  const discard = await eastAgent.task('discard');
  await eastAgent.finish(doneTask(discard.id));
  await eastServer.finish(doneTask((await eastServer.task('close_view')).id));
  await until(east, run.id, ({ state }) => state === 'cleaned');
  const { items } = await east.api<{ items: { state: string }[] }>('GET', '/recoveries');
  assert.deepEqual(
    items.map(({ state }) => state),
    ['cleaned'],
  );
});

test('a VM that the plan leaves off is ordered so, is off when it is there, and has no sign to wait for', async () => {
  await using sites = await twoSites();
  const { east, eastAgent, eastServer } = sites;
  await planned(sites, { ledger: { start: 'off', health: [{ kind: 'tcp', port: 80 }] } });
  for (const kind of ['test', 'migration', 'disaster']) {
    const check = await east.api<RunCheck>('POST', '/runs/check', { plan: 'all', kind });
    assert.deepEqual([check.refusals, check.warnings], [[], []], kind);
  }
  const run = await east.api<RunView>('POST', '/runs', { plan: 'all', kind: 'test' });
  await eastServer.finish(doneTask((await eastServer.task('open_view')).id, VIEW));
  const recover = await eastAgent.task('recover');
  assert(recover.kind === 'recover');
  assert.equal(recover.start, false);
  const off = { ...UP, up_ms: null, no_sign: null, left_off: true };
  await eastAgent.finish({ ...doneTask(recover.id, off), state: 'running' });
  const asked = await until(east, run.id, isAsked);
  assert.deepEqual([asked.vms[0]?.state, asked.vms[0]?.up_ms], ['off', null]);
  const step = asked.steps!.find(({ key }) => key === 'vm1-recover');
  assert.equal(step?.note, 'left off; its probes were left out');
});

test('addresses by disk are ordered with the recovery of every kind, and a VM that came up without them says so', async () => {
  await using sites = await twoSites();
  const { east, eastAgent, eastServer } = sites;
  const addresses = [{ nic: 0, ipv4: ['10.2.0.80/24'], gateway4: '10.2.0.1' }];
  const own = { customize_by: 'disk', customize_on_failure: 'continue', host_name: 'books', addresses };
  await planned(sites, { ledger: own });
  for (const kind of ['test', 'migration', 'disaster']) {
    const check = await east.api<RunCheck>('POST', '/runs/check', { plan: 'all', kind });
    assert.deepEqual([check.refusals, check.warnings], [[], []], kind);
  }
  const run = await east.api<RunView>('POST', '/runs', { plan: 'all', kind: 'test' });
  await eastServer.finish(doneTask((await eastServer.task('open_view')).id, VIEW));
  const recover = await eastAgent.task('recover');
  assert(recover.kind === 'recover');
  assert.deepEqual(recover.edit, {
    host_name: 'books',
    addresses,
    timeout_ms: 600_000,
    on_failure: 'continue',
  });
  const not = 'The addresses were not changed: its root is encrypted';
  await eastAgent.finish(doneTask(recover.id, { ...UP, not_edited: not }));
  const asked = await until(east, run.id, isAsked);
  assert.equal(asked.steps!.find(({ key }) => key === 'vm1-recover')?.note, not);
  assert(!asked.steps!.some(({ key }) => key === 'vm1-addresses'), 'nothing waits for an agent in the guest');
});

test('a run is refused with everything that is known, a disaster says in advance what it will not bring up', async () => {
  await using sites = await twoSites();
  const { east, eastServer, west } = sites;
  const replicaId = await planned(sites);
  const ask = (kind: string, more: object = {}): Promise<RunCheck> =>
    east.api<RunCheck>('POST', '/runs/check', { plan: 'all', kind, ...more });
  const old = await ask('test', { at_ms: 1000 });
  assert.match(old.refusals[0]!.message, /no recovery point as old as that/);
  const strange = await ask('migration', { points: { nobody: 1 } });
  assert.match(strange.refusals.map(({ message }) => message).join(), /takes the last state.*no VM "nobody"/);
  // Replication stopped long ago.
  await eastServer.holds(replicaId, [Date.now() - 120_000]);
  const late = await ask('migration');
  assert.match(late.refusals[0]!.message, /is behind: its newest point is 2 min old, with an RPO of 5\.0 s/);
  const lateTest = await ask('disaster');
  assert.deepEqual([lateTest.is_possible, lateTest.refusals], [true, []]);
  assert.match(lateTest.warnings.join(), /is behind/);
  assert(lateTest.vms[0]!.age_ms! >= 120_000);
  await west.stop();
  const dead = await ask('disaster');
  assert.equal(dead.vms[0]?.source, 'silent');
  assert.match(dead.warnings.join(), /site west does not answer/);
  assert.match((await ask('migration')).refusals.map(({ message }) => message).join(), /does not answer/);
  await eastServer.holds(replicaId, [], { state: 'broken' });
  const broken = await ask('disaster');
  assert.match(broken.refusals[0]!.message, /is broken/);
  await assert.rejects(east.api('POST', '/runs', { plan: 'all', kind: 'disaster' }), {
    code: 'storage_corrupt',
  });
  const { items } = await east.api<{ items: RunView[] }>('GET', '/runs');
  assert.deepEqual(items, [], 'nothing was begun');
  await assert.rejects(east.api('GET', '/runs/all'), { code: 'not_found' });
});
