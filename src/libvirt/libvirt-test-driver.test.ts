/** The client against a real libvirtd whose driver only pretends: everything that needs no QEMU. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { hasCode } from '#/lib/failure.ts';
import { startPrivateLibvirtd } from '#test/private-libvirtd.ts';
import type { PrivateLibvirtd } from '#test/private-libvirtd.ts';
import { buildCheckpointXml, buildRedefinedCheckpointXml, readCheckpointXml } from './checkpoint-xml.ts';
import { readDomainXml } from './domain-xml.ts';
import { hasLibvirtCode, LibvirtCode } from './errors.ts';
import { Libvirt } from './libvirt.ts';

let daemon: PrivateLibvirtd;

before(async () => {
  daemon = await startPrivateLibvirtd();
});

after(async () => {
  await daemon?.[Symbol.asyncDispose]();
});

/** Every connection has a host of its own in this driver: a domain `test` and a network `default`, both running. */
const connect = (): Promise<Libvirt> =>
  Libvirt.connect({ socketPath: daemon.socketPath, uri: 'test:///default' });

const UUID = '6695eb01-f6a4-8304-79aa-97f2502e193f';
const failsWith = (code: number) => (error: unknown) => hasLibvirtCode(error, code);

test('the daemon tells what it is', async () => {
  await using libvirt = await connect();
  assert.equal(await libvirt.getType(), 'TEST');
  assert.match(await libvirt.getHostname(), /./);
  assert((await libvirt.getLibvirtVersion()).major >= 7);
  assert.deepEqual(await libvirt.getHypervisorVersion(), { major: 0, minor: 0, release: 2 });
  assert.match(await libvirt.getCapabilities(), /<capabilities>/);
  const node = await libvirt.getNode();
  assert.deepEqual([node.model, node.cpus, node.memoryBytes], ['i686', 16, 3 * 2 ** 30]);
  assert((await libvirt.getFreeMemoryBytes()) > 0);
});

test('a domain is listed and found by its UUID, its name and its id', async () => {
  await using libvirt = await connect();
  const found = [
    ...(await libvirt.listDomains()),
    ...(await libvirt.listDomains(['running', 'persistent'])),
    await libvirt.lookupDomainByUuid(UUID),
    await libvirt.lookupDomainByName('test'),
    await libvirt.lookupDomainById(1),
  ];
  assert.deepEqual(
    found.map((domain) => domain.ref),
    Array.from({ length: 5 }, () => ({ name: 'test', uuid: UUID, id: 1 })),
  );
  assert.deepEqual(await libvirt.listDomains(['shutoff']), []);
});

test('what is not there is reported with its code', async () => {
  await using libvirt = await connect();
  await assert.rejects(libvirt.lookupDomainByName('nobody'), failsWith(LibvirtCode.noDomain));
  await assert.rejects(libvirt.lookupNetworkByName('nothing'), failsWith(LibvirtCode.noNetwork));
  await assert.rejects(libvirt.defineDomain('<nonsense/>'), failsWith(LibvirtCode.xmlError));
  await assert.rejects(libvirt.lookupDomainByUuid('1-2'), (error) => hasCode(error, 'usage_invalid'));
  const domain = await libvirt.lookupDomainByName('test');
  await assert.rejects(domain.resume(), failsWith(LibvirtCode.internalError));
});

test('a domain lives through every state, and each change is an event', async () => {
  await using libvirt = await connect();
  await using events = await libvirt.subscribe(['lifecycle', 'reboot']);
  const xml = `<domain type="test"><name>made</name><memory>8192</memory><os><type>hvm</type></os></domain>`;
  const defined = await libvirt.defineDomain(xml);
  assert.deepEqual([defined.ref.id, await defined.isPersistent()], [-1, true]);
  assert.equal((await defined.getState()).state, 'shutoff');
  const domain = await defined.start();
  assert.deepEqual([(await domain.getState()).state, domain.ref.id > 0], ['running', true]);
  await domain.suspend();
  assert.deepEqual(await domain.getState(), {
    state: 'paused',
    reason: 'user',
    stateNumber: 3,
    reasonNumber: 1,
  });
  await domain.resume();
  await domain.destroy(['graceful']);
  assert.equal((await domain.getState()).state, 'shutoff');
  await domain.undefine(['managedSave']);
  const seen: string[] = [];
  for await (const event of events) {
    if (event.kind === 'lifecycle') seen.push(`${event.domain.name} ${event.change} ${event.reason}`);
    if (event.kind === 'lifecycle' && event.change === 'undefined') break;
  }
  assert.deepEqual(seen, [
    'made defined added',
    'made started booted',
    'made suspended paused',
    'made resumed unpaused',
    'made stopped destroyed',
    'made undefined removed',
  ]);
});

test('a transient domain is gone when it stops', async () => {
  await using libvirt = await connect();
  const xml = `<domain type="test"><name>brief</name><memory>8192</memory><os><type>hvm</type></os></domain>`;
  const domain = await libvirt.createDomain(xml);
  assert.equal(await domain.isPersistent(), false);
  await domain.destroy();
  await assert.rejects(domain.getState(), failsWith(LibvirtCode.noDomain));
});

test('the definition of a domain reads as what it is', async () => {
  await using libvirt = await connect();
  const domain = await libvirt.lookupDomainByUuid(UUID);
  const definition = readDomainXml(await domain.getXml(['inactive', 'secure']));
  assert.deepEqual([definition.name, definition.uuid, definition.virtType], ['test', UUID, 'test']);
  assert.deepEqual([definition.memoryBytes, definition.vcpus], [8 * 2 ** 30, 2]);
});

