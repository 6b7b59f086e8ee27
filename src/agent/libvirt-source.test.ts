/**
 * Moments of a real VM: real libvirtd, real QEMU under TCG, the replication engine, and a replica in memory. The
 * tests build on each other, in order. The guest itself never writes: its disks change when a test says so.
 */
import assert from 'node:assert/strict';
import { copyFile, mkdir, readFile, rm } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import type { Clock } from '#/lib/clock.ts';
import { hasCode } from '#/lib/failure.ts';
import { systemClock } from '#/lib/system-clock.ts';
import { systemRandom } from '#/lib/system-random.ts';
import { NodeFileSystem } from '#/disk/node-file-system.ts';
import type { Domain } from '#/libvirt/domain.ts';
import { buildPullBackupXml } from '#/libvirt/backup-xml.ts';
import { buildCheckpointXml } from '#/libvirt/checkpoint-xml.ts';
import { Libvirt } from '#/libvirt/libvirt.ts';
import { syncBlockCodec } from '#/replication/block-codec.ts';
import { runCycle, type CycleResult } from '#/replication/cycle.ts';
import { MemoryReplica } from '#/replication/replica-fixture.ts';
import { ReplicaRecord } from '#/replication/replica-record.ts';
import { makeEchoGuest, type EchoGuest } from '#test/echo-guest.ts';
import { startPrivateLibvirtd, type PrivateLibvirtd } from '#test/private-libvirtd.ts';
import { DomainWatch } from './domain-watch.ts';
import { LibvirtSource } from './libvirt-source.ts';
import { endJob, runningBackup } from './own-tracking.ts';
import { VmTurns } from './vm-turns.ts';

const REPLICA_ID = 'replica-1';
const KEYS = ['vda', 'vdb'];
const forever = new AbortController().signal;

let daemon: PrivateLibvirtd;
let libvirt: Libvirt;
let guest: EchoGuest;
let domain: Domain;
let source: LibvirtSource;
let replica = new MemoryReplica();
const watch = new DomainWatch();
/** A checkpoint of another product, which must be there to the end. */
const FOREIGN = 'nightly-backup';

before(async () => {
  daemon = await startPrivateLibvirtd();
  for (const name of ['scratch', 'run', 'records']) await mkdir(`${daemon.directory}/${name}`);
  await connect();
  guest = await makeEchoGuest(daemon, 'web');
  domain = await (await libvirt.defineDomain(guest.xml)).start();
  source = newSource();
});

after(async () => {
  await libvirt[Symbol.asyncDispose]();
  await daemon[Symbol.asyncDispose]();
});

async function connect(): Promise<void> {
  libvirt = await Libvirt.connect({ socketPath: daemon.socketPath });
  const events = await libvirt.subscribe(['lifecycle']);
  void (async () => {
    for await (const event of events) watch.deliver(event);
  })().catch(() => undefined);
}

function newSource(clock: Clock = systemClock): LibvirtSource {
  return new LibvirtSource({
    replicaId: REPLICA_ID,
    vm: { uuid: domain.uuid, name: domain.name },
    libvirt: () => libvirt,
    watch,
    turns: new VmTurns(),
    clock,
    scratchDirectory: `${daemon.directory}/scratch`,
    runDirectory: `${daemon.directory}/run`,
    tpmDirectory: `${daemon.directory}/swtpm`,
  });
}

async function cycle(): Promise<CycleResult> {
  await using record = await ReplicaRecord.open(
    new NodeFileSystem(`${daemon.directory}/records`),
    REPLICA_ID,
    REPLICA_ID,
  );
  const result = await runCycle(
    {
      source,
      link: replica,
      record,
      codec: syncBlockCodec,
      clock: systemClock,
      random: systemRandom,
      disks: [],
      scratchBytes: 2 ** 30,
    },
    forever,
  );
  assert.equal(result.leftBehind, undefined);
  return result;
}

/** Writes to a disk of the running VM through its own device, as the guest would. */
async function write(key: string, fill: number, where: string): Promise<void> {
  const device = `/machine/peripheral/virtio-disk${KEYS.indexOf(key)}/virtio-backend`;
  for (const command of [`write -P ${fill} ${where}`, 'flush']) {
    const said = await domain.monitorCommand(`qemu-io -d ${device} "${command}"`, ['hmp']);
    assert.doesNotMatch(said, /rror/, said);
  }
}

