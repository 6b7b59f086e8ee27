/** An old copy makes room for its VM that comes back to its host, in a real libvirt, with the agent killed anywhere. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { after, afterEach, before, test } from 'node:test';
import { runDiscard } from '#/agent/discard-task.ts';
import { HandoverStates, handoversIn } from '#/agent/handover/handover-state.ts';
import { DyingSteps, rawBytes, recoverContext, ServedPoint } from '#/agent/recovery-fixture.ts';
import { runRecover, type RecoverContext } from '#/agent/recover-task.ts';
import { StepLog } from '#/agent/step-log.ts';
import { systemClock } from '#/lib/system-clock.ts';
import type { Domain } from '#/libvirt/domain.ts';
import { Libvirt } from '#/libvirt/libvirt.ts';
import { EPOCH_NAMESPACE, EPOCH_PREFIX, epochMarkText } from '#/recovery/epoch-mark.ts';
import { markIn } from '#/recovery/recovery-mark.ts';
import { definition, makeEchoGuest } from '#test/echo-guest.ts';
import { startPrivateLibvirtd, type PrivateLibvirtd } from '#test/private-libvirtd.ts';

const UUID = '6f0c8f0e-6a77-4a52-9f3e-0d5b6a0c1d2f';
const forever = new AbortController().signal;
const yielded = {
  epoch: 2,
  siteId: 'site-east',
  atMs: 1_795_377_600_000,
  wasPaused: false,
  hadAutostart: false,
};

let daemon: PrivateLibvirtd;
let libvirt: Libvirt;
let point: ServedPoint;
let image: string;
let number = 0;

before(async () => {
  daemon = await startPrivateLibvirtd();
  libvirt = await Libvirt.connect({ socketPath: daemon.socketPath });
  const guest = await makeEchoGuest(daemon, 'source');
  image = guest.imagePath('vda');
  const bytes = await rawBytes(daemon.run.bind(daemon), image);
  point = new ServedPoint(`${daemon.directory}/point`, { vda: bytes, vdb: bytes });
  await mkdir(point.directory);
  await point.attach('definition', xmlOf('/gone'));
  await point.start();
});
afterEach(async () => {
  for (const domain of await libvirt.listDomains()) {
    if (domain.ref.id > 0) await domain.destroy();
    await domain.undefine(['nvram']);
  }
});
after(async () => {
  await point?.[Symbol.asyncDispose]();
  await libvirt?.[Symbol.asyncDispose]();
  await daemon?.[Symbol.asyncDispose]();
});

function xmlOf(directory: string): string {
  return definition('web', (target) => `${directory}/${target}.qcow2`).replace(
    '<memory',
    `<uuid>${UUID}</uuid><memory`,
  );
}

/** A copy of the VM, defined here from before, with disks of its own. */
async function oldCopy(hasYielded = true): Promise<Domain> {
  const directory = `${daemon.directory}/old-${++number}`;
  await mkdir(directory);
  for (const key of ['vda', 'vdb']) await writeFile(`${directory}/${key}.qcow2`, 'as it was');
  const domain = await libvirt.defineDomain(xmlOf(directory));
  if (hasYielded) {
    const where = { uri: EPOCH_NAMESPACE, key: EPOCH_PREFIX };
    await domain.setMetadata(where, epochMarkText({ claim: undefined, yielded }), ['config']);
  }
  return domain;
}

const context = (steps?: StepLog): RecoverContext =>
  recoverContext({ libvirt, directory: daemon.directory }, steps === undefined ? {} : { steps });

const back = (id: string) => point.task({ id, retires_old_copy: true });