test('metadata of an application is kept, read and removed', async () => {
  await using libvirt = await connect();
  const domain = await libvirt.lookupDomainByName('test');
  const where = { uri: 'urn:example', key: 'ex' };
  await assert.rejects(domain.getMetadata(where.uri, ['config']), failsWith(LibvirtCode.noDomainMetadata));
  await domain.setMetadata(where, '<point epoch="3">&lt;</point>', ['live', 'config']);
  assert.match(await domain.getMetadata(where.uri, ['config']), /<point epoch="3">&lt;<\/point>/);
  await domain.setMetadata(where, undefined, ['live', 'config']);
  await assert.rejects(domain.getMetadata(where.uri, ['live']), failsWith(LibvirtCode.noDomainMetadata));
});

test('checkpoints are created, listed, followed to their parents and deleted', async () => {
  await using libvirt = await connect();
  const domain = await libvirt.lookupDomainByName('test');
  const disks = [{ target: 'vda' }];
  const { checkpoints } = domain;
  const xml = `<domain type="test"><name>test</name><uuid>${UUID}</uuid><memory>8192</memory><os><type>hvm</type></os>
    <devices><disk type="file" device="disk"><driver type="qcow2"/><source file="/a"/><target dev="vda"/></disk></devices></domain>`;
  await domain.destroy();
  await (await libvirt.defineDomain(xml)).start();
  const first = await checkpoints.create(buildCheckpointXml({ name: 'first', disks }));
  const second = await checkpoints.create(buildCheckpointXml({ name: 'second', disks }));
  assert.equal(await first.getParent(), undefined);
  assert.equal((await second.getParent())?.name, 'first');
  const names = async (list: Promise<{ name: string }[]>): Promise<string[]> =>
    (await list).map((c) => c.name);
  assert.deepEqual(await names(checkpoints.list(['topological'])), ['first', 'second']);
  assert.deepEqual(await names(checkpoints.list(['roots'])), ['first']);
  assert.deepEqual(await names(first.listChildren(['descendants'])), ['second']);
  const record = readCheckpointXml(await (await checkpoints.lookup('second')).getXml(['noDomain']));
  assert.deepEqual([record.name, record.parent], ['second', 'first']);
  await second.delete(['metadataOnly']);
  await assert.rejects(checkpoints.lookup('second'), failsWith(LibvirtCode.noCheckpoint));
  const again = { createdAtSeconds: record.createdAtSeconds, parent: 'first' };
  await checkpoints.create(buildRedefinedCheckpointXml({ name: 'second', disks }, again), ['redefine']);
  await first.delete(['children']);
  assert.deepEqual(await checkpoints.list(), []);
});

test('a picture of the screen comes as a stream', async () => {
  await using libvirt = await connect();
  const picture = await (await libvirt.lookupDomainByName('test')).screenshot();
  assert.equal(picture.mime, 'image/png');
  assert.deepEqual([...picture.bytes.subarray(0, 4)], [0x89, 0x50, 0x4e, 0x47]);
  assert(picture.bytes.length > 10_000);
});

test('statistics come for all domains or for those named', async () => {
  await using libvirt = await connect();
  const [record] = await libvirt.getStats(['state']);
  assert.equal(record?.parameters.get('state.state'), 1);
  assert.equal((await libvirt.getStats(['state'], await libvirt.listDomains())).length, 1);
});

test('networks are listed, found, defined, started and removed', async () => {
  await using libvirt = await connect();
  assert.deepEqual(
    (await libvirt.listNetworks(['active'])).map((network) => network.name),
    ['default'],
  );
  const xml = '<network><name>made</name><bridge name="virbr9"/></network>';
  const network = await libvirt.defineNetwork(xml);
  assert.equal(await network.isActive(), false);
  await network.start();
  assert.equal(await (await libvirt.lookupNetworkByUuid(network.uuid)).isActive(), true);
  assert.match(await network.getXml(), /<name>made<\/name>/);
  await network.setAutostart(true);
  await network.destroy();
  await network.undefine();
  await assert.rejects(network.getXml(), failsWith(LibvirtCode.noNetwork));
  const brief = await libvirt.createNetwork(xml);
  await brief.destroy();
  assert.equal((await libvirt.listNetworks()).length, 1);
});

test('hundreds of calls at once are all answered', async () => {
  await using libvirt = await connect();
  const domain = await libvirt.lookupDomainByName('test');
  const states = await Promise.all(Array.from({ length: 500 }, () => domain.getState()));
  assert(states.every((state) => state.state === 'running'));
});

test('a read-only connection may look and not touch', async () => {
  await using libvirt = await Libvirt.connect({
    socketPath: daemon.socketPath,
    uri: 'test:///default',
    readOnly: true,
  });
  const domain = await libvirt.lookupDomainByName('test');
  assert.equal((await domain.getState()).state, 'running');
  await assert.rejects(domain.suspend(), failsWith(LibvirtCode.operationDenied));
});

test('what cannot be reached or opened is told apart', async () => {
  await assert.rejects(Libvirt.connect({ socketPath: `${daemon.directory}/none` }), (error) =>
    hasCode(error, 'unreachable'),
  );
  const { socketPath } = daemon;
  await assert.rejects(Libvirt.connect({ socketPath, uri: 'nosuch:///driver' }), (error) =>
    hasCode(error, 'libvirt_error'),
  );
  await assert.rejects(Libvirt.connect({ socketPath, signal: AbortSignal.abort() }), (error) =>
    hasCode(error, 'cancelled'),
  );
});

test('after the end every call is refused', async () => {
  const libvirt = await connect();
  await libvirt[Symbol.asyncDispose]();
  await assert.rejects(libvirt.getHostname(), (error) => hasCode(error, 'cancelled'));
  assert.equal((await libvirt.ended).code, 'cancelled');
});
