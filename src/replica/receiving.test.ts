import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MemoryFileSystem } from '#/disk/memory-file-system.ts';
import { Failure, hasCode, type FailureCode } from '#/lib/failure.ts';
import { SeededRandom } from '#/lib/random.ts';
import { Medium } from '#sim/medium.ts';
import { CrashFileSystem, type Operation } from './crash-file-system-fixture.ts';
import type { Replica } from './replica.ts';
import { dataSegment, difference, fixedClock, IDENTITY, sha256, SourceModel } from './replica-fixture.ts';
import { createReplica, openReplica } from './stored-replica.ts';

const KIB = 1024;

function failsWith(code: FailureCode): (error: unknown) => boolean {
  return (error) => hasCode(error, code);
}

function newModel(): SourceModel {
  const model = new SourceModel(new SeededRandom(11));
  model.addDisk('vda', 1400 * KIB);
  model.addDisk('vdb', 200 * KIB);
  model.scribble(30);
  return model;
}

async function assertHead(replica: Replica, model: SourceModel): Promise<void> {
  await using view = await replica.openView(replica.head()!.sequence);
  assert.equal(await difference(view, model.disks), undefined);
}

test('a second writer, another sequence, another base, an old epoch and odd disks are refused by name', async () => {
  await using replica = await createReplica({ files: new MemoryFileSystem(), clock: fixedClock() }, IDENTITY);
  const model = newModel();
  model.epoch = 3;
  await model.send(replica);
  const intent = model.intent();
  const writer = await replica.begin(intent);
  await assert.rejects(replica.begin(intent), failsWith('replica_busy'));
  await writer.abort();
  const { base: _, ...withoutBase } = intent;
  const refused: [FailureCode, typeof intent][] = [
    ['conflict', { ...intent, sequence: 3 }],
    ['conflict', { ...intent, sequence: 1 }],
    ['conflict', { ...intent, base: { sequence: 1, stamp: '0'.repeat(32) } }],
    ['conflict', withoutBase],
    ['epoch_stale', { ...intent, epoch: 2 }],
    ['usage_invalid', { ...intent, disks: [] }],
    ['usage_invalid', { ...intent, disks: [{ key: 'vda', bytes: 1000 }] }],
    ['usage_invalid', { ...intent, disks: [...intent.disks, ...intent.disks] }],
    ['usage_invalid', { ...intent, stamp: '../../../../etc/passwd' }],
  ];
  for (const [code, each] of refused) await assert.rejects(replica.begin(each), failsWith(code), code);
  await replica.raiseEpoch(7);
  await assert.rejects(replica.begin({ ...intent, epoch: 6 }), failsWith('epoch_stale'));
  assert.equal(replica.epoch(), 7);
});

test('a root that differs from the source’s is a conflict, and nothing is offered', async () => {
  await using replica = await createReplica({ files: new MemoryFileSystem(), clock: fixedClock() }, IDENTITY);
  const model = newModel();
  for (let round = 0; round < 2; round++) {
    const before = replica.points().length;
    const writer = await replica.begin(model.intent());
    const segments = model.segments(model.base?.disks ?? new Map());
    for (const segment of segments.slice(1)) await writer.write(segment);
    await assert.rejects(writer.commit(model.request(segments.length - 1)), failsWith('conflict'));
    assert.equal(replica.points().length, before);
    const second = await replica.begin(model.intent());
    await assert.rejects(second.commit(model.request(1)), failsWith('conflict'));
    await model.send(replica);
    await assertHead(replica, model);
    model.scribble(9);
  }
});

test('a segment that is damaged or leaves its disk is refused, and the point goes on', async () => {
  await using replica = await createReplica({ files: new MemoryFileSystem(), clock: fixedClock() }, IDENTITY);
  const model = newModel();
  await model.send(replica);
  model.scribble(9);
  const intent = model.intent();
  const writer = await replica.begin(intent);
  const segments = model.segments(model.base!.disks);
  for (const segment of segments) {
    const damaged = segment.slice();
    damaged[damaged.length - 1]! ^= 1;
    await assert.rejects(writer.write(damaged), failsWith('protocol_corrupt'));
    await writer.write(segment);
  }
  await writer.commit(model.request(segments.length));
  await assertHead(replica, model);
});

test('a long segment goes into a first copy and into no delta', async () => {
  await using replica = await createReplica({ files: new MemoryFileSystem(), clock: fixedClock() }, IDENTITY);
  const random = new SeededRandom(5);
  const model = new SourceModel(random);
  model.addDisk('vda', 1024 * KIB);
  model.disks.get('vda')!.set(random.bytes(1024 * KIB));
  const long = dataSegment(0, [...Array(256).keys()], model.disks.get('vda')!);
  const intent = model.intent();
  const first = await replica.begin(intent);
  await first.write(long);
  await first.commit(model.request(1));
  model.acknowledged(intent);
  await assertHead(replica, model);
  const second = await replica.begin(model.intent());
  await assert.rejects(second.write(long), failsWith('protocol_corrupt'));
  await second.abort();
});

