/** plan run, answer, cancel, resume, skip and their questions on the command line, against the managers of two sites. */
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { after, before, test } from 'node:test';
import type { ProtectionView } from '#/api/protections.ts';
import type { RunView } from '#/api/runs.ts';
import { doneTask, twoSites, VIEW } from '#/manager/site-fixture.ts';

const MAIN = new URL('main.ts', import.meta.url).pathname;
const UP = { vm_uuid: 'f3a0c1de-0000-4000-8000-000000000001', vm_name: 'ledger-test', up_ms: Date.now() };

type Run = { code: number; out: string; err: string };

let sites: Awaited<ReturnType<typeof twoSites>>;
let environment: Record<string, string | undefined>;

before(async () => {
  sites = await twoSites();
  const { east, eastServer, west } = sites;
  environment = {
    PATH: process.env['PATH'],
    TZ: 'UTC',
    ANTIPODE_MANAGER: `unix:${east.config.socketPath}`,
  };
  const request = { vm: 'ledger', site: 'east', rpo_ms: 60_000 };
  const view = await west.api<ProtectionView>('POST', '/protections', request);
  await eastServer.holds(view.replica_id!, [Date.now() - 2000, Date.now() - 1000]);
  await eastServer.poll();
  await east.api('POST', '/groups', { name: 'group', site: 'west', vms: ['ledger'] });
  const before = [{ kind: 'message', name: 'ask', text: 'Go?' }];
  const after = [{ kind: 'http', name: 'tell', url: 'http://127.0.0.1:9/', in: ['test'] }];
  await east.api('POST', '/plans', { name: 'all', groups: ['group'], before, after });
});

after(() => sites[Symbol.asyncDispose]());

/** At the recovery site, with nobody at the keyboard. */
async function antipode(...args: string[]): Promise<Run> {
  for (const program of [sites.westAgent, sites.eastAgent, sites.eastServer]) await program.send();
  return await new Promise((resolve) => {
    const options = { env: environment, timeout: 60_000 };
    execFile(process.execPath, [MAIN, ...args], options, (error, out, err) => {
      resolve({ code: error === null ? 0 : Number(error.code ?? -1), out, err });
    }).stdin?.end();
  });
}

async function good(...args: string[]): Promise<RunView> {
  const { code, out, err } = await antipode(...args, '--json');
  assert.equal(code, 0, `${args.join(' ')}: ${err}`);
  return JSON.parse(out) as RunView;
}

/** On a terminal, where somebody types the line once the command asks. */
async function typed(line: string, ...args: string[]): Promise<Run> {
  for (const program of [sites.westAgent, sites.eastAgent, sites.eastServer]) await program.send();
  const command = [process.execPath, MAIN, ...args].map((word) => `'${word}'`).join(' ');
  const child = spawn('script', ['-qec', command, '/dev/null'], { env: environment, timeout: 60_000 });
  let out = '';
  let isTyped = false;
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    out += text;
    if (isTyped || !out.includes('Type the name of the plan')) return;
    isTyped = true;
    child.stdin.write(`${line}\n`);
  });
  const code = await new Promise<number>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (status) => resolve(status ?? -1));
  });
  return { code, out, err: '' };
}

async function until(id: string, isIt: (view: RunView) => boolean): Promise<RunView> {
  const signal = AbortSignal.timeout(20_000);
  for (;;) {
    signal.throwIfAborted();
    const news = sites.east.manager.context.changes.next(['jobs'], 500, signal);
    const view = await sites.east.api<RunView>('GET', `/runs/${id}`);
    if (isIt(view)) return view;
    await news;
  }
}

const asks = ({ steps }: RunView): boolean =>
  steps!.some(({ key, state }) => key === 'plan-before-1' && state === 'running');

test('what runs a plan for real asks first: nobody there, a wrong name, and the right one', async () => {
  for (const kind of ['run', 'migrate']) {
    const { code, err } = await antipode('plan', kind, 'all');
    assert.equal(code, 2, err);
    assert.match(err, new RegExp(`antipode plan ${kind} asks before it begins, and nobody can answer here`));
    assert.match(err, /Add --yes/);
  }
  const wrong = await typed('al', 'plan', 'run', 'all', '--no-wait');
  assert.equal(wrong.code, 130, wrong.out);
  assert.match(wrong.out, /that was not "all": nothing was begun/);
  assert.deepEqual((await sites.east.api<{ items: unknown[] }>('GET', '/runs')).items, []);
  const right = await typed('all', 'plan', 'run', 'all', '--no-wait');
  assert.equal(right.code, 0, right.out);
  assert.match(right.out, /run run-\w+ is running/);
});

test('cancel, resume and answer say what came of it, and what is out of place is refused', async () => {
  const run = await sites.east.api<RunView>('GET', '/runs/all');
  await until(run.id, asks);
  const cancelled = await antipode('plan', 'cancel', 'all');
  assert.equal(cancelled.code, 0, cancelled.err);
  assert.match(cancelled.out, /is cancelled: what runs stays\. Go on with: antipode plan resume run-/);
  const early = await antipode('plan', 'answer', 'all');
  assert.equal(early.code, 4);
  assert.match(early.err, /has 0 messages that wait/);
  assert.equal((await good('plan', 'resume', 'all', '--no-wait')).state, 'running');
  await until(run.id, asks);
  const stopped = await antipode('plan', 'answer', 'all', '--abort');
  assert.match(stopped.out, /step plan-before-1 of run run-\w+ is answered: abort/);
  await until(run.id, ({ state }) => state === 'failed');
  const again = await antipode('plan', 'answer', 'all', 'plan-before-1');
  assert.equal(again.code, 4);
  assert.match(again.err, /waits for no answer: it is failed/);
  await good('plan', 'cancel', 'all', '--no-wait');
  const over = await antipode('plan', 'cleanup', 'all');
  assert.equal(over.code, 4);
  assert.match(over.err, /is a disaster: what it brought up is production/);
});

test('a test that fails by one step goes on without it, with the reason on record, and is cleaned up', async () => {
  const run = await good('plan', 'test', 'all', '--no-wait');
  await until(run.id, asks);
  await good('plan', 'answer', run.id);
  const { eastAgent, eastServer } = sites;
  await eastServer.finish(doneTask((await eastServer.task('open_view')).id, VIEW));
  await eastAgent.finish(doneTask((await eastAgent.task('recover')).id, UP));
  await until(run.id, ({ state }) => state === 'failed');
  const bare = await antipode('plan', 'skip', run.id, 'plan-after-1');
  assert.equal(bare.code, 2, 'without a reason');
  const safe = await antipode('plan', 'skip', run.id, 'vm1-recover', '--reason', 'why not');
  assert.equal(safe.code, 4);
  const skipped = await antipode('plan', 'skip', run.id, 'plan-after-1', '--reason', 'nobody listens');
  assert.match(skipped.out, /is skipped\. Go on with: antipode plan resume run-/);
  assert.equal((await good('plan', 'resume', run.id)).state, 'ready');
  assert.match(
    (await antipode('runs', run.id)).out,
    /plan-after-1 .*skipped by root: nobody listens; GET .*failed/,
  );
  const cleaning = await good('plan', 'cleanup', run.id, '--no-wait');
  assert.equal(cleaning.state, 'cleaning');
});
