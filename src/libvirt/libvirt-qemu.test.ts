/**
 * The client against a real libvirtd and real QEMU guests under TCG: backups, checkpoints, block jobs, streams,
 * events, and what a killed QEMU and a killed daemon leave behind. The tests build on each other, in order.
 */
import assert from 'node:assert/strict';
import { access, mkdir } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { hasCode } from '#/lib/failure.ts';
import { definition, makeEchoGuest } from '#test/echo-guest.ts';
import type { EchoGuest } from '#test/echo-guest.ts';
import { startPrivateLibvirtd } from '#test/private-libvirtd.ts';
import type { PrivateLibvirtd } from '#test/private-libvirtd.ts';
import { buildPullBackupXml, readBackupXml } from './backup-xml.ts';
import { buildCheckpointXml, readCheckpointXml } from './checkpoint-xml.ts';
import type { Domain } from './domain.ts';
import { readDomainXml } from './domain-xml.ts';
import { hasLibvirtCode, LibvirtCode } from './errors.ts';
import type { DomainEvent } from './events.ts';
import { Libvirt } from './libvirt.ts';
import type { Subscription } from './subscription.ts';

let daemon: PrivateLibvirtd;
let libvirt: Libvirt;
let events: Subscription;
let guest: EchoGuest;
let domain: Domain;

const KINDS = [
  'job-completed',
  'lifecycle',
  'reboot',
  'io-error',
  'block-job',
  'agent',
  'device-added',
  'device-removed',
] as const;
const TARGETS = ['vda', 'vdb'] as const;
const failsWith = (code: number) => (error: unknown) => hasLibvirtCode(error, code);

async function connect(): Promise<void> {
  libvirt = await Libvirt.connect({ socketPath: daemon.socketPath });
  events = await libvirt.subscribe([...KINDS, 'block-threshold']);
}

before(async () => {
  daemon = await startPrivateLibvirtd();
  await connect();
  guest = await makeEchoGuest(daemon, 'echo');
  // A guest keeps the mounts that there were when it started, so this one comes first.
  await mkdir(`${daemon.directory}/small`);
  await daemon.run('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', `${daemon.directory}/small`]);
});

after(async () => {
  await libvirt?.[Symbol.asyncDispose]();
  await daemon?.[Symbol.asyncDispose]();
});

/** The next event that matches; those before it are passed over. */
async function event(matches: (event: DomainEvent) => boolean): Promise<DomainEvent> {
  const iterator = events[Symbol.asyncIterator]();
  for (;;) {
    const { value } = await iterator.next();
    assert(value !== undefined, 'the events have ended');
    if (matches(value)) return value;
  }
}

const change = (name: string) => (e: DomainEvent) => e.kind === 'lifecycle' && e.change === name;

/** Begins a backup of both disks with a checkpoint, incremental from another one when that is given. */
async function begin(checkpoint: string, incremental?: string): Promise<string> {
  const socketPath = `${daemon.directory}/backup.sock`;
  const xml = buildPullBackupXml({
    socketPath,
    disks: TARGETS.map((target) => ({
      target,
      exportName: target,
      scratchPath: `${daemon.directory}/scratch-${target}-${checkpoint}`,
      ...(incremental === undefined ? {} : { incremental, exportBitmap: 'changed' }),
    })),
  });
  const checkpointXml = buildCheckpointXml({
    name: checkpoint,
    disks: TARGETS.map((target) => ({ target })),
  });
  await domain.backup.begin(xml, checkpointXml);
  return socketPath;
}

/** Writes to a disk of the running guest from within QEMU, as the guest would. */
async function write(target: 'vda' | 'vdb', offset: number, bytes: number): Promise<void> {
  const device = `/machine/peripheral/virtio-disk${TARGETS.indexOf(target)}/virtio-backend`;
  const reply = await domain.monitorCommand(`qemu-io -d ${device} "write -P 7 ${offset} ${bytes}"`, ['hmp']);
  assert.equal(reply, '', 'the monitor prints errors only');
}