test('a cut transfer goes on after its last segment, in the same program and in the next one', async () => {
  const files = new MemoryFileSystem();
  const options = { files, clock: fixedClock(), limits: { deltaBlocksMax: 30 } };
  let replica = await createReplica(options, IDENTITY);
  const model = newModel();
  model.addDisk('vdd', 4096 * KIB);
  await model.send(replica);
  model.addDisk('vdc', 64 * KIB);
  model.scribble(120, 20);
  const intent = model.intent();
  const segments = model.segments(model.base!.disks);
  assert.ok(segments.length > 6);
  let writer = await replica.begin(intent);
  const cuts = [2, segments.length - 3, segments.length - 1];
  let sent = 0;
  for (const [index, cut] of cuts.entries()) {
    while (sent < cut) await writer.write(segments[sent++]!);
    await writer.suspend();
    if (index !== 1) {
      await replica[Symbol.asyncDispose]();
      replica = await openReplica(options);
    }
    const { partial } = await replica.state();
    assert.deepEqual(partial, { stamp: intent.stamp, segmentCount: cut });
    writer = await replica.begin(intent);
    assert.equal(writer.segmentCount, cut);
  }
  while (sent < segments.length) await writer.write(segments[sent++]!);
  await writer.commit(model.request(segments.length));
  await assertHead(replica, model);
  assert.deepEqual(await files.list('incoming'), []);
  assert.equal((await replica.state()).partial, undefined);
  await replica[Symbol.asyncDispose]();
});

test('another moment takes the place of what was left of a cut one', async () => {
  const files = new MemoryFileSystem();
  await using replica = await createReplica({ files, clock: fixedClock() }, IDENTITY);
  const model = newModel();
  await model.send(replica);
  model.scribble(10);
  const writer = await replica.begin(model.intent());
  await writer.write(model.segments(model.base!.disks)[0]!);
  await writer.suspend();
  assert.equal((await files.list('incoming')).length, 1);
  await model.send(replica);
  await assertHead(replica, model);
  assert.deepEqual(await files.list('incoming'), []);
});

test('a full disk refuses the point, keeps the others, and takes the next try when there is room', async () => {
  const medium = new Medium();
  const files = new CrashFileSystem(medium);
  await using replica = await createReplica(
    { files, clock: fixedClock(), limits: { reserveBytes: 4096 } },
    IDENTITY,
  );
  const model = newModel();
  await model.send(replica);
  model.scribble(5);
  await model.send(replica);
  const good = model.disks.get('vda')!.slice();
  model.scribble(80, 12);
  medium.capacityBytes = medium.usedBytes() + 12 * KIB;
  await assert.rejects(model.send(replica), failsWith('storage_full'));
  assert.equal(replica.head()?.sequence, 2);
  await using view = await replica.openView(2);
  const found = new Uint8Array(good.length);
  await view.disks[0]!.read(0, found);
  assert.ok(Buffer.compare(found, good) === 0);
  medium.capacityBytes = medium.usedBytes();
  await assert.rejects(replica.begin(model.intent()), failsWith('storage_full'));
  medium.capacityBytes = 2 ** 40;
  await model.send(replica).catch(async () => model.send(replica));
  await assertHead(replica, model);
});

test('an operation that fails anywhere loses nothing that was acknowledged, and a later try succeeds', async () => {
  for (let failing = 0; failing < 130; failing += 5) {
    let count = 0;
    let isArmed = false;
    const before = (operation: Operation, path: string): void => {
      if (!isArmed || count++ !== failing) return;
      throw new Failure('storage_io', `${operation} ${path} fails`);
    };
    const files = new CrashFileSystem(new Medium(), { before });
    await using replica = await createReplica({ files, clock: fixedClock() }, IDENTITY);
    const model = newModel();
    isArmed = true;
    for (let i = 0; i < 5; i++) {
      model.scribble(4);
      const disks = await resent(replica, model);
      assert.equal(replica.head()?.sequence, i + 1, `operation ${failing}`);
      await using view = await replica.openView(i + 1);
      assert.equal(await difference(view, disks), undefined, `operation ${failing}`);
    }
  }
});

/** Sends a point, again when a try fails; what is there after a failed first copy is compared with nothing. */
async function resent(replica: Replica, model: SourceModel): Promise<SourceModel['disks']> {
  for (let tries = 1; ; tries++) {
    let writer;
    const intent = model.intent();
    try {
      const segments = model.segments(model.base?.disks ?? new Map());
      await replica.state();
      writer = await replica.begin(intent);
      for (const segment of segments) await writer.write(segment);
      await writer.commit(model.request(segments.length));
      model.acknowledged(intent);
      return model.disks;
    } catch (error) {
      await writer?.suspend();
      if (replica.head()?.stamp === intent.stamp) {
        model.acknowledged(intent);
        return model.disks;
      }
      if (tries === 4) throw error;
    }
  }
}

test('an attachment is kept by its hash, asked for once, and leaves with the last point that names it', async () => {
  const files = new MemoryFileSystem();
  await using replica = await createReplica({ files, clock: fixedClock() }, IDENTITY);
  const model = newModel();
  const bytes = new TextEncoder().encode('<domain type="kvm"/>');
  const attachment = { kind: 'definition' as const, sha256: sha256(bytes), bytes: bytes.length };
  assert.deepEqual(await replica.missingAttachments([attachment]), [attachment.sha256]);
  await assert.rejects(
    replica.putAttachment(attachment.sha256, bytes.slice(1)),
    failsWith('protocol_corrupt'),
  );
  await assert.rejects(replica.attachment('../superblock'), failsWith('usage_invalid'));
  await assert.rejects(model.send(replica, [attachment]), failsWith('conflict'));
  await replica.putAttachment(attachment.sha256, bytes);
  assert.deepEqual(await replica.missingAttachments([attachment]), []);
  await model.send(replica, [attachment]);
  model.scribble(1);
  await model.send(replica);
  assert.deepEqual(await replica.attachment(attachment.sha256), bytes);
  while (await replica.compact({ keepAllMs: 0, tiers: [] }, fixedClock().now() + 1e9));
  assert.deepEqual(
    replica.points().map(({ sequence }) => sequence),
    [2],
  );
  await assert.rejects(replica.attachment(attachment.sha256), failsWith('not_found'));
});
