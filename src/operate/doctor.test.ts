/** The doctor on this machine: bounded, side by side, on configurations and on none. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { ownVersion } from '#/lib/version.ts';
import { twoSites } from '#/manager/site-fixture.ts';
import { checksOf } from './checks.ts';
import { readConfigured } from './configured.ts';
import { examine, exitCodeOf, type Examination } from './doctor.ts';
import { check, Verdict } from './finding.ts';
import { gatherDatabase, gatherPeers } from './gather-manager.ts';
import { gatherPort, gatherReach } from './gather-shared.ts';
import { gatherStore } from './gather-store.ts';

const verdict = new Verdict('a', 'It matters.');

async function temporary(): Promise<AsyncDisposable & { path: string }> {
  const path = await mkdtemp(join(tmpdir(), 'antipode-doctor-'));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

test('a check whose gatherer never ends is judged when its time is over, and holds up no other', async () => {
  const never = check<number>(
    'stuck',
    () => new Promise(() => undefined),
    (facts) => ['failure' in facts ? verdict.bad(facts.failure, 'mend') : verdict.good('what')],
    50,
  );
  const quick = check(
    'quick',
    async () => 1,
    () => [verdict.warning('quick', 'mend')],
  );
  const { findings, state } = await examine([never, quick], () => undefined);
  assert.deepEqual(
    findings.map(({ saw }) => saw),
    ['nothing came back within 0.05 s', 'quick'],
  );
  assert.equal(exitCodeOf(state), 2);
});

test('who waits for two seconds hears what is still looked at', async () => {
  const slow = check<number>(
    'slow',
    () => new Promise(() => undefined),
    () => [verdict.good('late')],
    2100,
  );
  const heard: string[][] = [];
  assert.equal((await examine([slow], (names) => heard.push(names))).state, 'good');
  assert.deepEqual(heard, [['slow']]);
});

test('a store is tried on a real file system, which is left as it was', async () => {
  await using directory = await temporary();
  const facts = await gatherStore(directory.path, AbortSignal.timeout(10_000));
  assert.equal(facts.isSparse, true);
  assert(facts.syncMs > 0);
  assert.deepEqual(await readdir(directory.path), []);
});

test('a wrong key of a configuration is a finding that names it, and the other programs are looked at', async () => {
  await using directory = await temporary();
  const { path } = directory;
  await writeFile(join(path, 'agent.json'), JSON.stringify({ data_directory: '/x', hostt: 1 }));
  const server = {
    data_directory: join(path, 'data'),
    store_directory: path,
    advertised_host: 'localhost',
    manager_url: 'https://127.0.0.1:9',
  };
  await writeFile(join(path, 'replication-server.json'), JSON.stringify(server));
  const { stdout, code } = await doctor(path);
  const { findings, state } = JSON.parse(stdout) as Examination;
  assert.equal(state, 'bad');
  assert.equal(code, 2);
  const saw = (name: RegExp): string =>
    findings.find(({ check: one }) => name.test(one))?.saw ?? 'not looked at';
  assert.match(saw(/agent\.json/), /hostt: unknown key/);
  assert.match(saw(/^store/), /durable after/);
  assert.match(saw(/^membership/), /has not joined/);
  assert.match(saw(/^manager/), /ECONNREFUSED/);
  assert.equal(saw(/^database/), 'not looked at');
});

test('a machine without any configuration is looked at as a host', async () => {
  await using directory = await temporary();
  const names = checksOf(await readConfigured(directory.path)).map(({ name }) => name);
  for (const name of ['libvirt', 'qemu-img', 'KVM', 'clock', 'start hook', 'space for scratch']) {
    assert(names.includes(name), name);
  }
  assert(!names.some((name) => name.startsWith('membership')));
});

test('running managers are reached over the authority that is trusted, and their database is only looked at', async () => {
  await using sites = await twoSites();
  const { east, west } = sites;
  const signal = AbortSignal.timeout(10_000);
  const [peer] = await gatherPeers(west.config, signal);
  assert.equal(peer?.name, 'site east');
  assert('value' in peer.facts && peer.facts.value.skewMs === 0);
  assert.equal(peer.facts.value.version, ownVersion());
  await assert.rejects(
    gatherReach(west.address, { caPem: east.manager.context.authority.caPem }, signal),
    /certificate/,
  );
  const { known, migrations } = await gatherDatabase(west.config);
  assert.deepEqual(migrations, known);
  assert.equal(await gatherPort(west.address, signal), 'listening');
});

function doctor(directory: string): Promise<{ stdout: string; code: number }> {
  const args = ['src/cli/main.ts', 'doctor', '--json', '--config-directory', directory];
  return new Promise((resolve) => {
    execFile(process.execPath, args, (error, stdout) => resolve({ stdout, code: Number(error?.code ?? 0) }));
  });
}
