/** For tests: a plan whose VM was brought up at east, with its old copy at west, as two real managers agree on it. */
import assert from 'node:assert/strict';
import type { ProtectionView } from '#/api/protections.ts';
import type { RunReprotection } from '#/api/reprotections.ts';
import type { RunView } from '#/api/runs.ts';
import { doneTask, ledgerVm, twoSites, VIEW, type FakeAgent, type TestSite } from './site-fixture.ts';

/** east has recovered ledger by a disaster recovery of plan "all"; west has its old copy, and a replication server. */
export async function movedToEast(plan: object = {}) {
  const sites = await twoSites();
  const { east, west, eastAgent, eastServer, westAgent } = sites;
  const request = { vm: 'ledger', site: 'east', rpo_ms: 5000 };
  const { replica_id: id } = await west.api<ProtectionView>('POST', '/protections', request);
  await eastServer.holds(id!, [Date.now() - 2000, Date.now() - 1000]);
  await eastServer.poll();
  const westServer = await west.server('west-server');
  await westServer.send();
  await east.api('POST', '/groups', { name: 'group', site: 'west', vms: ['ledger'] });
  await east.api('POST', '/plans', { name: 'all', groups: ['group'], ...plan });
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

export async function until<T>(site: TestSite, ask: () => Promise<T | undefined>): Promise<T> {
  const signal = AbortSignal.timeout(30_000);
  for (;;) {
    signal.throwIfAborted();
    const news = site.manager.context.changes.next(['jobs', 'orders', 'reports'], 200, signal);
    const answer = await ask();
    if (answer !== undefined) return answer;
    await news;
  }
}

export async function seedTask(agent: FakeAgent) {
  for (;;) {
    const task = agent.orders?.tasks.find((known) => known.kind === 'seed');
    if (task !== undefined) return task;
    await agent.poll();
  }
}

/** What the host of an old copy tells when that has become a recovery point. */
export const SEEDED = {
  sequence: 1,
  moment_ms: 1,
  read_bytes: 0,
  changed_bytes: 0,
  only_here: null,
  only_here_note: null,
};
