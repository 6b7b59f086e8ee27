/**
 * Recoveries on a real host: real libvirtd, real QEMU under TCG, a guest that says what its disk answers, and a
 * recovery point served by our own NBD server.
 */
import assert from 'node:assert/strict';
import { mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { after, afterEach, before, test } from 'node:test';
import type { RecoverTask } from '#/control/orders.ts';
import { hasCode, type FailureCode } from '#/lib/failure.ts';
import { systemClock } from '#/lib/system-clock.ts';
import type { Domain } from '#/libvirt/domain.ts';
import { Libvirt } from '#/libvirt/libvirt.ts';
import { markIn } from '#/recovery/recovery-mark.ts';
import { definition, makeEchoGuest } from '#test/echo-guest.ts';
import { startPrivateLibvirtd, type PrivateLibvirtd } from '#test/private-libvirtd.ts';
import { runDiscard } from './discard-task.ts';
import { DyingSteps, GuestTalk, rawBytes, recoverContext, ServedPoint } from './recovery-fixture.ts';
import { runRecover, type RecoverContext, type RecoverResult } from './recover-task.ts';
import { RecoveryStates } from './recovery-state.ts';
import { StepLog } from './step-log.ts';
import { targetHost } from './target-host.ts';
import { decodeTpmState, packTpmState } from './tpm-state.ts';

const UUID = '6f0c8f0e-6a77-4a52-9f3e-0d5b6a0c1d2e';
const MAC = '52:54:00:aa:bb:cc';
const forever = new AbortController().signal;

let daemon: PrivateLibvirtd;
let libvirt: Libvirt;
let states: RecoveryStates;
let disks: Record<string, Uint8Array>;
let source: string;
let firmware: RecoverContext['firmware'];
let point: ServedPoint;
let number = 0;

before(async () => {
  daemon = await startPrivateLibvirtd();
  libvirt = await Libvirt.connect({ socketPath: daemon.socketPath });
  states = new RecoveryStates(`${daemon.directory}/recoveries`);
  firmware = { tpmDirectory: `${daemon.directory}/../lib/swtpm` };
  const guest = await makeEchoGuest(daemon, 'source');
  const [vda, vdb] = await Promise.all(
    ['vda', 'vdb'].map((key) => rawBytes(daemon.run.bind(daemon), guest.imagePath(key))),
  );
  disks = { vda: vda!, vdb: vdb! };
  source = definitionOf();
  await libvirt.defineNetwork("<network><name>site-b</name><bridge name='siteb'/></network>");
});

after(async () => {
  await point?.[Symbol.asyncDispose]();
  await libvirt?.[Symbol.asyncDispose]();
  await daemon?.[Symbol.asyncDispose]();
});

/** Each test has a point of its own, and leaves nothing. */
async function newPoint(xml = source): Promise<ServedPoint> {
  point = new ServedPoint(`${daemon.directory}/p${++number}`, disks);
  await mkdir(point.directory);
  await point.attach('definition', xml);
  await point.start();
  return point;
}

afterEach(async () => {
  for (const name of await readdir(`${daemon.directory}/recoveries`).catch(() => [])) {
    await discard(/recovery-(.*)\.json/.exec(name)![1]!);
  }
  await point.kill();
  assert.deepEqual(await leftOver(), ['network site-b']);
});

function definitionOf(): string {
  const nic = `<interface type="network"><mac address="${MAC}"/><source network="prod"/><model type="virtio"/>
    <rom enabled="no"/></interface>`;
  return definition('web', (target) => `/gone/${target}.qcow2`)
    .replace('<memory', `<uuid>${UUID}</uuid><memory`)
    .replace('<memballoon', `${nic}<memballoon`)
    .replace('type="qcow2"', 'type="qcow2" error_policy="enospace"');
}

const context = (steps?: StepLog): RecoverContext =>
  recoverContext(
    { libvirt, directory: daemon.directory },
    { states, ...(steps === undefined ? {} : { steps }) },
  );

async function discard(taskId: string): Promise<Record<string, unknown>> {
  return await runDiscard({ id: 'd', kind: 'discard', recover_task_id: taskId }, context(), forever);
}

/** Everything that a recovery may make on the host. */
async function leftOver(): Promise<string[]> {
  const list = async (path: string): Promise<string[]> =>
    (await readdir(path).catch(() => [])).map((name) => `${path}/${name}`);
  return [
    ...(await libvirt.listDomains()).map(({ name }) => `domain ${name}`),
    ...(await libvirt.listNetworks()).map(({ name }) => `network ${name}`),
    ...(await list(`${daemon.directory}/recoveries`)),
    ...(await list(`${point.directory}/images`)),
    ...(await list(firmware.tpmDirectory)),
  ];
}

async function images(result: RecoverResult): Promise<{ backing: unknown; inode: number }[]> {
  return await Promise.all(
    ['vda', 'vdb'].map(async (key) => {
      const path = `${result.directory}/${key}.qcow2`;
      const info = JSON.parse(await daemon.run('qemu-img', ['info', '-U', '--output=json', path])) as Record<
        string,
        unknown
      >;
      return { backing: info['backing-filename'] ?? null, inode: (await stat(path)).ino };
    }),
  );
}

async function vm(): Promise<Domain> {
  return await libvirt.lookupDomainByName('web');
}

test('a VM boots, gives its sign, stands alone, and goes on without the server', async () => {
  await newPoint();
  // The agent has asked this long before a recovery is ordered.
  await targetHost(libvirt);
  const steps = new StepLog(systemClock, () => undefined);
  const startedMs = systemClock.now();
  const result = await runRecover(point.task({ id: 'r1' }), context(steps), forever);
  const times = steps.steps.map(({ name, started_ms: from, ended_ms: to }) => `${name} ${to! - from}`);
  const first = result.first_instruction_ms!;
  const startMs = first - steps.steps.find(({ name }) => name === 'start')!.started_ms;
  console.log(
    `first instruction after ${first - startedMs} ms, ${startMs} of them to start: ${times.join(', ')}`,
  );
  assert.equal(result.sign_of_life, 'serial port: !');
  assert.equal(result.independent, true);
  assert.deepEqual(result.notes, []);
  await point.kill();
  let domain = await vm();
  assert.equal(domain.uuid, UUID);
  for (let i = 0; i < 2; i++) {
    await using talk = await GuestTalk.open(domain);
    if (i > 0) assert.equal(await talk.hear(1), '!');
    await talk.say('hiW');
    assert.equal(await talk.hear(3), 'hi+');
    // The next start is by the definition and the images alone.
    await domain.destroy();
    domain = await domain.start(['paused']);
    if (i === 0) await domain.resume();
  }
  assert.deepEqual(
    (await images(result)).map(({ backing }) => backing),
    [null, null],
  );
  const xml = await domain.getXml(['inactive']);
  assert.deepEqual(markIn(xml), {
    taskId: 'r1',
    replicaId: 'replica-1',
    sequence: 7,
    epoch: 2,
    purpose: 'recovery',
  });
  assert.match(xml, /dev='vda'/);
  assert.equal(xml.match(/error_policy=/g)?.length, 1);
  assert.match(xml, /error_policy='enospace'/);
  assert.doesNotMatch(xml, /backingStore|nbd|<log/);
  assert.match(xml, new RegExp(`mac address='${MAC}'`));
});

test('a test has its own UUID, MAC address and network, stays on its overlays, and leaves nothing', async () => {
  await newPoint();
  await (await libvirt.defineDomain(definition('web', (key) => `/gone/${key}`))).isPersistent();
  const before = await leftOver();
  const task = point.task({ id: 't1', name: 'web-test', purpose: 'test', networks: {} });
  const result = await runRecover(task, context(), forever);
  const domain = await libvirt.lookupDomainByName('web-test');
  const xml = await domain.getXml();
  assert.notEqual(result.vm_uuid, UUID);
  assert.equal(result.independent, false);
  assert.doesNotMatch(xml, new RegExp(`${MAC}|${UUID}`));
  const networkName = /<source network='([^']+)'/.exec(xml)![1]!;
  assert.match(networkName, /^antipode-test-/);
  const network = await libvirt.lookupNetworkByName(networkName);
  assert.doesNotMatch(await network.getXml(), /<forward|<ip|<dns/);
  assert.equal((await discard('t1'))['removed_vm'], 'web-test');
  assert.deepEqual(await leftOver(), before);
  assert.equal((await discard('t1'))['removed_vm'], null);
  await (await vm()).undefine();
});

