import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { ProtectionView } from '#/api/protections.ts';
import { doneTask, failedTask, twoSites, VIEW } from '#/manager/site-fixture.ts';
import { createProgram, GROUPS } from './program.ts';

const MAIN = new URL('main.ts', import.meta.url).pathname;

type Run = { code: number; out: string; err: string };

let sites: Awaited<ReturnType<typeof twoSites>>;
/** A directory laid out as a lab's, with the sockets of both managers. */
let lab: string;
let replicaId: string;

before(async () => {
  sites = await twoSites();
  lab = join(sites.west.directory, 'lab');
  for (const site of [sites.west, sites.east]) {
    const directory = join(lab, 'sites', site.config.siteName, 'run/antipode');
    await mkdir(directory, { recursive: true });
    await symlink(site.config.socketPath, join(directory, 'manager.sock'));
  }
});

after(() => sites[Symbol.asyncDispose]());

async function antipode(args: readonly string[], environment: Record<string, string> = {}): Promise<Run> {
  // The programs report all the time; here, before anything that depends on their reports.
  for (const program of [sites.westAgent, sites.eastAgent, sites.eastServer]) await program.send();
  const env = { PATH: process.env['PATH'], ANTIPODE_LAB: lab, TZ: 'UTC', ...environment };
  return await new Promise((resolve) => {
    execFile(process.execPath, [MAIN, ...args], { env, timeout: 60_000 }, (error, out, err) => {
      resolve({ code: error === null ? 0 : Number(error.code ?? -1), out, err });
    });
  });
}

test('a named command is there without the others, and what is none finds all of them', async () => {
  const named = async (name?: string): Promise<string[]> =>
    (await createProgram(name)).commands.map((command) => command.name());
  for (const { names } of GROUPS) {
    // Completion is made of all commands.
    if (!names.includes('completion')) for (const name of names) assert.deepEqual(await named(name), names);
  }
  const all = GROUPS.flatMap(({ names }) => names);
  assert.deepEqual(await named(), all);
  assert.deepEqual(await named('statsu'), all);
});

test('every command teaches by an example', async () => {
  const { commands } = await createProgram();
  assert(commands.length >= 18);
  const all = commands.flatMap((one) => (one.commands.length > 0 ? one.commands : [one]));
  for (const command of all) {
    let help = '';
    command.configureOutput({ writeOut: (text) => (help += text) }).outputHelp();
    assert.match(help, /Examples:\n {2}antipode /, command.name());
  }
});

test('wrong usage ends with 2 and says where to read on', async () => {
  for (const args of [['bogus'], ['protect'], ['protect', 'ledger'], ['status', '--bogus']]) {
    const { code, err } = await antipode(args);
    assert.equal(code, 2, args.join(' '));
    assert.match(err, /--help/);
  }
  const protect = ['protect', 'ledger', '--to', 'east', '--site', 'west'];
  for (const [args, words] of [
    [[...protect, '--rpo', '5'], /5s/],
    [[...protect, '--added-disks', 'ignore'], /report, replicate/],
    [['points', 'ledger', '--limit', 'all'], /--limit "all" is no count/],
    [['events', '--site', 'west', '--limit', '0'], /--limit "0" is no count/],
    [['join-token', 'manager', '--site', 'west'], /agent, replication-server/],
    [['statsu'], /unknown command 'statsu'[^]*Did you mean status\?/],
  ] as [string[], RegExp][]) {
    const { code, out, err } = await antipode(args);
    assert.deepEqual([code, out], [2, ''], args.join(' '));
    assert.match(err, words);
    const { code: jsonCode, err: json } = await antipode([...args, '--json']);
    assert.equal(jsonCode, 2);
    const problem = JSON.parse(json) as { code: string; message: string; hint: string };
    assert.equal(problem.code, 'usage_invalid');
    assert.match(`${problem.message} ${problem.hint}`, words);
  }
});

