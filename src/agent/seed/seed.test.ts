/**
 * A replica is filled from the old copy of its VM, in a real libvirt: whatever is killed or cut on the way, it becomes
 * the copy byte for byte, and what only the copy had is told.
 */
import assert from 'node:assert/strict';
import { mkdir, readFile } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { DomainWatch } from '#/agent/domain-watch.ts';
import { LibvirtSource } from '#/agent/libvirt-source.ts';
import { DyingSteps, rawBytes } from '#/agent/recovery-fixture.ts';
import { StepLog } from '#/agent/step-log.ts';
import { VmTurns } from '#/agent/vm-turns.ts';
import type { SeedResult, SeedTask } from '#/control/seed-tasks.ts';
import { DIGEST_KEY } from '#/disk/digest-fixture.ts';
import { NodeFileSystem } from '#/disk/node-file-system.ts';
import { Failure } from '#/lib/failure.ts';
import { systemClock } from '#/lib/system-clock.ts';
import { systemRandom } from '#/lib/system-random.ts';
import type { Domain } from '#/libvirt/domain.ts';
import { Libvirt } from '#/libvirt/libvirt.ts';
import { EPOCH_NAMESPACE, EPOCH_PREFIX, epochMarkText } from '#/recovery/epoch-mark.ts';
import { syncBlockCodec } from '#/replication/block-codec.ts';
import { runCycle } from '#/replication/cycle.ts';
import { MemoryReplica } from '#/replication/replica-fixture.ts';
import { ReplicaRecord } from '#/replication/replica-record.ts';
import type { OpenRequest } from '#/wire/client-session.ts';
import type { SessionPool } from '#/wire/session-pool.ts';
import { makeEchoGuest, type EchoGuest } from '#test/echo-guest.ts';
import { startPrivateLibvirtd, type PrivateLibvirtd } from '#test/private-libvirtd.ts';
import { SeedFiles } from './seed-files.ts';
import { runSeed, type SeedParts } from './seed-task.ts';

const FORMER = 'replica-at-east';
const YIELDED_MS = 1_795_377_600_000;
const KEYS = ['vda', 'vdb'];
/** Of the sessions that were opened. */
const keysNamed: (string | undefined)[] = [];
let isServerOld = false;
const forever = new AbortController().signal;
/** Retries need not be waited for. */
const clock = {
  now: () => systemClock.now(),
  monotonicMs: () => systemClock.monotonicMs(),
  sleep: async () => {},
};

let daemon: PrivateLibvirtd;
let libvirt: Libvirt;
let guest: EchoGuest;
let domain: Domain;
const common = { watch: new DomainWatch(), turns: new VmTurns() };

before(async () => {
  daemon = await startPrivateLibvirtd();
  for (const name of ['scratch', 'run', 'records']) await mkdir(`${daemon.directory}/${name}`);
  libvirt = await Libvirt.connect({ socketPath: daemon.socketPath });
  guest = await makeEchoGuest(daemon, 'web');
  domain = await (await libvirt.defineDomain(guest.xml)).start();
  await replicateToEast();
  await write('vda', '1M 8k');
  await write('vdb', '2M 4k');
});
after(async () => {
  await libvirt?.[Symbol.asyncDispose]();
  await daemon?.[Symbol.asyncDispose]();
});

const directories = () => ({
  scratchDirectory: `${daemon.directory}/scratch`,
  runDirectory: `${daemon.directory}/run`,
  tpmDirectory: `${daemon.directory}/swtpm`,
  recordsDirectory: `${daemon.directory}/records`,
});

/** As the protection of before did, with the last point that east acknowledged. */
async function replicateToEast(): Promise<void> {
  const vm = { uuid: domain.uuid, name: domain.name };
  const options = { ...common, ...directories(), clock: systemClock, libvirt: () => libvirt };
  const source = new LibvirtSource({ ...options, replicaId: FORMER, vm });
  await using record = await ReplicaRecord.open(
    new NodeFileSystem(`${daemon.directory}/records`),
    FORMER,
    FORMER,
  );
  const engine = { codec: syncBlockCodec, clock: systemClock, random: systemRandom };
  const context = { ...engine, source, link: new MemoryReplica(), record, disks: [], scratchBytes: 2 ** 30 };
  await runCycle(context, forever);
}

/** Through the running VM's own device, as the guest would. */
async function write(key: string, where: string): Promise<void> {
  const device = `/machine/peripheral/virtio-disk${KEYS.indexOf(key)}/virtio-backend`;
  for (const command of [`write -P 17 ${where}`, 'flush']) {
    const said = await domain.monitorCommand(`qemu-io -d ${device} "${command}"`, ['hmp']);
    assert.doesNotMatch(said, /rror/, said);
  }
}