async function assertEqual(): Promise<void> {
  for (const key of KEYS) {
    const raw = `${daemon.directory}/${key}.raw`;
    await daemon.run('qemu-img', ['convert', '-U', '-O', 'raw', guest.imagePath(key), raw]);
    assert.equal(Buffer.compare(await readFile(raw), replica.contents(key)), 0, `${key} differs`);
  }
}

async function ownCheckpoints(): Promise<string[]> {
  const names = (await domain.checkpoints.list()).map(({ name }) => name);
  assert(names.includes(FOREIGN), 'the checkpoint of another product is gone');
  return names.filter((name) => name.startsWith('antipode-'));
}

test('the first copy of a running VM equals it, with its definition beside it', async () => {
  await domain.checkpoints.create(
    buildCheckpointXml({ name: FOREIGN, disks: [{ target: 'vda' }], excluded: ['vdb'] }),
  );
  await write('vdb', 7, '1M 256k');
  const result = await cycle();
  assert.equal(result.isFirstCopy, true);
  assert.equal(result.consistency, 'crash');
  await assertEqual();
  const [definition] = [...replica.attachments.values()];
  assert.match(new TextDecoder().decode(definition), /<name>web<\/name>/);
  assert.equal((await ownCheckpoints()).length, 1);
});

test('later cycles read what the bitmaps name and send the blocks that differ', async () => {
  await write('vda', 3, '2M 4k');
  await write('vdb', 4, '1M 8k');
  const before = replica.blocksTaken;
  const result = await cycle();
  assert.equal(result.isComparing, false);
  assert.equal(replica.blocksTaken - before, 3);
  assert.equal(result.readBytes, 2 * 65_536);
  await assertEqual();
  const times = [];
  for (let i = 0; i < 5; i++) times.push((await cycle()).durationMs);
  console.log(`idle cycles took ${times.map(Math.round).join(', ')} ms`);
  assert.equal((await ownCheckpoints()).length, 1);
  assert.equal(await runningBackup(domain), undefined);
});

test('a killed QEMU costs a local read: only blocks that differ travel', async () => {
  await daemon.killQemu('web');
  await stopped();
  domain = await domain.start();
  await write('vda', 5, '3M 4k');
  const before = replica.blocksTaken;
  const result = await cycle();
  assert.equal(result.isComparing, true);
  assert.equal(replica.blocksTaken - before, 1);
  await assertEqual();
  assert.equal((await cycle()).isComparing, false);
  assert.equal((await ownCheckpoints()).length, 1);
});

test('a checkpoint whose record somebody deleted costs a local read, and its bitmap is removed', async () => {
  const [name] = await ownCheckpoints();
  const checkpoint = await domain.checkpoints.lookup(name!);
  await checkpoint.delete(['metadataOnly']);
  await write('vda', 6, '4M 4k');
  const before = replica.blocksTaken;
  assert.equal((await cycle()).isComparing, true);
  assert.equal(replica.blocksTaken - before, 1);
  await assertEqual();
  const nodes = await domain.monitorCommand('{"execute":"query-block"}');
  assert(!nodes.includes(name!), 'the bitmap without a record is still there');
});

test('a moment that a killed agent left is ended by the next one', async () => {
  const next = 'a'.repeat(32);
  await source.freeze({ next, disks: [], scratchBytes: 2 ** 30 }, forever);
  assert.notEqual(await runningBackup(domain), undefined);
  source = newSource();
  await write('vda', 8, '5M 4k');
  await cycle();
  await assertEqual();
  assert.equal((await ownCheckpoints()).length, 1);
});

test('a moment outlives libvirtd, and is settled by the daemon that comes after it', async () => {
  const [older] = await ownCheckpoints();
  const since = older!.slice(-32);
  const request = { since, next: 'b'.repeat(32), disks: [], scratchBytes: 2 ** 30 };
  const moment = await source.freeze(request, forever);
  await daemon.killDaemon();
  const bytes = new Uint8Array(4096);
  await moment.disks[0]!.disk.read(5 * 2 ** 20, bytes);
  assert.equal(bytes[0], 8);
  await assert.rejects(moment.confirm(), (error) => hasCode(error, 'unreachable'));
  await daemon.start();
  await connect();
  domain = await libvirt.lookupDomainByUuid(domain.uuid);
  await moment.confirm();
  await moment.release('given_up');
  assert.deepEqual(await ownCheckpoints(), [older]);
  assert.equal((await cycle()).isComparing, false);
});