test('a replica that no site keeps is not found, and a silent manager is named', async () => {
  const none = await antipode(['points', 'nobody']);
  assert.equal(none.code, 4);
  assert.match(none.err, /no site of the lab keeps a replica of "nobody" \(east, west\)\n.*antipode status/);
  const half = await mkdtemp(join(tmpdir(), 'antipode-cli-'));
  try {
    const socket = async (site: string): Promise<string> => {
      const directory = join(half, 'sites', site, 'run/antipode');
      await mkdir(directory, { recursive: true });
      return join(directory, 'manager.sock');
    };
    await symlink(sites.west.config.socketPath, await socket('west'));
    // As it is left by a manager that was killed: there, and nobody listens.
    await writeFile(await socket('east'), '');
    const { code, err } = await antipode(['recover', 'nobody'], { ANTIPODE_LAB: half });
    assert.equal(code, 3);
    assert.match(err, /the manager of east is down\n.*lab start east\/manager/);
  } finally {
    await rm(half, { recursive: true });
  }
});

test('a reader that has seen enough ends a command without a word', async () => {
  const command = `"${process.execPath}" "${MAIN}" --help | true; echo "\${PIPESTATUS[0]}"`;
  const { out, err } = await new Promise<{ out: string; err: string }>((resolve) => {
    execFile('bash', ['-c', command], (_, out, err) => resolve({ out, err }));
  });
  assert.match(out, /^(0|141)\n$/);
  assert.equal(err, '');
});

test('with several sites to choose from it asks which, and with none it says what to do', async () => {
  const which = await antipode(['vms']);
  assert.equal(which.code, 2);
  assert.match(which.err, /--site east, --site west/);
  const unknown = await antipode(['vms', '--site', 'north']);
  assert.equal(unknown.code, 4);
  assert.match(unknown.err, /It has: east, west/);
  const none = await antipode(['vms'], { ANTIPODE_LAB: '/nowhere' });
  assert.equal(none.code, 4);
  assert.match(none.err, /--manager/);
  const down = await antipode(['vms', '--manager', 'unix:/nowhere/manager.sock']);
  assert.equal(down.code, 3);
  assert.match(down.err, /Check that the manager runs/);
});

test('protect, status and points show a VM as it is, and --json what the API says', async () => {
  const protect = await antipode([
    'protect',
    'ledger',
    '--to',
    'east',
    '--rpo',
    '1m',
    '--site',
    'west',
    '--json',
  ]);
  assert.equal(protect.code, 0, protect.err);
  replicaId = (JSON.parse(protect.out) as ProtectionView).replica_id!;
  await sites.eastServer.holds(replicaId, [Date.now() - 3000, Date.now() - 2000]);
  const status = await antipode(['status', '--site', 'east']);
  assert.match(status.out, /VM +PROTECTED AT +REPLICA AT +RPO +AGE +RPO MET +STATE/);
  assert.match(status.out, /ledger +west +east +1 min +\d+\.\d s +yes +ready/);
  const points = await antipode(['points', 'ledger', '--limit', '1']);
  assert.match(points.err, /replica of ledger is at east/);
  assert.match(points.err, /and 1 more/);
  assert.match(points.out, /^2 +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d +/m);
  const vms = await antipode(['vms', '--site', 'west']);
  assert.match(vms.out, /ledger +running +west-host +1\.0 GiB +vda 1\.0 GiB, vdb 1\.0 GiB +east/);
  for (const name of [
    'hosts',
    'sites',
    'replication-servers',
    'recoveries',
    'audit',
    'events',
    'alarms',
    'tokens',
  ]) {
    const { code, out } = await antipode([name, '--site', 'east', '--json']);
    assert.equal(code, 0, name);
    JSON.parse(out);
    assert.equal((await antipode([name, '--site', 'east'])).code, 0, name);
  }
});

test('a refusal ends with 4 and the way out, as JSON when asked', async () => {
  const again = ['protect', 'ledger', '--to', 'east', '--rpo', '5s', '--site', 'west'];
  const { code, err } = await antipode(again);
  assert.equal(code, 4);
  assert.match(err, /protected to site east already\n.*antipode set ledger/);
  const json = await antipode([...again, '--json']);
  assert.equal((JSON.parse(json.err) as { code: string }).code, 'already_exists');
  const recover = await antipode(['recover', 'ledger']);
  assert.equal(recover.code, 4);
  assert.match(recover.err, /running at site west.*\n.*--force/);
});