const STEPS = [
  'check',
  'check the target',
  'make overlays',
  'restore firmware state',
  'define',
  'start networks',
  'start',
  'pull the disks',
];

test('a task that is killed before and after each step ends as one that is not', async () => {
  await newPoint();
  const task = point.task({ id: 'r2' });
  let inodes: number[] | undefined;
  for (const name of STEPS) {
    for (const when of ['before', 'after'] as const) {
      // Steps that are done for good are not repeated, and then there is nothing to be killed in.
      await assert.rejects(runRecover(task, context(new DyingSteps({ name, when })), forever), /killed/);
      const state = await states.read('r2');
      if (state?.started !== true) continue;
      const now = (await images({ directory: state.directory } as RecoverResult)).map(({ inode }) => inode);
      assert.deepEqual(now, (inodes ??= now), `overlays were made anew after ${name}`);
    }
  }
  const first = await runRecover(task, context(), forever);
  assert.equal(first.independent, true);
  assert.equal(first.sign_of_life, 'serial port: !');
  assert.deepEqual(await runRecover(task, context(), forever), { ...first, console_tail: '' });
  assert.deepEqual(
    (await images(first)).map(({ inode }) => inode),
    inodes,
  );
});

test('a task that is cancelled in a step can be repeated', async () => {
  await newPoint();
  const task = point.task({ id: 'r3' });
  for (const name of STEPS) {
    const stop = new AbortController();
    const steps = new StepLog(systemClock, () => {
      if (steps.steps.at(-1)?.name === name) stop.abort();
    });
    await assert.rejects(runRecover(task, context(steps), stop.signal));
  }
  assert.equal((await runRecover(task, context(), forever)).independent, true);
});