async function seed(
  replica: MemoryReplica,
  id: string,
  steps: StepLog = new StepLog(systemClock, () => undefined),
): Promise<SeedResult> {
  const task: SeedTask = {
    id: `seed-${id}`,
    kind: 'seed',
    replica_id: `replica-${id}`,
    vm_uuid: domain.uuid,
    vm_name: 'web',
    disks: KEYS,
    epoch: 2,
    server: { site_id: 'site-west', server_id: 'server-1', host: '127.0.0.1', port: 1 },
    former_replica_id: FORMER,
  };
  const parts: SeedParts = {
    ...common,
    ...directories(),
    clock,
    libvirt: () => libvirt,
    codec: syncBlockCodec,
    identity: () => ({
      credentials: { certificatePem: '', privateKeyPem: '' },
      authorities: new Map([['site-west', '']]),
    }),
    // The wire has its own tests: here the replica is in memory.
    pool: {
      open: (_: unknown, { digestKey }: OpenRequest) => {
        keysNamed.push(digestKey);
        if (digestKey === undefined || !isServerOld) return replica.open();
        throw new Failure('protocol_corrupt', 'read open: digest_key is not known');
      },
    } as unknown as SessionPool,
    files: new SeedFiles(daemon.directory),
  };
  return await runSeed(task, { libvirt, steps, isUp: () => undefined }, parts, forever);
}

async function assertFilled(replica: MemoryReplica, result: SeedResult): Promise<void> {
  for (const key of KEYS) {
    const bytes = await rawBytes(daemon.run.bind(daemon), guest.imagePath(key));
    assert(Buffer.compare(replica.contents(key), bytes) === 0, `${key} is the copy, byte for byte`);
  }
  assert.equal(result.moment_ms, YIELDED_MS);
  assert.equal(result.sequence, replica.head?.sequence);
  assert.deepEqual(result.only_here?.extents, [
    { disk: 'vda', offset: 2 ** 20, length: 8192 },
    { disk: 'vdb', offset: 2 ** 21, length: 4096 },
  ]);
  assert.deepEqual([result.only_here?.bytes, result.only_here?.sequence], [12_288, 1]);
}

test('a copy that has not yielded is left alone', async () => {
  await assert.rejects(seed(new MemoryReplica(), 'none'), /has not yielded to epoch 2/);
  assert.equal((await domain.getState()).state, 'running');
});

test('a copy that runs is left alone, and one that is paused is ended: then the replica is the copy', async () => {
  const yielded = {
    epoch: 2,
    siteId: 'site-east',
    atMs: YIELDED_MS,
    wasPaused: true,
    hadAutostart: false,
  };
  const where = { uri: EPOCH_NAMESPACE, key: EPOCH_PREFIX };
  await domain.setMetadata(where, epochMarkText({ claim: undefined, yielded }), ['live', 'config']);
  await assert.rejects(seed(new MemoryReplica(), 'running'), /is running: a copy that has yielded is paused/);
  await domain.suspend();
  const steps = new StepLog(systemClock, () => undefined);
  const replica = new MemoryReplica();
  await assertFilled(replica, await seed(replica, 'first', steps));
  const ended = steps.steps.find(({ name }) => name === 'end what was paused');
  assert.match(ended?.note ?? '', /the memory that it had then is gone/);
  assert.deepEqual(keysNamed, [DIGEST_KEY], "the replica is told the key of east's");
  const list = `${daemon.directory}/seeds/only-here-replica-first.json`;
  assert.equal((JSON.parse(await readFile(list, 'utf8')) as { extent_count: number }).extent_count, 2);
});

test('a replication server that knows nothing of keys that are named is filled all the same', async () => {
  isServerOld = true;
  keysNamed.length = 0;
  const replica = new MemoryReplica();
  await assertFilled(replica, await seed(replica, 'old-server'));
  isServerOld = false;
  assert.deepEqual(keysNamed, [DIGEST_KEY, undefined]);
});

test('killed after any step, and done again, it ends the same', async () => {
  const steps = new StepLog(systemClock, () => undefined);
  await seed(new MemoryReplica(), 'names', steps);
  for (const [index, { name }] of steps.steps.entries()) {
    const replica = new MemoryReplica();
    await assert.rejects(seed(replica, `killed-${index}`, new DyingSteps({ name, when: 'after' })), /killed/);
    await assertFilled(replica, await seed(replica, `killed-${index}`));
  }
});

test('cut at any message to the replica, it goes on', async () => {
  const whole = new MemoryReplica();
  await seed(whole, 'whole');
  // Each sort of message more than once, before and after it was taken; all of them would take minutes.
  for (let at = 0; at < whole.messages; at += 5) {
    const replica = new MemoryReplica();
    replica.cuts.set(at, at % 2 === 0 ? 'before' : 'after');
    await assertFilled(replica, await seed(replica, `cut-${at}`));
  }
});

test('a replica that is there from before gets what differs, and nothing else', async () => {
  const replica = new MemoryReplica();
  await seed(replica, 'kept');
  const taken = replica.blocksTaken;
  replica.state.get('vda')!.fill(1, 4096, 8192);
  const result = await seed(replica, 'kept-again');
  await assertFilled(replica, result);
  assert.equal(result.changed_bytes, 4096);
  assert(replica.blocksTaken <= taken + 1);
});