test('a domain is defined and read', async () => {
  domain = await libvirt.defineDomain(guest.xml, ['validate']);
  assert(change('defined')(await event(() => true)));
  const read = readDomainXml(await domain.getXml(['inactive']));
  assert.deepEqual(
    read.disks.map((disk) => [disk.target, disk.format, disk.source]),
    TARGETS.map((target) => [target, 'qcow2', { kind: 'file', path: guest.imagePath(target) }]),
  );
  assert.deepEqual([read.hasGuestAgent, read.memoryBytes], [true, 128 * 2 ** 20]);
  assert.match(
    await libvirt.getDomainCapabilities({ virtType: 'qemu', arch: 'x86_64' }),
    /<domainCapabilities>/,
  );
});

test('a domain starts paused, resumes and boots', async () => {
  domain = await domain.start(['paused']);
  assert.equal((await domain.getState()).state, 'paused');
  const [disk] = await Promise.all([domain.disk('vda').getSizes(), event(change('started'))]);
  assert.equal(disk.capacityBytes, 8 * 2 ** 20);
  await domain.resume();
  await event(change('resumed'));
  assert.deepEqual(
    (await libvirt.listDomains(['running'])).map((d) => d.name),
    ['echo'],
  );
});

test('the console is a stream in both directions', async () => {
  await using console = await domain.openConsole();
  const text = 'what goes in comes out';
  const iterator = console[Symbol.asyncIterator]();
  let seen = '';
  const until = async (wanted: string): Promise<void> => {
    while (!seen.includes(wanted))
      seen += Buffer.from((await iterator.next()).value ?? []).toString('latin1');
  };
  await until('!');
  await console.write(Buffer.from(text));
  await until(text);
});

