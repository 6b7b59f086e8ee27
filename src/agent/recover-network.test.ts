/** Networks that tests share, on a real libvirtd: who is on which, and that each goes with the last that needs it. */
import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { after, afterEach, before, test } from 'node:test';
import type { RecoverTask } from '#/control/orders.ts';
import { Libvirt } from '#/libvirt/libvirt.ts';
import { definition, makeEchoGuest } from '#test/echo-guest.ts';
import { startPrivateLibvirtd, type PrivateLibvirtd } from '#test/private-libvirtd.ts';
import { runDiscard } from './discard-task.ts';
import { DyingSteps, rawBytes, recoverContext, ServedPoint } from './recovery-fixture.ts';
import { TestNetworks } from './recover-network.ts';
import { runRecover, type RecoverContext } from './recover-task.ts';
import { RecoveryStates } from './recovery-state.ts';
import type { StepLog } from './step-log.ts';

const forever = new AbortController().signal;
const MACS = ['52:54:00:aa:bb:cc', '52:54:00:aa:bb:cd'];

let daemon: PrivateLibvirtd;
let libvirt: Libvirt;
let states: RecoveryStates;
let networks: TestNetworks;
let point: ServedPoint;

before(async () => {
  daemon = await startPrivateLibvirtd();
  libvirt = await Libvirt.connect({ socketPath: daemon.socketPath });
  await startAgain();
  const guest = await makeEchoGuest(daemon, 'source');
  const disks = await Promise.all(
    ['vda', 'vdb'].map(async (key) => [key, await rawBytes(daemon.run.bind(daemon), guest.imagePath(key))]),
  );
  point = new ServedPoint(`${daemon.directory}/point`, Object.fromEntries(disks));
  await mkdir(point.directory);
  const nics = ['prod', 'back'].map(
    (name, index) => `<interface type="network"><mac address="${MACS[index]}"/><source network="${name}"/>
      <model type="virtio"/><rom enabled="no"/></interface>`,
  );
  const xml = definition('web', (key) => `/gone/${key}`);
  await point.attach('definition', xml.replace('<memballoon', `${nics.join('')}<memballoon`));
  await point.start();
});

after(async () => {
  await point?.[Symbol.asyncDispose]();
  await libvirt?.[Symbol.asyncDispose]();
  await daemon?.[Symbol.asyncDispose]();
});

afterEach(async () => {
  assert.deepEqual(await libvirt.listDomains(), []);
  assert.deepEqual(await libvirt.listNetworks(), []);
});

/** As an agent that was killed does: what it knew is what is on disk. */
async function startAgain(): Promise<void> {
  states = new RecoveryStates(`${daemon.directory}/recoveries`);
  networks = new TestNetworks(states);
  assert.deepEqual(await states.load(), []);
}

const context = (steps?: StepLog): RecoverContext =>
  recoverContext(
    { libvirt, directory: daemon.directory },
    { states, networks, ...(steps === undefined ? {} : { steps }) },
  );

async function recover(id: string, change: Partial<RecoverTask>): Promise<string[]> {
  const task = point.task({ id, name: id, purpose: 'test', networks: {}, ...change });
  await runRecover(task, context(), forever);
  const xml = await (await libvirt.lookupDomainByName(id)).getXml();
  return [...xml.matchAll(/<source network='([^']+)'/g)].map(([, name]) => name!);
}

async function discard(taskId: string, steps?: StepLog): Promise<void> {
  await runDiscard({ id: 'd', kind: 'discard', recover_task_id: taskId }, context(steps), forever);
}

test('tests of one tag share a network, which goes with the last of them, also when that was cut', async () => {
  const one = { test_network: { tag: 'run-1', networks: 'one' } } as const;
  const other = { test_network: { tag: 'run-2', networks: 'one' } } as const;
  const [network, ...rest] = await recover('s1', one);
  assert.deepEqual(rest, [network]);
  assert.deepEqual(await recover('s2', one), [network, network]);
  const [otherNetwork] = await recover('s3', other);
  assert.notEqual(otherNetwork, network);
  const xml = await (await libvirt.lookupNetworkByName(network!)).getXml();
  const bridge = /bridge name='([^']+)'/.exec(xml)![1]!;
  assert.doesNotMatch(await daemon.run('ip', ['address', 'show', 'dev', bridge]), /inet/);
  await discard('s1');
  assert(await (await libvirt.lookupNetworkByName(network!)).isActive());
  const dying = new DyingSteps({ name: 'remove its networks', when: 'before' });
  await assert.rejects(discard('s2', dying), /killed/);
  await startAgain();
  await Promise.all([discard('s2'), discard('s3')]);
});

test('two tests that end at the same time leave no network', async () => {
  const one = { test_network: { tag: 'run-1', networks: 'one' } } as const;
  await Promise.all(['s1', 's2'].map((id) => recover(id, one)));
  await Promise.all(['s1', 's2'].map((id) => discard(id)));
});

test('each network of this site has a counterpart in a test, and the VM is on those', async () => {
  const each = { test_network: { tag: 'run-1', networks: 'each' } } as const;
  const on = await recover('e1', { ...each, networks: { prod: 'site-b', back: 'nowhere' } });
  assert.equal(new Set(on).size, 2);
  assert(on.every((name) => name.startsWith('antipode-test-')));
  assert.deepEqual((await states.read('e1'))?.macs, MACS);
  // The counterpart is found by the network of this site, whatever it is called at the other.
  assert.deepEqual(await recover('e2', { ...each, networks: { prod: 'nowhere', back: 'nowhere' } }), [
    on[1],
    on[1],
  ]);
  const unmapped = { ...each, networks: { prod: 'site-b' } };
  await assert.rejects(recover('e3', unmapped), /network back of the VM is mapped to none/);
  await discard('e1');
  await discard('e2');
});