test('firmware variables and TPM state are carried, and a VM that cannot tell is started and says so', async () => {
  const tpm = '<tpm model="tpm-crb"><backend type="emulator" version="2.0"/></tpm>';
  const silent = source.replace(/<serial[^]*<\/channel>/, tpm).replace(/<type arch[^]*<\/os>/, UEFI);
  await newPoint(silent);
  const made = await madeTpm(silent);
  const variables = await readFile('/usr/share/OVMF/OVMF_VARS_4M.fd');
  // In the last block, which the firmware uses only when the variables before it are full.
  variables.set([0xca, 0xfe], variables.length - 2);
  await point.attach('nvram', variables);
  await point.attach('tpm', made.packed);
  const sign = { serial_text: null, timeout_ms: 60_000 };
  const result = await runRecover(point.task({ id: 'r5', sign_of_life: sign }), context(), forever);
  assert.equal(result.sign_of_life, null);
  assert.match(result.notes.join(), /nothing tells whether its guest has booted/);
  assert.deepEqual((await readFile(`${result.directory}/nvram`)).subarray(-2), Buffer.from([0xca, 0xfe]));
  const xml = await (await vm()).getXml();
  assert.match(xml, new RegExp(`<nvram[^>]*>${result.directory}/nvram</nvram>`));
  // swtpm runs on what was carried: its own new state would have other keys.
  assert.equal((await (await vm()).getState()).state, 'running');
  const carried = decodeTpmState((await packTpmState(`${firmware.tpmDirectory}/${UUID}`))!);
  assert.deepEqual(
    carried.map(({ path }) => path),
    made.paths,
  );
  await discard('r5');
});

