/**
 * The first cycle of a VM that was recovered, with real libvirtd and real QEMU: it is tracked from before its first
 * write, so that only what it wrote and what differs at the other site is read.
 */
import assert from 'node:assert/strict';
import { mkdir, readFile } from 'node:fs/promises';
import { after, afterEach, before, test } from 'node:test';
import { runDiscard } from '#/agent/discard-task.ts';
import { DomainWatch } from '#/agent/domain-watch.ts';
import { LibvirtSource } from '#/agent/libvirt-source.ts';
import { runRecover, type RecoverContext, type RecoverResult } from '#/agent/recover-task.ts';
import { DyingSteps, newBaselines, rawBytes, recoverContext, ServedPoint } from '#/agent/recovery-fixture.ts';
import { RecoveryStates, type RecoveryState } from '#/agent/recovery-state.ts';
import { StepLog } from '#/agent/step-log.ts';
import { VmTurns } from '#/agent/vm-turns.ts';
import { DIGEST_KEY } from '#/disk/digest-fixture.ts';
import { BLOCK_BYTES } from '#/disk/disk.ts';
import { NodeFileSystem } from '#/disk/node-file-system.ts';
import { systemClock } from '#/lib/system-clock.ts';
import { systemRandom } from '#/lib/system-random.ts';
import type { Domain } from '#/libvirt/domain.ts';
import { Libvirt } from '#/libvirt/libvirt.ts';
import { syncBlockCodec } from '#/replication/block-codec.ts';
import { runCycle, type CycleResult } from '#/replication/cycle.ts';
import { MemoryReplica } from '#/replication/replica-fixture.ts';
import { ReplicaRecord } from '#/replication/replica-record.ts';
import { definition, makeEchoGuest } from '#test/echo-guest.ts';
import { startPrivateLibvirtd, type PrivateLibvirtd } from '#test/private-libvirtd.ts';
import type { Baselines } from './baselines.ts';

const UUID = '6f0c8f0e-6a77-4a52-9f3e-0d5b6a0c1d2e';
const KEYS = ['vda', 'vdb'];
const GRAIN_BYTES = 65_536;
const forever = new AbortController().signal;
/** Blocks of vda in which the old copy at the other site differs. */
const DIFFERING = [1000, 1001, 1500];

let daemon: PrivateLibvirtd;
let libvirt: Libvirt;
let disks: Record<string, Uint8Array>;
let states: RecoveryStates;
let baselines: Baselines;
let point: ServedPoint;
let replica: MemoryReplica;
let number = 0;

before(async () => {
  daemon = await startPrivateLibvirtd();
  libvirt = await Libvirt.connect({ socketPath: daemon.socketPath });
  for (const name of ['scratch', 'run']) await mkdir(`${daemon.directory}/${name}`);
  const guest = await makeEchoGuest(daemon, 'source');
  const [vda, vdb] = await Promise.all(
    KEYS.map((key) => rawBytes(daemon.run.bind(daemon), guest.imagePath(key))),
  );
  disks = { vda: vda!, vdb: vdb! };
});

after(async () => {
  await point?.[Symbol.asyncDispose]();
  await libvirt?.[Symbol.asyncDispose]();
  await daemon?.[Symbol.asyncDispose]();
});

afterEach(async () => {
  await runDiscard({ id: 'd', kind: 'discard', recover_task_id: `r${number}` }, context(), forever);
  assert.equal(await baselines.tracking(UUID), undefined);
  await point.kill();
});

/** Writes to the VM before it runs its first instruction, and as early as anything can. */
class WritingStates extends RecoveryStates {
  override async write(state: RecoveryState): Promise<void> {
    await super.write(state);
    if (state.tracking !== undefined && !state.hasRun) await write('vdb', 0x11, '3M 4k');
  }
}

/** Dies at a write, counted from 0: before it is on disk, or just after. */
class DyingStates extends WritingStates {
  #left: number;
  readonly #when: 'before' | 'after';

  constructor(directory: string, at: number, when: 'before' | 'after') {
    super(directory);
    this.#left = at;
    this.#when = when;
  }

