/** Reports from what a run was to signed files, through the API and the command line. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { test } from 'node:test';
import { inflateSync } from 'node:zlib';
import type { Page } from '#/api/common.ts';
import type { ProtectionView } from '#/api/protections.ts';
import type { RecoveryView } from '#/api/recoveries.ts';
import type { ReportPicture, ReportSummary, RunReport } from '#/api/run-reports.ts';
import type { RunView } from '#/api/runs.ts';
import { encodePng } from '#/lib/png.ts';
import { doneTask, failedTask, LEDGER_UUID, twoSites, VIEW, type TestSite } from '#/manager/site-fixture.ts';
import { htmlOf } from './html.ts';
import { pdfOf } from './pdf.ts';

const CLI = new URL('../../cli/main.ts', import.meta.url).pathname;
const PNG = encodePng({ width: 4, height: 2, rgb: new Uint8Array(24).fill(200) }).toString('base64');
const EVIL = `</td><script>alert("x")</script> & 'y'`;
const REPORT: RunReport = {
  version: 1,
  id: 'job-1',
  site_id: 'site-east',
  site_name: 'east',
  kind: 'test',
  plan: null,
  started_by: null,
  outcome: 'failed',
  started_ms: 1_000_000,
  ended_ms: 1_090_000,
  failure: EVIL,
  warnings: [EVIL],
  vms: [
    {
      vm_uuid: '',
      vm_name: EVIL,
      name: EVIL,
      host_name: EVIL,
      priority: 1,
      state: EVIL,
      point: 7,
      moment_ms: 990_000,
      wanted_rpo_ms: 5000,
      rpo_ms: 10_000,
      rto_ms: null,
      steps: [
        { name: EVIL, state: 'failed', started_ms: 1_000_100, ended_ms: null, note: null, failure: EVIL },
      ],
      failure: EVIL,
      hint: EVIL,
      picture: `"><script>${PNG}`,
      picture_failure: null,
    },
  ],
  steps: [{ name: 'x'.repeat(500), state: 'done', started_ms: 1, ended_ms: 2, note: EVIL, failure: null }],
};

test('whatever a guest is called, the page has no script and no element of its making', () => {
  const html = htmlOf(REPORT);
  assert.doesNotMatch(html, /<script/i);
  assert.match(html, /&lt;script&gt;alert\(&quot;x&quot;\)/);
  assert.doesNotMatch(html, /\ssrc="(?!data:image\/png;base64,[A-Za-z0-9+/=]*")/);
  assert.doesNotMatch(html, /https?:/);
});

test('every object of the PDF is where its table says, and its pages have the words', () => {
  const good = structuredClone(REPORT);
  good.vms[0]!.picture = PNG;
  good.vms[0]!.steps = Array.from({ length: 200 }, (_, index) => ({
    ...REPORT.steps[0]!,
    name: `step ${index} \u4f60`,
  }));
  const text = pdfOf(good).toString('latin1');
  const start = Number(/startxref\n(\d+)\n%%EOF\n$/.exec(text)?.[1]);
  const rows = [...text.slice(start).matchAll(/^(\d{10}) 00000 n $/gm)].map(([, at]) => Number(at));
  assert(rows.length > 8);
  for (const [index, at] of rows.entries()) {
    assert(text.slice(at).startsWith(`${index + 1} 0 obj\n`), `object ${index + 1}`);
  }
  const pages = Number(/\/Type \/Pages \/Count (\d+)/.exec(text)?.[1]);
  assert(pages > 2);
  const streams = [...text.matchAll(/<< \/Filter \/FlateDecode \/Length (\d+) >>\nstream\n/g)];
  assert.equal(streams.length, pages);
  const words = streams.map((match) => {
    const from = match.index + match[0].length;
    return inflateSync(Buffer.from(text.slice(from, from + Number(match[1])), 'latin1')).toString('latin1');
  });
  assert.match(words.join(''), /step 199 U\+4F60/);
  assert.match(words.join(''), /alert\\\("x"\\\)/);
  assert.match(words.join(''), /\/P\d+ Do/);
  assert.match(text, /\/Subtype \/Image \/Width 4 \/Height 2/);
});

async function antipode(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  try {
    const { stdout, stderr } = await promisify(execFile)(process.execPath, [CLI, ...args], {
      timeout: 60_000,
    });
    return { code: 0, out: stdout, err: stderr };
  } catch (error) {
    const { code, stdout, stderr } = error as { code: number; stdout: string; stderr: string };
    return { code, out: stdout, err: stderr };
  }
}

/** Until something happened at the site, or a moment later. */
function news(site: TestSite): Promise<void> {
  const { changes } = site.manager.context;
  return changes.next(['events', 'orders'], 250, AbortSignal.timeout(1000));
}