test('an old copy makes room, whenever the agent is killed, and is back when the recovery is taken back', async () => {
  const steps = new StepLog(systemClock, () => undefined);
  await oldCopy();
  await runRecover(back('r0'), context(steps), forever);
  const names = steps.steps.map(({ name }) => name);
  assert(names.includes('put the old copy aside'));
  await discard('r0');
  for (const name of names) {
    const before = await (await libvirt.lookupDomainByName('web')).getXml(['inactive']);
    const id = `r-${names.indexOf(name) + 1}`;
    await assert.rejects(
      runRecover(back(id), context(new DyingSteps({ name, when: 'after' })), forever),
      /killed/,
    );
    await runRecover(back(id), context(), forever);
    assert.equal(markIn(await (await libvirt.lookupDomainByName('web')).getXml())?.taskId, id);
    const { retired } = context();
    assert.deepEqual(await retired.load(), []);
    assert.deepEqual(
      retired.reports().map((report) => [report.id, report.vm_name, report.disks.length]),
      [[id, 'web', 2]],
    );
    await assert.rejects(discard(id, new DyingSteps({ name: 'remove the VM', when: 'after' })), /killed/);
    await discard(id);
    assert.equal(await (await libvirt.lookupDomainByName('web')).getXml(['inactive']), before, name);
    assert.deepEqual(await readdir(`${daemon.directory}/retired`), []);
  }
});

test('a copy that has not yielded makes no room, and nothing of it is changed', async () => {
  const domain = await oldCopy(false);
  await assert.rejects(runRecover(back('s1'), context(), forever), /this copy has not yielded/);
  assert.equal((await libvirt.lookupDomainByUuid(UUID)).name, domain.name);
});

test('a person removes a retired copy with its disks, but not while a VM uses one of them', async () => {
  await oldCopy();
  await runRecover(back('t1'), context(), forever);
  const { retired } = context();
  await retired.load();
  const paths = retired.reports()[0]!.disks.map(({ path }) => path);
  assert(paths.every((path) => existsSync(path)));
  const other = definition('other', () => paths[0]!);
  await libvirt.defineDomain(other);
  await assert.rejects(retired.remove('t1', libvirt), /VM other uses/);
  assert(paths.every((path) => existsSync(path)));
  await (await libvirt.lookupDomainByName('other')).undefine();
  await retired.remove('t1', libvirt);
  assert(!paths.some((path) => existsSync(path)));
  assert.deepEqual(await retired.remove('t1', libvirt), { removed: [] }, 'repeating it does no harm');
  assert.equal((await libvirt.lookupDomainByUuid(UUID)).ref.id > 0, true, 'the VM that came back runs on');
  await discard('t1');
});

async function discard(id: string, steps?: StepLog): Promise<void> {
  await runDiscard({ id: 'd', kind: 'discard', recover_task_id: id }, context(steps), forever);
}

test('a VM that was started by itself before it went away is again, however it went', async () => {
  const autostarts = async (id: string, mark: typeof yielded, handedOver: boolean): Promise<boolean> => {
    const old = await oldCopy();
    const where = { uri: EPOCH_NAMESPACE, key: EPOCH_PREFIX };
    await old.setMetadata(where, epochMarkText({ claim: undefined, yielded: mark }), ['config']);
    const handovers = new HandoverStates(handoversIn(daemon.directory));
    const state = { vmUuid: UUID, wasActive: true, wasPaused: false, autostart: true, lateMs: 0, offMs: 1 };
    if (handedOver) await handovers.write({ ...state, taskId: 'shut-down', beganMs: 0 });
    await runRecover(back(id), context(), forever);
    assert.equal(await handovers.read(UUID), undefined);
    const domain = await libvirt.lookupDomainByName('web');
    const isAutostart = await domain.isAutostart();
    await domain.destroy();
    await domain.undefine(['nvram', 'checkpointsMetadata']);
    return isAutostart;
  };
  assert.equal(await autostarts('u1', { ...yielded, hadAutostart: true }, false), true);
  assert.equal(await autostarts('u2', yielded, false), false);
  assert.equal(await autostarts('u3', yielded, true), true, 'a handover had turned it off before');
});
