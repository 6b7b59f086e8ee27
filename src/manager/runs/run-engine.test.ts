import assert from 'node:assert/strict';
import { chmod, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { test } from 'node:test';
import { fullPlan, isSettled, RUN_ID, Stage } from './engine-fixture.ts';
import { callHttp } from './execute/http.ts';
import { runCommand } from './execute/command.ts';
import { message, planOf, planVm } from './run-fixture.ts';
import { LEASE_MS } from './run-lease.ts';
import type { StepBody } from './run-step.ts';
import type { StepCall } from './step-executor.ts';

/** Past every time limit of the plans here but that of a person. */
const LONG_MS = 3_600_000;
const DAYS_MS = 3 * 86_400_000;

test('a person who never answers fails the message when its time is up, and the run is resumed from there', async () => {
  await using stage = await Stage.open(planOf('disaster', [planVm('web')], { before: [message('go?')] }));
  stage.world.trouble.silent.add('person');
  await stage.drive(stage.engine());
  assert.equal((await stage.run()).state, 'running');
  assert.equal((await stage.step('plan-before-1')).note, 'waits for a person');
  stage.clock.advance(DAYS_MS);
  await stage.drive(stage.engine());
  const { state, failure } = await stage.run();
  assert.equal(state, 'failed');
  assert.match(failure!.message, /^go\?: nobody answered within 86400 s \(\d+ left out for that\)/);
  assert.equal(stage.world.jobs.size, 0, 'nothing was brought up');
  assert.match((await stage.step('vm1-recover')).note!, /left out, since "priority 3 is shut down/);
  stage.world.trouble.silent.delete('person');
  await stage.runs.resume(RUN_ID, 'alice');
  await stage.drive(stage.engine());
  assert.equal((await stage.run()).state, 'done');
});

test('a probe that fails keeps what depends on the VM from starting, and nothing else', async () => {
  const vms = [
    planVm('database', { priority: 1, health: [{ kind: 'agent' }] }),
    planVm('web', { priority: 2, dependsOn: ['uuid-database'] }),
    planVm('mail', { priority: 2 }),
  ];
  await using stage = await Stage.open(planOf('disaster', vms));
  stage.world.trouble.broken.add('probe:database');
  await stage.drive(stage.engine());
  assert.equal((await stage.run()).state, 'failed');
  assert.deepEqual([...stage.world.jobs.values()].map(({ name }) => name).toSorted(), ['database', 'mail']);
  stage.world.trouble.broken.clear();
  await stage.runs.resume(RUN_ID, 'alice');
  await stage.drive(stage.engine());
  assert.equal((await stage.run()).state, 'done');
  assert.equal(stage.world.jobs.size, 3, 'nobody was brought up twice');
});

test('a person has a run go on without a step that failed, which stays on record, but not without what keeps VMs safe', async () => {
  const vms = [
    planVm('database', { priority: 1, health: [{ kind: 'agent' }] }),
    planVm('web', { priority: 2, dependsOn: ['uuid-database'] }),
    planVm('mail', { priority: 3 }),
  ];
  await using stage = await Stage.open(planOf('disaster', vms));
  const { broken } = stage.world.trouble;
  broken.add('probe:database').add('recover:mail');
  const skip = (key: string) => stage.runs.skip(RUN_ID, key, 'its agent is broken', 'alice');
  await assert.rejects(skip('vm1-sign-1'), { code: 'conflict', message: /is running/ });
  await stage.drive(stage.engine());
  await assert.rejects(skip('vm1-sign-9'), { code: 'not_found' });
  await assert.rejects(skip('vm1-recover'), { code: 'conflict', message: /is done/ });
  await assert.rejects(skip('vm2-recover'), { code: 'conflict', message: /is skipped/ });
  await assert.rejects(skip('vm3-recover'), {
    code: 'conflict',
    message: /cannot be skipped: bring up mail/,
  });
  const view = await skip('vm1-sign-1');
  assert.equal(view.state, 'failed', 'nothing goes on by itself');
  broken.delete('recover:mail');
  await stage.runs.resume(RUN_ID, 'alice');
  await stage.drive(stage.engine());
  const done = await stage.runs.show(RUN_ID);
  assert.equal(done.state, 'done');
  const step = done.steps!.find(({ key }) => key === 'vm1-sign-1')!;
  assert.deepEqual([step.state, step.note], ['skipped', 'skipped by alice: its agent is broken']);
  assert.equal(step.attempts, 1, 'it was not tried again');
  assert.match(step.failure!.message, /is broken/);
  assert.deepEqual(
    done.vms.map(({ vm_name: name, state }) => [name, state]),
    [
      ['database', 'up'],
      ['web', 'alone'],
      ['mail', 'alone'],
    ],
  );
});

test('a step of a migration is skipped after its VMs came up, and the plan goes on behind it', async () => {
  const after = [message('tell them')];
  const plan = planOf('migration', [planVm('web')], { after, priorities: { '3': { before: [], after } } });
  await using stage = await Stage.open(plan);
  stage.world.trouble.silent.add('person');
  await stage.drive(stage.engine());
  stage.clock.advance(2 * 86_400_000);
  await stage.drive(stage.engine());
  assert.equal((await stage.run()).state, 'failed');
  await stage.runs.skip(RUN_ID, 'p3-after-1', 'they know', 'bob');
  stage.world.trouble.silent.clear();
  await stage.runs.resume(RUN_ID, 'bob');
  await stage.drive(stage.engine());
  assert.equal((await stage.run()).state, 'done');
  assert.equal((await stage.step('plan-after-1')).state, 'done');
});

test('a probe that never answers is given up when its time is up, and ended at its host', async () => {
  await using stage = await Stage.open(planOf('test', [planVm('web', { health: [{ kind: 'agent' }] })]));
  stage.world.trouble.silent.add('probe:web');
  await stage.drive(stage.engine());
  stage.clock.advance(LONG_MS);
  await stage.drive(stage.engine());
  assert.equal((await stage.run()).state, 'failed');
  assert.match((await stage.step('vm1-sign-1')).failure!.message, /not done within 330 s/);
  assert(stage.world.story.includes(`cancel ${RUN_ID}-vm1-sign-1-a1`));
  await stage.runs.cleanUp(RUN_ID, 'alice');
  await stage.drive(stage.engine(), ({ state }) => state === 'cleaned');
  assert.deepEqual(stage.world.state(), { atSource: ['web'], recovered: [], suspended: [] });
});

test('a recovery that failed is removed before it is tried again', async () => {
  await using stage = await Stage.open(planOf('disaster', [planVm('web')]));
  stage.world.trouble.broken.add('recover:web');
  await stage.drive(stage.engine());
  assert.equal((await stage.run()).state, 'failed');
  stage.world.trouble.broken.clear();
  await stage.runs.resume(RUN_ID, 'alice');
  await stage.drive(stage.engine());
  assert.deepEqual(stage.world.story.slice(-3), ['recover web', 'discard web', 'recover web']);
  assert.equal((await stage.run()).state, 'done');
});

test('disks that cannot be pulled are tried once more by the run, and again by each resume, with the VM up all the time', async () => {
  await using stage = await Stage.open(planOf('disaster', [planVm('web')]));
  stage.world.trouble.broken.add('pull:web');
  await stage.drive(stage.engine());
  const { state, vms } = await stage.runs.show(RUN_ID);
  assert.deepEqual([state, vms[0]!.state], ['failed', 'failed']);
  assert.match((await stage.step('vm1-alone')).failure!.message, /the disks of web cannot be pulled/);
  assert.equal((await stage.step('vm1-recover')).state, 'done');
  stage.world.trouble.broken.clear();
  stage.clock.advance(1000);
  await stage.runs.resume(RUN_ID, 'alice');
  await stage.drive(stage.engine());
  assert.equal((await stage.run()).state, 'done');
  assert.deepEqual(
    stage.world.story.filter(
      (line) => line.endsWith(' web') && !line.startsWith('shut_down') && !line.startsWith('last'),
    ),
    ['recover web', 'retry web', 'retry web'],
  );
});

test('a migration whose last cycle fails starts its sources again by itself, and says why', async () => {
  await using stage = await Stage.open(fullPlan('migration'));
  stage.world.trouble.broken.add('last_cycle:web');
  await stage.drive(stage.engine(), ({ state }) => state === 'cleaned');
  const { state, failure } = await stage.run();
  assert.equal(state, 'cleaned');
  assert.match(failure!.message, /last cycle of web: last_cycle:web is broken/);
  assert.deepEqual(stage.world.state(), { atSource: ['database', 'web'], recovered: [], suspended: [] });
});

test('a disaster goes on from the newest point when the other site can shut nothing down', async () => {
  await using stage = await Stage.open(fullPlan('disaster'));
  for (const name of ['database', 'web']) stage.world.trouble.broken.add(`shut_down:${name}`);
  await stage.drive(stage.engine());
  assert.equal((await stage.run()).state, 'done');
  assert.deepEqual(
    [...stage.world.jobs.values()].map(({ point }) => point),
    [7, 7],
  );
  assert.deepEqual(stage.world.twice(), []);
});

test('what a manager found out after its lease had gone to another one is not recorded', async () => {
  await using stage = await Stage.open(planOf('test', [planVm('web', { health: [{ kind: 'agent' }] })]));
  const slow = stage.engine({ managerId: 'slow' });
  stage.world.trouble.silent.add('probe:web');
  await stage.drive(slow);
  let release: () => void = () => undefined;
  const held = new Promise<void>((resolve) => (release = resolve));
  const probe = stage.world.probe.bind(stage.world);
  stage.world.probe = async () => {
    await held;
    return { state: 'failed', failure: { code: 'timeout', message: 'too late', hint: null } };
  };
  await slow.advance();
  stage.clock.advance(LEASE_MS + 1);
  stage.world.probe = probe;
  stage.world.trouble.silent.clear();
  const quick = stage.engine({ managerId: 'quick' });
  await stage.drive(quick);
  assert.equal((await stage.run()).state, 'ready');
  release();
  await slow.idle();
  await slow.advance();
  assert.equal((await stage.step('vm1-sign-1')).state, 'done');
  assert(isSettled(await stage.run()));
});

function call<Body extends StepBody>(body: Body, signal: AbortSignal): StepCall<Body> {
  const run = { id: RUN_ID, plan: planOf('test', []) };
  const step = { key: 'plan-before-1', attempts: 1, vmUuid: null };
  return {
    run,
    step,
    body,
    steps: new Map(),
    id: 'x',
    signal,
    hold: async () => undefined,
  } as unknown as StepCall<Body>;
}

test('a command is run without a shell and next to no environment, bounded in what it says, and ended with its children', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'antipode-commands-'));
  try {
    const program = async (name: string, text: string, mode = 0o755): Promise<void> => {
      await writeFile(join(directory, name), `#!/bin/sh\n${text}\n`);
      await chmod(join(directory, name), mode);
    };
    await program('show', 'echo "$ANTIPODE_RUN $ANTIPODE_ATTEMPT $HOME [$1]"');
    await program('fails', 'echo oh no >&2; exit 3');
    await program('talks', 'head -c 1000000 /dev/zero | tr "\\\\0" x');
    await program('endless', 'sleep 1000 & echo $! > "$1"; wait');
    await program('loose', 'true', 0o777);
    await symlink(join(directory, 'show'), join(directory, 'link'));
    const never = new AbortController().signal;
    const ask = (command: string, signal = never, ...args: string[]) =>
      runCommand(call({ kind: 'command', command, arguments: args }, signal), directory);
    const shown = await ask('show', never, '$(id) x');
    assert(shown.state === 'done');
    assert.equal(shown.result!['output'], `${RUN_ID} 1  [$(id) x]\n`);
    const bad = await ask('fails');
    assert(bad.state === 'failed');
    assert.equal(bad.failure.message, 'fails ended with 3; it said: oh no');
    const long = await ask('talks');
    assert(long.state === 'done');
    assert.deepEqual([String(long.result!['output']).length, long.result!['output_was_cut']], [65_536, true]);
    await assert.rejects(ask('loose'), { code: 'forbidden', message: /written by others/ });
    await assert.rejects(ask('link'), { code: 'forbidden', message: /no regular file/ });
    await assert.rejects(ask('absent'), { code: 'not_found' });
    const none = await runCommand(call({ kind: 'command', command: 'show', arguments: [] }, never), null);
    assert(none.state === 'failed' && none.failure.code === 'forbidden');
    // A script that never ends, with a child of its own, when its time is up.
    const stop = new AbortController();
    const file = join(directory, 'pid');
    const ended = ask('endless', stop.signal, file);
    let pid = NaN;
    while (!(pid > 0)) {
      await setTimeout(20);
      pid = Number(
        await import('node:fs/promises').then(({ readFile }) => readFile(file, 'utf8').catch(() => '')),
      );
    }
    stop.abort();
    const cut = await ended;
    assert(cut.state === 'failed');
    assert.match(cut.failure.message, /was ended by SIGKILL/);
    // Gone, or dead and waiting for init to notice.
    while (/^\d+ \(sleep\) [^ZX]/.test(await readFile(`/proc/${pid}/stat`, 'latin1').catch(() => '')))
      await setTimeout(20);
    await chmod(directory, 0o777);
    await assert.rejects(ask('show'), { code: 'forbidden' });
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});

test('an HTTP call counts the status that was wanted, follows no redirect to another scheme, and keeps little', async () => {
  const server = createServer((request, response) => {
    if (request.url === '/away') response.writeHead(302, { location: 'file:///etc/passwd' });
    else if (request.url === '/there') response.writeHead(302, { location: '/good' });
    else response.writeHead(request.url === '/good' ? 200 : 500);
    response.end('x'.repeat(100_000));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  try {
    const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const ask = (path: string, status: number | null = null) =>
      callHttp(
        call(
          { kind: 'http', method: 'GET', url: `${base}${path}`, body: null, status },
          AbortSignal.timeout(10_000),
        ),
      );
    const good = await ask('/there');
    assert(good.state === 'done');
    assert.equal(String(good.result!['answer']).length, 4096);
    assert.equal((await ask('/bad')).state, 'failed');
    assert.equal((await ask('/bad', 500)).state, 'done');
    const away = await ask('/away');
    assert(away.state === 'failed');
    assert.match(away.failure.message, /redirected to file:, which is not followed/);
  } finally {
    server.closeAllConnections();
    server.close();
  }
});