test('a test that is up, and one that failed, each get a signed report with a picture or why there is none', async () => {
  await using sites = await twoSites();
  const { east, eastAgent, eastServer, west } = sites;
  const request = { vm: 'ledger', site: 'east', rpo_ms: 60_000 };
  const protection = await west.api<ProtectionView>('POST', '/protections', request);
  const momentMs = Date.now() - 3000;
  await eastServer.holds(protection.replica_id!, [momentMs - 1000, momentMs]);

  const newest = async (count: number): Promise<ReportSummary> => {
    for (;;) {
      const { items } = await east.api<Page<ReportSummary>>('GET', '/reports');
      if (items.length >= count) return items[0]!;
      await news(east);
      await eastAgent.send();
    }
  };
  const start = async (name: string): Promise<RecoveryView> => {
    const job = await east.api<RecoveryView>('POST', '/recoveries', { vm: 'ledger', purpose: 'test', name });
    await eastServer.now();
    while (!eastServer.orders!.tasks.some(({ id }) => id === `${job.id}-view`)) await eastServer.poll();
    await eastServer.finish(doneTask(`${job.id}-view`, VIEW));
    return job;
  };
  const ordered = async (id: string): Promise<void> => {
    await eastAgent.now();
    while (!eastAgent.orders!.tasks.some((task) => task.id === id)) await eastAgent.poll();
  };

  const good = await start('good');
  await ordered(`${good.id}-recover`);
  await eastAgent.finish(doneTask(`${good.id}-recover`));
  await ordered(`${good.id}-picture`);
  await eastAgent.finish(doneTask(`${good.id}-picture`, { png: PNG }));
  const passed = await newest(1);
  assert.deepEqual([passed.id, passed.outcome, passed.vms], [good.id, 'passed', ['ledger']]);
  const report = await east.api<RunReport>('GET', `/reports/${good.id}/files/report.json`);
  assert.equal(report.vms[0]?.picture, PNG);
  assert.equal(report.vms[0].rpo_ms, report.started_ms - momentMs);
  assert((report.vms[0].rto_ms ?? -1) >= 0);

  const bad = await start('bad');
  await ordered(`${bad.id}-recover`);
  await eastAgent.finish(failedTask(`${bad.id}-recover`, 'no sign of life'));
  await ordered(`${bad.id}-picture`);
  await eastAgent.finish(failedTask(`${bad.id}-picture`, 'no screen'));
  const failed = await newest(2);
  assert.deepEqual([failed.id, failed.outcome], [bad.id, 'failed']);
  const why = await east.api<RunReport>('GET', `/reports/${bad.id}/files/report.json`);
  assert.equal(why.vms[0]?.failure, 'no sign of life');
  assert.match(why.vms[0].picture_failure ?? '', /no screen/);
  assert.equal(why.vms[0].rto_ms, null);

  const listed = async (id: string) =>
    (await east.api<{ items: ReportPicture[] }>('GET', `/reports/${id}/pictures`)).items;
  assert.deepEqual(
    (await listed(good.id)).map(({ failure, name, picture }) => [picture, name, failure]),
    [[0, 'good', null]],
  );
  assert.match((await listed(bad.id))[0]?.failure ?? '', /no screen/);
  const seen = await get(east, `/reports/${good.id}/pictures/0`);
  assert.deepEqual([seen.status, seen.type, seen.body.toString('base64')], [200, 'image/png', PNG]);
  const again = await get(east, `/reports/${good.id}/pictures/0`, seen.etag);
  assert.deepEqual([again.status, again.body.length], [304, 0]);
  assert.equal((await get(east, `/reports/${bad.id}/pictures/0`)).status, 404);
  assert.equal((await get(east, `/reports/${good.id}/pictures/1`)).status, 404);

  const directory = await mkdtemp(join(tmpdir(), 'antipode-reports-'));
  try {
    const manager = ['--manager', `unix:${east.config.socketPath}`];
    const saved = await antipode('report', 'save', good.id, '--to', directory, '--json', ...manager);
    const { files } = JSON.parse(saved.out) as { files: string[] };
    assert.equal(files.length, 3);
    await east.restart();
    assert.equal((await east.api<Page<ReportSummary>>('GET', '/reports')).total, 2, 'kept over a restart');
    const authority = ['--authority', join(east.config.dataDirectory, 'ca.pem')];
    const pdf = files.find((path) => path.endsWith('.pdf'))!;
    const valid = await antipode('report', 'verify', pdf, ...authority);
    assert.equal(valid.code, 0, valid.err);
    assert.match((await readFile(pdf)).subarray(0, 8).toString(), /%PDF-1.4/);
    const bytes = await readFile(pdf);
    bytes[bytes.length - 1]! ^= 1;
    await writeFile(pdf, bytes);
    const changed = await antipode('report', 'verify', pdf, ...authority);
    assert.equal(changed.code, 4);
    assert.match(changed.err, /is not what the site signed/);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});

test('a plan that tests itself is tested when it is due, reported with its VMs, cleaned up, and not at once again', async () => {
  await using sites = await twoSites();
  const { east, eastAgent, eastServer, west } = sites;
  const request = { vm: 'ledger', site: 'east', rpo_ms: 60_000 };
  const protection = await west.api<ProtectionView>('POST', '/protections', request);
  await eastServer.holds(protection.replica_id!, [Date.now() - 1000]);
  await east.api('POST', '/groups', { name: 'shop', site: 'west', vms: ['ledger'] });
  const everyMs = 3_600_000;
  await east.api('POST', '/plans', { name: 'all', groups: ['shop'], test: { every_ms: everyMs } });
  const runs = async (): Promise<RunView[]> =>
    (await east.api<Page<RunView>>('GET', '/runs')).items.filter(({ plan }) => plan === 'all');
  let atMs = performance.now() + 60_000;
  /** Time passes for the schedule, and programs report. */
  const tick = async (): Promise<void> => {
    for (const program of [eastAgent, eastServer]) await program.send();
    await east.manager.schedule.look((atMs += 5000));
  };
  await tick();
  assert.deepEqual(await runs(), [], 'not due before its interval is over');

  // The manager was down for three intervals: one test makes up for all.
  await east.stop();
  const long = Date.now() - 3 * everyMs;
  await east.restart();
  await east.manager.context.db.updateTable('plans').set({ created_ms: long }).execute();
  const until = async <T>(ask: () => Promise<T | undefined>): Promise<T> => {
    for (;;) {
      const answer = await ask();
      if (answer !== undefined) return answer;
      await news(east);
      await tick();
    }
  };
  const run = await until(async () => (await runs())[0]);
  assert.match(run.started_by, /schedule/);
  await eastServer.now();
  await eastServer.finish(doneTask((await eastServer.task('open_view')).id, VIEW));
  await eastAgent.now();
  const recover = await eastAgent.task('recover');
  await eastAgent.finish(
    doneTask(recover.id, { vm_uuid: LEDGER_UUID, vm_name: 'ledger-test', up_ms: Date.now() }),
  );
  const picture = await until(async () => {
    await eastAgent.now();
    return eastAgent.orders!.tasks.find(({ kind }) => kind === 'picture');
  });
  await eastAgent.finish(doneTask(picture.id, { png: PNG }));
  const summary = await until(async () => {
    const { items } = await east.api<Page<ReportSummary>>('GET', '/reports');
    return items[0];
  });
  assert.deepEqual([summary.id, summary.plan, summary.outcome], [run.id, 'all', 'passed']);
  const report = await east.api<RunReport>('GET', `/reports/${run.id}/files/report.json`);
  assert.equal(report.vms[0]?.picture, PNG);
  await until(async () => {
    await eastAgent.now();
    return eastAgent.orders!.tasks.find(({ kind }) => kind === 'discard');
  });
  const discard = await eastAgent.task('discard');
  await eastAgent.finish(doneTask(discard.id));
  await eastServer.now();
  await eastServer.finish(doneTask((await eastServer.task('close_view')).id));
  await until(async () => ((await runs())[0]?.state === 'cleaned' ? true : undefined));
  await tick();
  assert.equal((await runs()).length, 1);
});

/** As a browser does, which knows what it has by its tag. */
async function get(site: TestSite, path: string, tag?: string) {
  const headers = tag === undefined ? {} : { 'if-none-match': tag };
  const request = httpRequest({ socketPath: site.config.socketPath, path: `/api/v1${path}`, headers }).end();
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  const body = Buffer.concat(await response.toArray());
  const { 'content-type': type, etag } = response.headers;
  return { status: response.statusCode, type, etag, body };
}
