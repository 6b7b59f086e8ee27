/**
 * The agent's tasks on a real host: real libvirtd, real QEMU, a served recovery point. The guest itself tells whether
 * its disk ever failed it: `+` for a write that ended well, `-` for one that did not.
 */
import assert from 'node:assert/strict';
import { mkdir, readdir } from 'node:fs/promises';
import { after, afterEach, before, test } from 'node:test';
import type { AgentTask, RecoverTask } from '#/control/orders.ts';
import { TaskReport } from '#/control/reports.ts';
import { createLog } from '#/lib/log.ts';
import { systemClock } from '#/lib/system-clock.ts';
import type { Domain } from '#/libvirt/domain.ts';
import { definition, makeEchoGuest } from '#test/echo-guest.ts';
import { startPrivateLibvirtd, type PrivateLibvirtd } from '#test/private-libvirtd.ts';
import { Check } from 'typebox/value';
import { Baselines } from './baseline/baselines.ts';
import { AgentTasks } from './agent-tasks.ts';
import { LibvirtConnection } from './libvirt-connection.ts';
import { GuestTalk, rawBytes, ServedPoint } from './recovery-fixture.ts';

const WAIT_MS = 30_000;
/** Writes of the guest are 64 KiB apart, so this many pass the half of its disk that a held point withholds. */
const WRITES = 80;
const log = createLog('agent', () => undefined);

let daemon: PrivateLibvirtd;
let libvirt: LibvirtConnection;
let disks: Record<string, Uint8Array>;
let point: ServedPoint;
let agent: Agent;
const upkeep = new AbortController();

/** An agent's tasks from its start to its end. */
class Agent {
  readonly tasks: AgentTasks;
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;
  #changed = Promise.withResolvers<void>();

  constructor(directory: string) {
    this.tasks = new AgentTasks({
      libvirt,
      clock: systemClock,
      log,
      dataDirectory: directory,
      tpmDirectory: `${daemon.directory}/../lib/swtpm`,
      replication: { report: () => undefined, nextCycle: () => assert.fail('nothing is replicated') },
      baselines: new Baselines({ dataDirectory: directory, libvirt: libvirt.current, log }),
      openLink: () => assert.fail('no console is opened'),
      // No task of these tests is one of a seed.
      seeds: {} as never,
      changed: () => this.#wake(),
      ended: () => this.#wake(),
      broken: (error) => assert.fail(String(error)),
    });
    this.#running = this.tasks.run(this.#stop.signal);
  }

  #wake(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }

  report(id: string): TaskReport | undefined {
    const report = this.tasks.reports().find((known) => known.id === id);
    assert(report === undefined || Check(TaskReport, report), 'the report is not of the agreed form');
    return report;
  }