test('the screen is a picture, the clock of the vCPU runs, the disks count', async () => {
  const picture = await domain.screenshot();
  assert.match(picture.mime, /^image\//);
  assert(picture.bytes.length > 1000);
  const [stats] = await libvirt.getStats(['state', 'vcpu', 'block'], [domain]);
  assert(Number(stats?.parameters.get('vcpu.0.time')) > 0);
  assert.equal(stats?.parameters.get('block.count'), 2);
  const counters = await domain.disk('vda').getCounters();
  assert(counters.readRequests > 0 && counters.writtenBytes === 0);
});

test('a guest without an agent is reported as that, and never waited for', async () => {
  const { agent } = domain;
  const agentIsMissing = failsWith(LibvirtCode.agentUnresponsive);
  await assert.rejects(agent.command('{"execute":"guest-ping"}', { timeoutSeconds: 1 }), agentIsMissing);
  await assert.rejects(agent.freeze({ timeoutSeconds: 1 }, ['/', '/home']), agentIsMissing);
  await assert.rejects(agent.thaw({ timeoutSeconds: 1 }), agentIsMissing);
  await assert.rejects(
    async () => await agent.thaw({ timeoutSeconds: 0 }),
    (error) => hasCode(error, 'usage_invalid'),
  );
});

test('a full backup begins with a checkpoint, tells of itself, and ends', async () => {
  await assert.rejects(domain.backup.getXml(), failsWith(LibvirtCode.noBackup));
  const socketPath = await begin('point-1');
  await access(socketPath);
  const running = readBackupXml(await domain.backup.getXml());
  assert.deepEqual([running.mode, running.socketPath, running.disks.length], ['pull', socketPath, 2]);
  assert.match(await daemon.run('qemu-img', ['info', `nbd+unix:///vda?socket=${socketPath}`]), /8 MiB/);
  const stats = await domain.backup.getStats();
  assert.equal(stats.kind, 'unbounded');
  assert.equal(typeof stats.parameters.get('disk_temp_used'), 'number');
  assert.equal((await domain.backup.getProgress()).kind, 'unbounded');
  await domain.backup.end();
  const completed = await event((e) => e.kind === 'job-completed');
  assert(
    completed.kind === 'job-completed' && typeof completed.parameters.get('disk_temp_total') === 'number',
  );
  assert.equal((await domain.backup.getProgress()).kind, 'none');
  await assert.rejects(access(socketPath), { code: 'ENOENT' });
  const checkpoints = await domain.checkpoints.list();
  assert.deepEqual(
    checkpoints.map((checkpoint) => checkpoint.name),
    ['point-1'],
  );
});

test('an incremental backup exports what changed since its checkpoint', async () => {
  await write('vdb', 65_536, 65_536);
  const first = await domain.checkpoints.lookup('point-1');
  const record = readCheckpointXml(await first.getXml(['bytes', 'noDomain']));
  assert.deepEqual(
    record.disks.map((disk) => [disk.target, disk.changedBytes]),
    [
      ['vda', 0],
      ['vdb', 65_536],
    ],
  );
  const socketPath = await begin('point-2', 'point-1');
  const uri = `nbd+unix:///vdb?socket=${socketPath}`;
  const map = await daemon.run('nbdinfo', ['--map=qemu:dirty-bitmap:changed', uri]);
  assert.deepEqual(
    map
      .trim()
      .split('\n')
      .map((line) => line.trim().split(/\s+/).slice(0, 3).map(Number)),
    [
      [0, 65_536, 0],
      [65_536, 65_536, 1],
      [131_072, 8 * 2 ** 20 - 131_072, 0],
    ],
  );
  await domain.backup.end();
  await first.delete();
  const second = await domain.checkpoints.lookup('point-2');
  assert.equal(await second.getParent(), undefined);
});

test('a backup from a checkpoint that is not there is refused with its code', async () => {
  await assert.rejects(begin('point-3', 'point-1'), failsWith(LibvirtCode.noCheckpoint));
});

test('a full scratch space pauses the guest with an I/O error, and the end of the backup frees it', async () => {
  await using console = await domain.openConsole();
  const disk = { target: 'vda', exportName: 'vda', scratchPath: `${daemon.directory}/small/scratch` };
  const socketPath = `${daemon.directory}/full.sock`;
  await domain.backup.begin(buildPullBackupXml({ socketPath, disks: [disk], excluded: ['vdb'] }));
  const writes = 32;
  await console.write(Buffer.alloc(writes, 'W'));
  const full = await event((e) => e.kind === 'io-error');
  assert(full.kind === 'io-error');
  assert.deepEqual([full.action, full.reason], ['pause', 'enospc']);
  const { state, reason } = await domain.getState();
  assert.deepEqual([state, reason], ['paused', 'io-error']);
  assert.deepEqual(await domain.getDiskErrors(), [{ target: 'vda', error: 'no-space' }]);
  await domain.backup.end();
  await event((e) => e.kind === 'job-completed');
  await domain.resume();
  let answers = '';
  for await (const piece of console) {
    answers += Buffer.from(piece).toString('latin1').replaceAll(/[^+-]/g, '');
    if (answers.length >= writes) break;
  }
  assert.equal(answers, '+'.repeat(writes), 'the guest saw a write fail');
});

test('a disk is added and taken away while the guest runs, and each is an event', async () => {
  const path = `${daemon.directory}/hot.qcow2`;
  await daemon.run('qemu-img', ['create', '-q', '-f', 'qcow2', path, '1M']);
  const xml = `<disk type="file" device="disk"><driver name="qemu" type="qcow2"/><source file="${path}"/>
    <target dev="sda" bus="scsi"/></disk>`;
  await domain.attachDevice(xml, ['live']);
  const added = await event((e) => e.kind === 'device-added');
  assert.equal(readDomainXml(await domain.getXml()).disks.length, 3);
  assert.equal(readDomainXml(await domain.getXml(['inactive'])).disks.length, 2);
  await domain.detachDevice(xml, ['live']);
  const removed = await event((e) => e.kind === 'device-removed');
  assert(added.kind === 'device-added' && removed.kind === 'device-removed');
  assert.equal(added.deviceAlias, removed.deviceAlias);
});

test('a write beyond the threshold of a disk is an event', async () => {
  await domain.disk('vda').setThreshold(1_000_000);
  await write('vda', 4_194_304, 4_194_304);
  const passed = await event((e) => e.kind === 'block-threshold');
  assert(passed.kind === 'block-threshold');
  assert.deepEqual([passed.device.slice(0, 3), passed.thresholdBytes], ['vda', 1_000_000]);
});

test('an overlay is made independent by a pull and shortened by a commit', async () => {
  const image = (target: string): string => `${daemon.directory}/overlay-${target}.qcow2`;
  for (const target of TARGETS) {
    const base = `${daemon.directory}/base-${target}.qcow2`;
    await daemon.run('cp', [`${daemon.directory}/echo.raw`, base]);
    await daemon.run('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', base, '-F', 'raw', image(target)]);
  }
  const overlay = await libvirt.createDomain(definition('overlay', image), ['paused']);
  const images = async (): Promise<number[]> =>
    readDomainXml(await overlay.getXml()).disks.map((disk) => disk.backingChain.length);
  assert.deepEqual(await images(), [1, 1]);
  await overlay.disk('vda').pull();
  const pulled = await event((e) => e.kind === 'block-job');
  assert(pulled.kind === 'block-job');
  assert.deepEqual([pulled.job, pulled.status, pulled.target], ['pull', 'completed', 'vda']);
  assert.equal(await overlay.disk('vda').getJob(), undefined);
  await overlay.disk('vdb').commit(['active']);
  const ready = await event((e) => e.kind === 'block-job');
  assert(ready.kind === 'block-job');
  assert.deepEqual([ready.job, ready.status, ready.target], ['active-commit', 'ready', 'vdb']);
  assert.equal((await overlay.disk('vdb').getJob())?.kind, 'active-commit');
  await overlay.disk('vdb').abortJob(['pivot']);
  assert.deepEqual(await images(), [0, 0]);
  await overlay.disk('vda').resize(16 * 2 ** 20);
  assert.equal((await overlay.disk('vda').getSizes()).capacityBytes, 16 * 2 ** 20);
  await overlay.destroy();
  await event((e) => e.kind === 'lifecycle' && e.change === 'stopped' && e.domain.name === 'overlay');
});