  override async write(state: RecoveryState): Promise<void> {
    const dies = this.#left-- === 0;
    if (dies && this.#when === 'before') throw new Error('killed');
    await super.write(state);
    if (dies) throw new Error('killed');
  }
}

const context = (steps?: StepLog): RecoverContext =>
  recoverContext(
    { libvirt, directory: daemon.directory },
    { states, baselines, ...(steps === undefined ? {} : { steps }) },
  );

type Variant = { hasDigests?: boolean; key?: string };

/** A point of its own for each test, and an old copy that differs from it. */
async function newPoint({ hasDigests = true, key = DIGEST_KEY }: Variant = {}): Promise<void> {
  const directory = `${daemon.directory}/p${++number}`;
  await mkdir(directory);
  states = new WritingStates(`${directory}/recoveries`);
  baselines = newBaselines(directory, () => libvirt);
  point = new ServedPoint(directory, disks);
  const xml = definition('web', (target) => `/gone/${target}.qcow2`);
  await point.attach('definition', xml.replace('<memory', `<uuid>${UUID}</uuid><memory`));
  if (hasDigests) await point.serveDigests(key);
  await point.start();
  replica = new MemoryReplica();
  replica.head = { sequence: 4, stamp: '4'.repeat(32), momentMs: 4 };
  for (const [name, bytes] of Object.entries(disks)) replica.state.set(name, Uint8Array.from(bytes));
  for (const block of DIFFERING)
    replica.contents('vda').fill(0x5e, block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES);
}

async function recover(steps?: StepLog): Promise<RecoverResult> {
  const sign = { serial_text: '!', timeout_ms: 60_000 };
  return await runRecover(point.task({ id: `r${number}`, sign_of_life: sign }), context(steps), forever);
}

async function vm(): Promise<Domain> {
  return await libvirt.lookupDomainByUuid(UUID);
}

/** Through the device of the VM, as the guest would; not flushed. */
async function write(key: string, fill: number, where: string): Promise<void> {
  await command(key, `write -P ${fill} ${where}`);
}

async function command(key: string, text: string): Promise<void> {
  const device = `/machine/peripheral/virtio-disk${KEYS.indexOf(key)}/virtio-backend`;
  const said = await (await vm()).monitorCommand(`qemu-io -d ${device} "${text}"`, ['hmp']);
  assert.doesNotMatch(said, /rror/, said);
}

async function cycle(): Promise<CycleResult> {
  const fs = new NodeFileSystem(`${daemon.directory}/p${number}`);
  await using record = await ReplicaRecord.open(fs, 'record', 'replica-2');
  const domain = await vm();
  const source = new LibvirtSource({
    replicaId: 'replica-2',
    vm: { uuid: UUID, name: domain.name },
    libvirt: () => libvirt,
    watch: new DomainWatch(),
    turns: new VmTurns(),
    clock: systemClock,
    scratchDirectory: `${daemon.directory}/scratch`,
    runDirectory: `${daemon.directory}/run`,
    tpmDirectory: `${daemon.directory}/swtpm`,
  });
  const ports = { source, link: replica, record, codec: syncBlockCodec, clock: systemClock };
  const baseline = baselines.of(UUID);
  const orders = { disks: [], scratchBytes: 2 ** 30 };
  const result = await runCycle({ ...ports, ...orders, random: systemRandom, baseline }, forever);
  assert.equal(result.leftBehind, undefined);
  return result;
}

async function assertEqual({ directory }: RecoverResult): Promise<void> {
  const isOff = (await (await vm()).getState()).state === 'shutoff';
  for (const key of KEYS) {
    // QEMU keeps tables of clusters in memory until then.
    if (!isOff) await command(key, 'flush');
    const raw = `${daemon.directory}/${key}.raw`;
    await daemon.run('qemu-img', ['convert', '-U', '-O', 'raw', `${directory}/${key}.qcow2`, raw]);
    assert.equal(Buffer.compare(await readFile(raw), replica.contents(key)), 0, `${key} differs`);
  }
}

async function checkpoints(): Promise<string[]> {
  return (await (await vm()).checkpoints.list()).map(({ name }) => name);
}

test('after a recovery the first cycle reads what was written since and what differs, also what was written first', async () => {
  await newPoint();
  const recovered = await recover();
  assert.equal(recovered.independent, true);
  await write('vda', 0x22, '2M 4k');
  const result = await cycle();
  await assertEqual(recovered);
  assert.equal(result.isComparing, false);
  assert.equal(result.readBytes, 2 * GRAIN_BYTES + DIFFERING.length * BLOCK_BYTES);
  assert.equal(result.changedBytes, (2 + DIFFERING.length) * BLOCK_BYTES);
  assert.equal(await baselines.tracking(UUID), undefined);
  const names = await checkpoints();
  assert.equal(names.length, 1);
  assert.match(names[0]!, /^antipode-replica-2-/);
  await write('vda', 0x23, '4M 4k');
  assert.equal((await cycle()).readBytes, GRAIN_BYTES);
  await assertEqual(recovered);
});

test('shut down and started again before that, it is tracked all the same, and so it is while it is off', async () => {
  await newPoint();
  const recovered = await recover();
  await (await vm()).destroy(['graceful']);
  const domain = await (await vm()).start(['paused']);
  await write('vda', 0x22, '2M 4k');
  await domain.destroy(['graceful']);
  const off = await cycle();
  assert.equal(off.consistency, 'off');
  assert.equal(off.readBytes, 2 * GRAIN_BYTES + DIFFERING.length * BLOCK_BYTES);
  await assertEqual(recovered);
  await (await vm()).start(['paused']);
  await write('vdb', 0x24, '5M 4k');
  const on = await cycle();
  assert.equal(on.isComparing, false);
  await assertEqual(recovered);
  assert.equal((await checkpoints()).length, 1);
});

const untracked: { what: string; variant?: Variant; change?: () => Promise<void> }[] = [
  { what: 'its QEMU was killed', change: async () => await killAndStart() },
  { what: 'the replication server does not tell the digests of its points', variant: { hasDigests: false } },
  { what: 'the digests of the other replica have another key', variant: { key: 'ab'.repeat(32) } },
  {
    what: 'somebody deleted the checkpoint',
    change: async () => {
      for (const checkpoint of await (await vm()).checkpoints.list()) await checkpoint.delete();
    },
  },
];

async function killAndStart(): Promise<void> {
  await daemon.killQemu('web');
  const deadline = performance.now() + 20_000;
  while ((await (await vm()).getState()).state !== 'shutoff') {
    assert(performance.now() < deadline, 'libvirt has not noticed that QEMU is gone');
    await systemClock.sleep(20);
  }
  await (await vm()).start(['paused']);
}

for (const { what, variant, change } of untracked) {
  test(`everything is read, and the result is right, when ${what}`, async () => {
    await newPoint(variant);
    const recovered = await recover();
    await write('vda', 0x22, '2M 4k');
    await change?.();
    const result = await cycle();
    assert.equal(result.isComparing, true);
    await assertEqual(recovered);
    await write('vda', 0x23, '3M 4k');
    assert.equal((await cycle()).readBytes, GRAIN_BYTES);
    await assertEqual(recovered);
  });
}

test('an overlay that was written to before the tracking began is not believed to hold the point', async () => {
  await newPoint();
  const early = new (class extends StepLog {
    override async run<T>(name: string, work: Parameters<StepLog['run']>[1]): Promise<T> {
      if (name === 'start') {
        // Somebody else starts it first.
        await (await vm()).start(['paused']);
        await write('vda', 0x33, '6M 4k');
      }
      return (await super.run(name, work)) as T;
    }
  })(systemClock, () => undefined);
  const recovered = await recover(early);
  const notes = early.steps.map(({ note }) => note).join();
  assert.match(notes, /vda has been written to already/);
  assert.deepEqual(await checkpoints(), []);
  assert.equal((await cycle()).isComparing, true);
  await assertEqual(recovered);
});

test('a recovery that is killed before and after each step leaves no VM paused, and tracks from its start', async () => {
  await newPoint();
  for (const name of ['define', 'start', 'keep the digests of its point', 'pull the disks']) {
    for (const when of ['before', 'after'] as const) {
      await assert.rejects(recover(new DyingSteps({ name, when })), /killed/);
    }
  }
  const recovered = await recover();
  assert.equal((await (await vm()).getState()).state, 'running');
  const result = await cycle();
  assert.equal(result.isComparing, false);
  assert.equal(result.readBytes, GRAIN_BYTES + DIFFERING.length * BLOCK_BYTES);
  await assertEqual(recovered);
});

test('a recovery that is killed around each thing that it writes down is tracked from its start as well', async () => {
  await newPoint();
  const directory = `${daemon.directory}/p${number}/recoveries`;
  for (const when of ['before', 'after'] as const) {
    // The overlays, the start, the tracking, the first instruction, the sign.
    for (let at = 0; at < 5; at++) {
      states = new DyingStates(directory, at, when);
      await recover().catch((error: unknown) => assert.match(String(error), /killed/));
    }
  }
  states = new WritingStates(directory);
  const recovered = await recover();
  assert.equal((await (await vm()).getState()).state, 'running');
  const result = await cycle();
  assert.equal(result.isComparing, false);
  assert.equal(result.readBytes, GRAIN_BYTES + DIFFERING.length * BLOCK_BYTES);
  await assertEqual(recovered);
});