test('scratch at its bound ends the moment, not the guest', async () => {
  const request = { next: 'c'.repeat(32), disks: [], scratchBytes: 2 ** 20 };
  const moment = await source.freeze(request, forever);
  const lost = new Promise<unknown>((resolve) => {
    moment.lost.addEventListener('abort', () => resolve(moment.lost.reason), { once: true });
  });
  for (let at = 0; at < 3; at++) await write('vda', 9, `${at}M 1M`);
  assert(hasCode(await lost, 'scratch_full'));
  await moment.release('given_up');
  assert.equal(await runningBackup(domain), undefined);
  assert.equal((await domain.getState()).state, 'running');
  await cycle();
  await assertEqual();
});

test('a VM that was shut down is replicated by its bitmaps, and its start is not hindered', async () => {
  await write('vdb', 10, '6M 4k');
  await domain.destroy(['graceful']);
  const before = replica.blocksTaken;
  const off = await cycle();
  assert.equal(off.consistency, 'off');
  assert.equal(off.isComparing, false);
  assert.equal(replica.blocksTaken - before, 1);
  await assertEqual();
  const moment = await source.freeze({ next: 'd'.repeat(32), disks: [], scratchBytes: 1 }, forever);
  const startedMs = performance.now();
  domain = await domain.start();
  console.log(`started in ${Math.round(performance.now() - startedMs)} ms beside qemu-nbd`);
  await assert.rejects(moment.confirm(), (error) => hasCode(error, 'tracking_lost'));
  assert.equal(moment.lost.aborted, true);
  await moment.release('given_up');
  await write('vda', 11, '6M 4k');
  assert.equal((await cycle()).isComparing, false);
  await assertEqual();
});

test('a killed VM that stays off is compared once, and then only looked at until it changes', async () => {
  await daemon.killQemu('web');
  await stopped();
  // Ten seconds on, the times of the files are old enough to tell them from a later write.
  source = newSource({ ...systemClock, now: () => systemClock.now() + 10_000 });
  const first = await cycle();
  assert.equal(first.isComparing, true);
  const second = await cycle();
  assert.equal(second.isComparing, false);
  assert.equal(second.readBytes, 0);
  await daemon.run('qemu-io', ['-f', 'qcow2', '-c', 'write -P 13 1M 4k', guest.imagePath('vda')]);
  assert.equal((await cycle()).isComparing, true);
  await assertEqual();
  domain = await domain.start();
  assert.equal((await cycle()).isComparing, true);
  assert.equal((await cycle()).isComparing, false);
  assert.equal((await ownCheckpoints()).length, 1);
  source = newSource();
});

test('an older image put back behind libvirt costs a local read, and nothing of it is missed', async () => {
  await domain.destroy(['graceful']);
  const image = guest.imagePath('vda');
  await copyFile(image, `${image}.older`);
  domain = await domain.start();
  await write('vda', 12, '7M 64k');
  await cycle();
  await domain.destroy(['graceful']);
  // In place, so that the path and the inode are the same.
  await copyFile(`${image}.older`, image);
  domain = await domain.start();
  assert.equal((await cycle()).isComparing, true);
  await assertEqual();
  assert.equal((await cycle()).isComparing, false);
});

test("another program's backup is left alone", async () => {
  const disks = KEYS.map((target) => ({
    target,
    exportName: target,
    scratchPath: `${daemon.directory}/foreign-${target}`,
  }));
  await domain.backup.begin(buildPullBackupXml({ socketPath: `${daemon.directory}/foreign.sock`, disks }));
  await assert.rejects(cycle(), (error) => hasCode(error, 'conflict'));
  assert.notEqual(await runningBackup(domain), undefined);
  await endJob(domain, systemClock);
});

test('a lost record on both sides is made new from nothing but the replica', async () => {
  await rm(`${daemon.directory}/records/${REPLICA_ID}`, { recursive: true });
  const before = replica.blocksTaken;
  await cycle();
  assert.equal(replica.blocksTaken, before);
  replica = new MemoryReplica();
  assert.equal((await cycle()).isFirstCopy, true);
  await assertEqual();
});

/** libvirt notices a killed QEMU a little later. */
async function stopped(): Promise<void> {
  for (let i = 0; i < 500; i++) {
    if ((await domain.getState()).state === 'shutoff') return;
    await systemClock.sleep(10);
  }
  assert.fail('libvirt did not notice that QEMU is gone');
}