test('a reset is an event and leaves the domain running', async () => {
  await domain.reset();
  await event((e) => e.kind === 'reboot');
  assert.equal((await domain.getState()).state, 'running');
});

test('a killed daemon ends calls and events as unreachable, and the guest is found again', async () => {
  await daemon.killDaemon();
  await assert.rejects(domain.getState(), (error) => hasCode(error, 'unreachable'));
  await assert.rejects(
    event(() => false),
    (error) => hasCode(error, 'unreachable'),
  );
  assert.equal((await libvirt.ended).code, 'unreachable');
  await daemon.start();
  await connect();
  domain = await libvirt.lookupDomainByName('echo');
  // This waits until the daemon has found its way back to QEMU, whose death before that would be no event.
  assert.match(await domain.monitorCommand('{"execute":"query-status"}'), /"running"/);
  assert.deepEqual(
    (await domain.checkpoints.list()).map((checkpoint) => checkpoint.name),
    ['point-2'],
  );
});

test('a killed QEMU is a crash, and its checkpoint is reported as inconsistent', async () => {
  await daemon.killQemu('echo');
  const stopped = await event(change('stopped'));
  assert(stopped.kind === 'lifecycle' && ['crashed', 'failed'].includes(stopped.reason));
  domain = await domain.start();
  await assert.rejects(begin('point-3', 'point-2'), failsWith(LibvirtCode.checkpointInconsistent));
  await (await domain.checkpoints.lookup('point-2')).delete(['metadataOnly']);
  await begin('point-3');
  await domain.backup.end();
});

test('a domain with checkpoints is undefined only together with their records', async () => {
  await domain.destroy(['graceful']);
  await assert.rejects(domain.undefine(['nvram']), failsWith(LibvirtCode.operationInvalid));
  await domain.undefine(['nvram', 'checkpointsMetadata']);
  await event(change('undefined'));
  await assert.rejects(libvirt.lookupDomainByUuid(domain.uuid), failsWith(LibvirtCode.noDomain));
});

test('a network starts in the private namespace and goes', async () => {
  const network = await libvirt.defineNetwork(
    '<network><name>isolated</name><bridge name="virbr77"/></network>',
  );
  await network.start();
  assert.equal(await network.isActive(), true);
  assert.match(await daemon.run('ip', ['link', 'show', 'virbr77']), /virbr77/);
  await network.destroy();
  await network.undefine();
  assert.deepEqual(await libvirt.listNetworks(), []);
});
