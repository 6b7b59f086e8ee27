/**
 * VMs that are left off, on a real host: real libvirtd, real QEMU under TCG, and a guest that would say a word on its
 * serial port as soon as it runs.
 */
import assert from 'node:assert/strict';
import { mkdir, readdir, readFile } from 'node:fs/promises';
import { after, afterEach, before, test } from 'node:test';
import { hasCode } from '#/lib/failure.ts';
import { systemClock } from '#/lib/system-clock.ts';
import type { Domain } from '#/libvirt/domain.ts';
import { Libvirt } from '#/libvirt/libvirt.ts';
import { markIn } from '#/recovery/recovery-mark.ts';
import { definition, makeEchoGuest } from '#test/echo-guest.ts';
import { startPrivateLibvirtd, type PrivateLibvirtd } from '#test/private-libvirtd.ts';
import { runDiscard } from './discard-task.ts';
import { consoleLogPath } from './recover-names.ts';
import { runRecover, type RecoverContext, type RecoverResult } from './recover-task.ts';
import { DyingSteps, GuestTalk, rawBytes, recoverContext, ServedPoint } from './recovery-fixture.ts';
import { RecoveryStates } from './recovery-state.ts';
import { StepLog } from './step-log.ts';

const forever = new AbortController().signal;

let daemon: PrivateLibvirtd;
let libvirt: Libvirt;
let states: RecoveryStates;
let disks: Record<string, Uint8Array>;
let point: ServedPoint;
let number = 0;

before(async () => {
  daemon = await startPrivateLibvirtd();
  libvirt = await Libvirt.connect({ socketPath: daemon.socketPath });
  states = new RecoveryStates(`${daemon.directory}/recoveries`);
  const guest = await makeEchoGuest(daemon, 'source');
  const [vda, vdb] = await Promise.all(
    ['vda', 'vdb'].map((key) => rawBytes(daemon.run.bind(daemon), guest.imagePath(key))),
  );
  disks = { vda: vda!, vdb: vdb! };
});

after(async () => {
  await point?.[Symbol.asyncDispose]();
  await libvirt?.[Symbol.asyncDispose]();
  await daemon?.[Symbol.asyncDispose]();
});

/** Each test has a point of its own, and leaves nothing. */
async function newPoint(): Promise<void> {
  point = new ServedPoint(`${daemon.directory}/p${++number}`, disks);
  await mkdir(point.directory);
  const xml = definition('web', (target) => `/gone/${target}.qcow2`);
  await point.attach('definition', xml.replace('<memory', `<uuid>${UUID}</uuid><memory`));
  await point.start();
}

const UUID = '6f0c8f0e-6a77-4a52-9f3e-0d5b6a0c1d2e';

afterEach(async () => {
  for (const name of await readdir(`${daemon.directory}/recoveries`).catch(() => [])) {
    await discard(/recovery-(.*)\.json/.exec(name)![1]!);
  }
  await point.kill();
  assert.deepEqual(await libvirt.listDomains(), []);
});

const context = (steps?: StepLog): RecoverContext =>
  recoverContext(
    { libvirt, directory: daemon.directory },
    { states, ...(steps === undefined ? {} : { steps }) },
  );

async function discard(taskId: string): Promise<Record<string, unknown>> {
  return await runDiscard({ id: 'd', kind: 'discard', recover_task_id: taskId }, context(), forever);
}

async function vm(): Promise<Domain> {
  return await libvirt.lookupDomainByName('web');
}

const STEPS = [
  'check',
  'make overlays',
  'restore firmware state',
  'define',
  'start paused',
  'pull the disks',
];

/** Dies after a VM that stands alone was ended, and before that is on disk. */
class DyingStates extends RecoveryStates {
  override async write(state: Parameters<RecoveryStates['write']>[0]): Promise<void> {
    if (state.isIndependent) throw new Error('killed');
    await super.write(state);
  }
}

/** Of what the guest says from its first moment on. */
async function saidBy(directory: string): Promise<string> {
  return await readFile(consoleLogPath(directory), 'utf8').catch(() => '');
}