test('set says what a change costs, does nothing unasked that cannot be taken back, and changes it', async () => {
  const set = ['set', 'ledger', '--site', 'west'];
  const nothing = await antipode(set);
  assert.equal(nothing.code, 2);
  assert.match(nothing.err, /nothing is named that is to change/);
  assert.match((await antipode([...set, '--tier', '1h'])).err, /"1h" is no tier\n.*1h:1d/);
  const shorter = [...set, '--keep-all', '1s', '--tier', 'none'];
  const dry = await antipode([...shorter, '--dry-run']);
  assert.equal(dry.code, 0, dry.err);
  assert.match(dry.out, /Points kept: all of the last 1 s; until now all of the last 1 h/);
  assert.match(dry.err, /1 of 2 recovery points go/);
  const unasked = await antipode(shorter);
  assert.equal(unasked.code, 2);
  assert.match(unasked.err, /1 recovery points would go for ever\n.*--yes/);
  const done = await antipode([...set, '--rpo', '2m', '--disk', 'vda', '--json']);
  assert.equal(done.code, 0, done.err);
  const view = JSON.parse(done.out) as ProtectionView;
  assert.deepEqual([view.rpo_ms, view.disks, view.revision, view.told_revision], [120_000, ['vda'], 2, 2]);
  assert.match((await antipode([...set, '--rpo', '2m'])).out, /protected so already/);
});

test('recover finds the site, tells each step, and cleanup takes the copy down', async () => {
  const running = antipode(['recover', 'ledger', '--test']);
  const { eastAgent, eastServer } = sites;
  const open = await eastServer.task('open_view');
  await eastServer.finish(doneTask(open.id, VIEW));
  const recover = await eastAgent.task('recover');
  const step = { name: 'start the VM', started_ms: 1000, ended_ms: 1500, note: null };
  await eastAgent.finish({ ...doneTask(recover.id), steps: [step] });
  const { code, out, err } = await running;
  assert.equal(code, 0, err);
  assert.match(err, /open view: done/);
  assert.match(err, /start the VM \(500 ms\)/);
  assert.match(out, /ledger-test runs, from point 2 of .* old then.*\nIt is isolated.*antipode cleanup job-/);
  const cleaning = antipode(['cleanup', 'ledger']);
  await eastAgent.finish(doneTask((await eastAgent.task('discard')).id));
  await eastServer.finish(doneTask((await eastServer.task('close_view')).id));
  const cleaned = await cleaning;
  assert.equal(cleaned.code, 0, cleaned.err);
  assert.match(cleaned.out, /ledger-test is gone/);
});

test('a recovery that fails ends with the code of its failure and says how to clear it', async () => {
  const running = antipode(['recover', 'ledger', '--test', '--name', 'second']);
  const { eastAgent, eastServer } = sites;
  await eastServer.now();
  await eastAgent.now();
  const open = await eastServer.task('open_view');
  await eastServer.finish(doneTask(open.id, VIEW));
  const recover = await eastAgent.task('recover');
  await eastAgent.finish(failedTask(recover.id, 'no such machine type'));
  const { code, err } = await running;
  assert.equal(code, 3);
  assert.match(err, /no such machine type\n.*antipode cleanup job-/);
});

test('over HTTPS a token file and the authority of the site are needed', async () => {
  const { west } = sites;
  const manager = `https://127.0.0.1:${west.manager.port}`;
  const bare = await antipode(['vms', '--manager', manager]);
  assert.equal(bare.code, 5);
  assert.match(bare.err, /--token-file/);
  const token = await antipode(['token', 'alice', '--site', 'west']);
  const tokenFile = join(west.directory, 'token');
  await writeFile(tokenFile, token.out);
  const caFile = join(west.config.dataDirectory, 'ca.pem');
  const vms = await antipode(['vms', '--manager', manager, '--token-file', tokenFile, '--ca-file', caFile]);
  assert.equal(vms.code, 0, vms.err);
  const stranger = await antipode(['vms', '--manager', manager, '--token-file', tokenFile]);
  assert.equal(stranger.code, 3, 'a manager of an unknown authority is sent no token');
});

test('what a name brings along never steers the terminal', async () => {
  const { westAgent } = sites;
  const [vm] = westAgent.report.vms;
  westAgent.report.vms = [{ ...vm!, refusals: ['\u001b[2Jgone'] }];
  await westAgent.send();
  const { out } = await antipode(['vms', '--site', 'west']);
  assert.match(out, /\?\[2Jgone/);
  assert(!out.includes('\u001b'));
});