const UEFI = `<type arch="x86_64" machine="q35">hvm</type>
  <loader readonly="yes" type="pflash">/usr/share/OVMF/OVMF_CODE_4M.fd</loader>
  <nvram template="/usr/share/OVMF/OVMF_VARS_4M.fd">/gone/vars.fd</nvram></os>`;

/** What libvirt and swtpm make for a VM at its first start, packed as a recovery point carries it. */
async function madeTpm(xml: string): Promise<{ packed: Uint8Array; paths: string[] }> {
  const bare = xml.replaceAll(/<(disk|interface) [^]*<\/\1>/g, '').replace(/<nvram.*<\/nvram>/, '');
  const domain = await libvirt.defineDomain(bare);
  await domain.start(['paused']);
  await domain.destroy();
  const packed = await packTpmState(`${firmware.tpmDirectory}/${UUID}`);
  await domain.undefine(['nvram']);
  await rm(`${firmware.tpmDirectory}/${UUID}`, { recursive: true, force: true });
  assert(packed !== undefined, 'swtpm has made no state');
  return { packed, paths: decodeTpmState(packed).map(({ path }) => path) };
}

for (const kind of ['definition', 'nvram', 'tpm'] as const) {
  test(`an attachment that is not what the point names is refused: ${kind}`, async () => {
    await newPoint();
    await point.attach(kind, kind === 'definition' ? source : 'bytes');
    await writeFile(`${point.attachmentsPath}/${kind === 'definition' ? 'definition.xml' : kind}`, 'others');
    await assert.rejects(runRecover(point.task({ id: 'r6' }), context(), forever), (error) =>
      hasCode(error, 'storage_corrupt'),
    );
    assert.deepEqual(await libvirt.listDomains(), []);
  });
}

test('a TPM state that is none is refused before the VM is defined, and its remains are discarded', async () => {
  await newPoint();
  await point.attach('tpm', '../../etc/passwd');
  await assert.rejects(runRecover(point.task({ id: 'r7' }), context(), forever), (error) =>
    hasCode(error, 'storage_corrupt'),
  );
  assert.deepEqual(await libvirt.listDomains(), []);
});

const refusals: {
  what: string;
  code: FailureCode;
  change?: Partial<RecoverTask>;
  xml?: string;
  other?: string;
  storedBytes?: number;
}[] = [
  { what: 'its name is taken', code: 'already_exists', other: 'web' },
  { what: 'its UUID is taken', code: 'already_exists', other: `else</name><uuid>${UUID}</uuid><name>else` },
  { what: 'there is no room', code: 'storage_full', storedBytes: Number.MAX_SAFE_INTEGER },
  { what: 'a network is not mapped', code: 'vm_unsupported', change: { networks: {} } },
  { what: 'a network is not there', code: 'not_found', change: { networks: { prod: 'nowhere' } } },
  { what: 'a definition is none', code: 'usage_invalid', xml: '<domain' },
  {
    what: 'a definition has an entity',
    code: 'usage_invalid',
    xml: '<!DOCTYPE d [<!ENTITY a "b">]><domain>&a;</domain>',
  },
  { what: 'a definition is of another host', code: 'vm_unsupported', xml: '<domain type="xen"/>' },
];

for (const { what, code, change, xml, other, storedBytes } of refusals) {
  test(`a recovery is refused, and nothing is changed, when ${what}`, async () => {
    await newPoint(xml ?? source);
    let domain: Domain | undefined;
    if (other !== undefined) {
      const text = definition('x', (key) => `/gone/${key}`).replace(
        '<name>x</name>',
        other === 'web' ? '<name>web</name>' : `<name>else</name><uuid>${UUID}</uuid>`,
      );
      domain = await libvirt.defineDomain(text);
    }
    const before = await leftOver();
    const task = point.task({ id: 'r4', ...change });
    if (storedBytes !== undefined) task.view.stored_bytes = storedBytes;
    await assert.rejects(runRecover(task, context(), forever), (error) => hasCode(error, code));
    assert.deepEqual(await leftOver(), before);
    await domain?.undefine();
  });
}