  async until(what: string, isSo: () => boolean | Promise<boolean>): Promise<void> {
    const deadline = performance.now() + WAIT_MS;
    while (!(await isSo())) {
      assert(
        performance.now() < deadline,
        `not so in time: ${what}; ${JSON.stringify(this.tasks.reports())}`,
      );
      await Promise.race([this.#changed.promise, systemClock.sleep(50)]);
    }
  }

  async ended(id: string): Promise<TaskReport> {
    await this.until(`${id} has ended`, () => ['done', 'failed'].includes(this.report(id)?.state ?? ''));
    return this.report(id)!;
  }

  async close(): Promise<void> {
    await this.tasks.stop();
    this.#stop.abort();
    await this.#running;
  }
}

before(async () => {
  daemon = await startPrivateLibvirtd();
  libvirt = new LibvirtConnection({
    socketPath: daemon.socketPath,
    clock: systemClock,
    log,
    onEvent: () => undefined,
    onChange: () => undefined,
  });
  void libvirt.run(upkeep.signal);
  const guest = await makeEchoGuest(daemon, 'source');
  disks = {};
  for (const key of ['vda', 'vdb'])
    disks[key] = await rawBytes(daemon.run.bind(daemon), guest.imagePath(key));
});

after(async () => {
  upkeep.abort();
  await daemon?.[Symbol.asyncDispose]();
});

let number = 0;

async function begin(change: Partial<RecoverTask> = {}): Promise<RecoverTask> {
  point = new ServedPoint(`${daemon.directory}/p${++number}`, disks);
  await mkdir(point.directory);
  await point.attach(
    'definition',
    definition('web', (key) => `/gone/${key}`).replace(
      '<memory',
      `<uuid>6f0c8f0e-6a77-4a52-9f3e-0d5b6a0c1d2e</uuid><memory`,
    ),
  );
  await point.start();
  agent = new Agent(point.directory);
  return point.task({ id: `r${number}`, ...change });
}

/** Every test ends by a discard, after which nothing is left of it. */
afterEach(async () => {
  const discard: AgentTask = { id: 'd', kind: 'discard', recover_task_id: `r${number}` };
  agent.tasks.take([discard]);
  const report = await agent.ended('d');
  assert.equal(report.state, 'done', JSON.stringify(report));
  agent.tasks.take([]);
  await agent.close();
  await point.kill();
  const connection = await libvirt.ready(upkeep.signal);
  assert.deepEqual(await connection.listDomains(), []);
  assert.deepEqual(await connection.listNetworks(), []);
  assert.deepEqual(await readdir(`${point.directory}/images`), []);
  assert.deepEqual(await readdir(`${point.directory}/recoveries`), []);
});

async function domainOf(name = 'web'): Promise<Domain> {
  return await (await libvirt.ready(upkeep.signal)).lookupDomainByName(name);
}

/** Until the guest has answered all its writes well. */
async function assertWritten(talk: GuestTalk, count: number): Promise<void> {
  assert.equal(await talk.hear(count), '+'.repeat(count));
}

test('a server killed in the middle of the pull is a pause for the guest, and the pull ends all the same', async () => {
  const task = await begin();
  const isHeld = point.hold();
  agent.tasks.take([task]);
  await isHeld;
  await agent.until('it boots', () => agent.report(task.id)?.steps.at(-1)?.name === 'pull the disks');
  const domain = await domainOf();
  await using talk = await GuestTalk.open(domain);
  await point.kill();
  await talk.say('W'.repeat(WRITES));
  await agent.until('it is paused', async () => (await domain.getState()).reason === 'io-error');
  await point.start();
  await assertWritten(talk, WRITES);
  const report = await agent.ended(task.id);
  assert.equal(report.state, 'done', JSON.stringify(report));
  assert.equal(report.result!['independent'], true);
  await point.kill();
  await talk.say('Wx');
  assert.equal(await talk.hear(2), '+x');
});

test('a test VM that loses its server is resumed for as long as it exists', async () => {
  const task = await begin({ purpose: 'test', name: 'web-test' });
  agent.tasks.take([task]);
  assert.equal((await agent.ended(task.id)).state, 'done');
  // A manager that knows how it ended does not name the task any more.
  agent.tasks.take([]);
  assert.deepEqual(agent.tasks.reports(), []);
  await agent.close();
  agent = new Agent(point.directory);
  const domain = await domainOf('web-test');
  await using talk = await GuestTalk.open(domain);
  await point.kill();
  await talk.say('WWW');
  await agent.until('it is paused', async () => (await domain.getState()).reason === 'io-error');
  await point.start();
  await assertWritten(talk, 3);
});

test('a VM that is shut down during the pull stays off, and stands alone', async () => {
  const task = await begin();
  const isHeld = point.hold();
  agent.tasks.take([task]);
  await isHeld;
  await agent.until('it boots', () => agent.report(task.id)?.steps.at(-1)?.name === 'pull the disks');
  const domain = await domainOf();
  // QEMU does not end while it waits for a read.
  await point.kill();
  await domain.destroy();
  const isHeldAgain = point.hold();
  await point.start();
  await isHeldAgain;
  assert.deepEqual((await domain.getState()).state, 'paused');
  point.release();
  const report = await agent.ended(task.id);
  assert.equal(report.state, 'done', JSON.stringify(report));
  assert.equal((await domain.getState()).state, 'shutoff');
  await point.kill();
  await domain.start();
});

test('an agent that starts again neither repeats what it has finished nor forgets it', async () => {
  const task = await begin();
  agent.tasks.take([task]);
  const report = await agent.ended(task.id);
  await agent.close();
  await (await domainOf()).destroy();
  agent = new Agent(point.directory);
  agent.tasks.take([task]);
  assert.deepEqual(await agent.ended(task.id), report);
  assert.equal((await (await domainOf()).getState()).state, 'shutoff');
  agent.tasks.take([]);
  await agent.until(
    'it is forgotten',
    async () => !(await readdir(`${point.directory}/recoveries`)).some((name) => name.startsWith('task-')),
  );
});

test('libvirtd killed under a task is waited for', async () => {
  const task = await begin();
  const isHeld = point.hold();
  agent.tasks.take([task]);
  await isHeld;
  await daemon.killDaemon();
  point.release();
  await daemon.start();
  const report = await agent.ended(task.id);
  assert.equal(report.state, 'done', JSON.stringify(report));
});

test('an agent that ends in a recovery goes on with it at its next start', async () => {
  const task = await begin();
  const isHeld = point.hold();
  agent.tasks.take([task]);
  await isHeld;
  await agent.close();
  point.release();
  agent = new Agent(point.directory);
  agent.tasks.take([task]);
  assert.equal((await agent.ended(task.id)).result!['sign_of_life'], 'serial port: !');
});

test('a withdrawn task ends where it is, and a discard beside it has the last word', async () => {
  const task = await begin({ sign_of_life: { serial_text: 'never', timeout_ms: 600_000 } });
  agent.tasks.take([task]);
  await agent.until('it boots', () => agent.report(task.id)?.steps.at(-1)?.name === 'start');
  agent.tasks.take([task, { id: 'd2', kind: 'discard', recover_task_id: task.id }]);
  assert.equal((await agent.ended('d2')).state, 'done');
  assert.equal(agent.report(task.id), undefined);
  agent.tasks.take([task]);
  await agent.until('it boots again', () => agent.report(task.id)?.steps.at(-1)?.name === 'start');
  agent.tasks.take([]);
  await agent.until('it has ended', () => agent.tasks.reports().length === 0);
});

test('no sign of life is a failure that says what the guest said last', async () => {
  const task = await begin({ sign_of_life: { serial_text: 'login:', timeout_ms: 2000 } });
  agent.tasks.take([task]);
  const report = await agent.ended(task.id);
  assert.equal(report.state, 'failed');
  assert.equal(report.failure?.code, 'timeout');
  assert.match(report.failure!.hint!, /the last it said: !/);
});
