/** What a rebuild brings back from paired sites, and what it says of recoveries that nobody remembers. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Page } from '#/api/common.ts';
import type { EventView } from '#/api/events.ts';
import type { PlanView } from '#/api/plans.ts';
import type { ReadinessView } from '#/api/readiness.ts';
import type { RebuildView } from '#/api/rebuild.ts';
import type { RecoveryView } from '#/api/recoveries.ts';
import { doneTask, ledgerVm, pairSites, twoSites, VIEW, type TestSite } from '#/manager/site-fixture.ts';
import { findPeerDocument } from '#/manager/store/peer-document-store.ts';
import { Documents } from './documents.ts';
import { loseDatabase, protectLedger, rebuild } from './rebuild-fixture.ts';

type Sites = Awaited<ReturnType<typeof twoSites>>;

const PLAN = { name: 'all', groups: ['shop'], vms: { ledger: { priority: 2 } } };

/** East has a plan, which west keeps a copy of. */
async function planned(sites: Sites): Promise<void> {
  const { east, west } = sites;
  await protectLedger(sites);
  await east.api('POST', '/groups', { name: 'shop', site: 'west', vms: ['ledger'] });
  await east.api('POST', '/plans', PLAN);
  const siteId = east.manager.context.identity.siteId;
  await until(async () => {
    const kept = await findPeerDocument(west.manager.context.db, siteId);
    return kept?.document.includes('"all"') === true ? true : undefined;
  }, west);
}

async function until<T>(ask: () => Promise<T | undefined>, site: TestSite): Promise<T> {
  const signal = AbortSignal.timeout(30_000);
  for (;;) {
    signal.throwIfAborted();
    const news = site.manager.context.changes.next(['jobs', 'orders', 'reports'], 200, signal);
    const answer = await ask();
    if (answer !== undefined) return answer;
    await news;
  }
}

test('plans and groups come back from the copy that the paired site keeps', async () => {
  await using sites = await twoSites();
  const { east, eastAgent, eastServer } = sites;
  await planned(sites);
  const before = await east.api<PlanView>('GET', '/plans/all');
  await loseDatabase(east);
  const { result } = await rebuild(east, [eastAgent, eastServer]);
  assert.equal(result?.documents, 2);
  assert.deepEqual(await east.api<PlanView>('GET', '/plans/all'), before);
  assert.deepEqual((await east.api<ReadinessView>('GET', '/plans/all/readiness')).vms.length, 1);
});

test('a copy that the paired site has changed is not believed, and nothing else is lost by it', async () => {
  await using sites = await twoSites();
  const { east, eastAgent, eastServer, west } = sites;
  await planned(sites);
  const { db } = west.manager.context;
  const kept = await findPeerDocument(db, east.manager.context.identity.siteId);
  await loseDatabase(east);
  const document = kept!.document.replace('shop', 'evil');
  assert.notEqual(document, kept!.document);
  await db.updateTable('peer_documents').set({ document }).execute();
  const { result } = await rebuild(east, [eastAgent, eastServer]);
  assert.deepEqual([result?.documents, result?.replicas], [0, 1]);
  assert.equal((await east.api<Page<PlanView>>('GET', '/plans')).total, 0);
});

test('an empty database does not replace the copy of the full one that it was', async () => {
  await using sites = await twoSites();
  const { east, west } = sites;
  await planned(sites);
  const siteId = east.manager.context.identity.siteId;
  const kept = await findPeerDocument(west.manager.context.db, siteId);
  await loseDatabase(east);
  await east.api('POST', '/rebuild/abandon');
  await pairSites(west, east);
  await new Documents(east.manager.context, east.manager.peers).tell();
  const still = await findPeerDocument(west.manager.context.db, siteId);
  assert.equal(still?.document, kept?.document);
});

test('a recovery and a test that were under way are named with what to do, and plans say so until it is done', async () => {
  await using sites = await twoSites();
  const { east, eastAgent, eastServer, westAgent } = sites;
  await planned(sites);
  const trial = await east.api<RecoveryView>('POST', '/recoveries', { vm: 'ledger', purpose: 'test' });
  await eastServer.finish(doneTask((await eastServer.task('open_view')).id, VIEW));
  await eastAgent.finish(doneTask((await eastAgent.task('recover')).id));
  const mark = { recovered_by_task: `${trial.id}-recover` };
  const copy = ledgerVm({ ...mark, name: 'ledger-test', uuid: '7a2c9a52-6d1e-4a70-9c53-2b8a5e6f1099' });
  eastAgent.report.vms = [copy];
  await eastAgent.send();
  const job = await east.api<RecoveryView>('POST', '/recoveries', { vm: 'ledger', force: true });
  await westAgent.yields(2);
  await eastServer.now();
  await eastServer.finish(doneTask(`${job.id}-view`, VIEW));
  await until(async () => {
    const { tasks } = await eastAgent.now();
    return tasks.some(({ id }) => id === `${job.id}-recover`) ? true : undefined;
  }, east);

  await loseDatabase(east);
  const { result } = await rebuild(east, [eastAgent, eastServer]);
  const notes = result!.notes.join('\n');
  assert.doesNotMatch(notes, /of plan run/);
  assert.match(notes, /a test recovery was under way .*: VM ledger-test is running on host east-host/);
  assert.match(
    notes,
    /a recovery \(not begun\) was under way .*: VM ledger is not there .* recover ledger --point 2/,
  );
  const { items } = await east.api<{ items: EventView[] }>('GET', '/events');
  assert.equal(items.filter(({ kind }) => kind === 'recovery.left_over').length, 2);
  const said = async (): Promise<string[]> => {
    const { findings } = await east.api<ReadinessView>('GET', '/plans/all/readiness');
    return findings.filter(({ code }) => code === 'left_over').map(({ text }) => text);
  };
  assert.equal((await said()).length, 2);
  eastAgent.report.vms = [];
  await eastAgent.send();
  await eastServer.send();
  assert.match((await said()).join(), /^ledger: a recovery \(not begun\)/);
  await east.api('POST', '/recoveries', { vm: 'ledger', point: 2 });
  assert.deepEqual(await said(), []);
  assert.equal((await east.api<RebuildView>('GET', '/rebuild')).state, 'none');
});