/** Nothing of the guest has run, and the VM stands alone, off, with the disks as they were served. */
async function assertLeftOff(result: RecoverResult): Promise<void> {
  const { left_off: leftOff, up_ms: upMs, no_sign: noSign, first_instruction_ms: firstMs } = result;
  assert.deepEqual([leftOff, upMs, noSign, firstMs], [true, null, null, null]);
  assert.equal(result.independent, true);
  assert.match(result.notes.join(), /left off/);
  assert.equal((await (await vm()).getState()).state, 'shutoff');
  assert.equal(await saidBy(result.directory), '');
  for (const [key, bytes] of Object.entries(disks)) {
    const pulled = await rawBytes(daemon.run.bind(daemon), `${result.directory}/${key}.qcow2`);
    assert(Buffer.from(pulled).equals(bytes), `${key} is what was served`);
  }
}

test('a VM that is left off is pulled without an instruction of its guest, whatever is killed on the way', async () => {
  await newPoint();
  const task = point.task({ id: 'o1', start: false });
  for (const name of STEPS) {
    for (const when of ['before', 'after'] as const) {
      await assert.rejects(runRecover(task, context(new DyingSteps({ name, when })), forever), /killed/);
    }
  }
  const first = await runRecover(task, context(), forever);
  await assertLeftOff(first);
  assert.deepEqual(await runRecover(task, context(), forever), first);
  const xml = await (await vm()).getXml(['inactive']);
  assert.equal(markIn(xml)?.epoch, 2);
  assert.doesNotMatch(xml, /backingStore|nbd|<log/);
  // It boots by a person, from the images alone, and a repeated task leaves it to them.
  await point.kill();
  const domain = await (await vm()).start(['paused']);
  await using talk = await GuestTalk.open(domain);
  await domain.resume();
  assert.equal(await talk.hear(1), '!');
  await runRecover(task, context(), forever);
  assert.equal((await domain.getState()).state, 'running');
});

test('the pull of a VM that is left off outlives QEMU, libvirt, and an agent that had just ended it', async () => {
  await newPoint();
  const task = point.task({ id: 'o2', start: false });
  const held = point.hold();
  const cut = runRecover(task, context(), forever);
  const isCut = assert.rejects(cut, (error) => hasCode(error, 'unreachable') || hasCode(error, 'cancelled'));
  await held;
  assert.equal((await (await vm()).getState()).state, 'paused');
  await daemon.killDaemon();
  await isCut;
  await daemon.start();
  await libvirt[Symbol.asyncDispose]();
  libvirt = await Libvirt.connect({ socketPath: daemon.socketPath });
  assert.equal((await (await vm()).getState()).state, 'paused');
  const pulling = Promise.withResolvers<void>();
  const steps: StepLog = new StepLog(systemClock, () => {
    if (steps.steps.at(-1)?.name === 'pull the disks') pulling.resolve();
  });
  const dying = new DyingStates(`${daemon.directory}/recoveries`);
  const ended = assert.rejects(runRecover(task, { ...context(steps), states: dying }, forever), /killed/);
  await pulling.promise;
  await daemon.killQemu('web');
  point.release();
  await ended;
  assert.equal((await (await vm()).getState()).state, 'shutoff');
  assert.equal((await states.read('o2'))?.isIndependent, false);
  await assertLeftOff(await runRecover(task, context(), forever));
});

test('a test of a VM that is left off defines it and does nothing more', async () => {
  await newPoint();
  const task = point.task({ id: 'o3', name: 'web-test', purpose: 'test', networks: {}, start: false });
  const steps = new StepLog(systemClock, () => undefined);
  const result = await runRecover(task, context(steps), forever);
  assert.deepEqual([result.left_off, result.up_ms, result.independent], [true, null, false]);
  assert.deepEqual(
    steps.steps.map(({ name }) => name).filter((name) => /start|pull/.test(name)),
    [],
  );
  assert.deepEqual(await runRecover(task, context(), forever), result);
  const domain = await libvirt.lookupDomainByName('web-test');
  const { state, reason } = await domain.getState();
  assert.deepEqual([state, reason], ['shutoff', 'unknown'], 'it has never been started');
  assert.equal((await discard('o3'))['removed_vm'], 'web-test');
});
