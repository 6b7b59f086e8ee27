import assert from 'node:assert/strict';
import { hash } from 'node:crypto';
import { test } from 'node:test';
import { Failure, hasCode } from '#/lib/failure.ts';
import type { ReplicaSession } from '#/replication/link.ts';
import { dataSegment, DISKS, joined, MemoryHost, OPEN, ROOT, STAMP } from './session-fixture.ts';
import { SEGMENT_BYTES_MAX } from './segment.ts';

const BEGIN = { sequence: 1, stamp: STAMP, momentMs: 5, disks: DISKS };
const COMMIT = { stamp: STAMP, roots: [ROOT], attachments: [], consistency: 'crash' as const };
const WINDOW = { segmentCount: 4, bytes: 2 * SEGMENT_BYTES_MAX };

test('a point travels: opened, begun, segments, attachments, acknowledged', async () => {
  const host = new MemoryHost();
  const ends = joined(host);
  await using session: ReplicaSession = await ends.open();
  assert.equal(session.opened.head, undefined);
  assert.deepEqual(session.opened.disks, [{ ...DISKS[0], root: ROOT }]);
  assert.equal(await session.begin(BEGIN), 0);
  const segments = [0, 1, 2].map((first) => dataSegment(first, 3));
  for (const [index, segment] of segments.entries()) await session.segment(index, segment);

  const bytes = new Uint8Array(600_000).map((_, i) => i % 253);
  const definition = { kind: 'definition' as const, sha256: hash('sha256', bytes), bytes: bytes.length };
  assert.deepEqual(await session.offerAttachments([definition]), [definition.sha256]);
  await session.attachment(definition.sha256, bytes);
  assert.deepEqual(host.replica.kept.get(definition.sha256), bytes);
  assert.deepEqual(await session.offerAttachments([definition]), []);

  const commit = { ...COMMIT, segmentCount: 3, attachments: [definition] };
  assert.deepEqual(await session.commit(commit), { sequence: 1, stamp: STAMP });
  assert.equal(host.replica.committed.length, 1);
  assert.deepEqual(
    host.replica.committed[0]!.segments.map((segment) => Buffer.from(segment).toString('hex')),
    segments.map((segment) => Buffer.from(segment).toString('hex')),
  );
  assert(session.wireBytes() > 600_000);
  await session[Symbol.asyncDispose]();
  const end = await ends.served;
  assert.equal(end.failure, undefined);
  assert.equal(end.wireBytes, session.wireBytes());
  assert.deepEqual([host.lent, host.returned], [1, 1]);
});

test('a session carries one point after another, and can give one up', async () => {
  const host = new MemoryHost();
  const ends = joined(host);
  await using session = await ends.open();
  for (let sequence = 1; sequence <= 3; sequence++) {
    const stamp = String(sequence).padStart(32, '0');
    assert.equal(await session.begin({ ...BEGIN, sequence, stamp }), 0);
    await session.segment(0, dataSegment(sequence));
    if (sequence === 2) await session.abort(stamp);
    else await session.commit({ ...COMMIT, stamp, segmentCount: 1 });
  }
  assert.deepEqual(
    host.replica.committed.map(({ ref }) => ref.sequence),
    [1, 3],
  );
  assert(host.replica.calls.includes('abort'));
});

test('digests are asked for in bounded pieces', async () => {
  const host = new MemoryHost();
  const ends = joined(host);
  await using session = await ends.open();
  const blocks = DISKS[0]!.bytes / 4096;
  const digests = await session.digests(0, 0, 0, blocks);
  assert.equal(digests.length, blocks * 16);
  assert.equal(digests[16 * 256], 256 % 256);
  assert.deepEqual(host.replica.calls, [`digests 0 0 0 ${blocks}`]);
  await assert.rejects(session.digests(0, 0, 1, blocks), (error) => hasCode(error, 'usage_invalid'));
});

test('a cut transfer resumes after the segments that arrived', async () => {
  const host = new MemoryHost();
  const first = joined(host, { server: { window: WINDOW } });
  const session = await first.open();
  await session.begin(BEGIN);
  for (let index = 0; index < 10; index++) await session.segment(index, dataSegment(index));
  first.client.cut();
  const end = await first.served;
  assert.equal(end.failure?.code, 'unreachable');
  assert.deepEqual([host.replica.calls.at(-1), host.returned], ['suspend', 1]);
  await assert.rejects(session.segment(10, dataSegment(10)), (error) => hasCode(error, 'unreachable'));

  const second = joined(host);
  await using resumed = await second.open();
  const { partial } = resumed.opened;
  assert(partial !== undefined && partial.segmentCount >= 6, `${partial?.segmentCount} segments`);
  assert.equal(await resumed.begin(BEGIN), partial.segmentCount);
  for (let index = partial.segmentCount; index < 12; index++)
    await resumed.segment(index, dataSegment(index));
  await resumed.commit({ ...COMMIT, segmentCount: 12 });
  assert.equal(host.replica.committed[0]!.segments.length, 12);
});

test('a sender without credit waits until the receiver has drained its queue', async () => {
  const host = new MemoryHost();
  const gate = Promise.withResolvers<void>();
  host.replica.gate = gate.promise;
  const ends = joined(host, { server: { window: WINDOW } });
  await using session = await ends.open();
  await session.begin(BEGIN);
  for (let index = 0; index < WINDOW.segmentCount; index++) await session.segment(index, dataSegment(index));
  let isSent = false;
  const blocked = session.segment(4, dataSegment(4)).then(() => (isSent = true));
  await turns(50);
  assert.equal(isSent, false);
  gate.resolve();
  await blocked;
  await session.commit({ ...COMMIT, segmentCount: 5 });
});

test('waiting for credit can be given up, and the session goes on', async () => {
  const host = new MemoryHost();
  const gate = Promise.withResolvers<void>();
  host.replica.gate = gate.promise;
  const ends = joined(host, { server: { window: WINDOW } });
  await using session = await ends.open();
  await session.begin(BEGIN);
  for (let index = 0; index < WINDOW.segmentCount; index++) await session.segment(index, dataSegment(index));
  const giveUp = new AbortController();
  const blocked = session.segment(4, dataSegment(4), giveUp.signal);
  giveUp.abort(new Failure('cancelled', 'the test gives up'));
  await assert.rejects(blocked, (error) => hasCode(error, 'cancelled'));
  gate.resolve();
  await session.segment(4, dataSegment(4));
  await session.commit({ ...COMMIT, segmentCount: 5 });
});

test("the server's refusal reaches the client with its code and hint", async () => {
  const host = new MemoryHost();
  host.refusal = new Failure('replica_busy', 'open replica', { hint: 'Wait.', cause: new Error('why') });
  const ends = joined(host);
  await assert.rejects(ends.open(), (error) => {
    assert(error instanceof Failure);
    assert.deepEqual([error.code, error.message, error.hint], ['replica_busy', 'open replica: why', 'Wait.']);
    return true;
  });
  assert.equal((await ends.served).failure?.code, 'replica_busy');
});

test('an older epoch is refused, and the replica given back', async () => {
  const host = new MemoryHost();
  host.replica.highestEpoch = 3;
  const ends = joined(host);
  await assert.rejects(ends.open({ ...OPEN, epoch: 2 }), (error) => hasCode(error, 'epoch_stale'));
  await ends.served;
  assert.deepEqual([host.lent, host.returned], [1, 1]);
});

test('a full disk in the middle of a point ends the session for both ends', async () => {
  const host = new MemoryHost();
  host.replica.failure = new Failure('storage_full', 'write segment');
  const ends = joined(host, { server: { window: WINDOW } });
  await using session = await ends.open();
  await session.begin(BEGIN);
  const sendMany = async (): Promise<void> => {
    for (let index = 0; index < 100; index++) await session.segment(index, dataSegment(index));
  };
  await assert.rejects(sendMany(), (error) => hasCode(error, 'storage_full'));
  assert.equal((await ends.served).failure?.code, 'storage_full');
  assert.deepEqual([host.replica.calls.at(-1), host.returned], ['suspend', 1]);
});

test('the host ends a session, and the client learns why', async () => {
  const host = new MemoryHost();
  const ends = joined(host);
  await using session = await ends.open();
  host.endSession!(new Failure('replica_busy', 'a newer session took over'));
  await ends.served;
  await assert.rejects(session.begin(BEGIN), (error) => hasCode(error, 'replica_busy'));
});

test('a session closed while a request waits rejects that request', async () => {
  const host = new MemoryHost();
  const gate = Promise.withResolvers<void>();
  host.replica.gate = gate.promise;
  const ends = joined(host);
  const session = await ends.open();
  await session.begin(BEGIN);
  await session.segment(0, dataSegment(0));
  const commit = session.commit({ ...COMMIT, segmentCount: 1 });
  await session[Symbol.asyncDispose]();
  await assert.rejects(commit, (error) => hasCode(error, 'cancelled'));
  gate.resolve();
  await ends.served;
  assert.equal(host.returned, 1);
});

test('a bug in the replica is not hidden as a failure of the session', async () => {
  const host = new MemoryHost();
  host.replica.digests = async () => {
    throw new TypeError('a bug');
  };
  const ends = joined(host);
  await using session = await ends.open();
  await assert.rejects(session.digests(0, 0, 0, 1), (error) => hasCode(error, 'tool_failed'));
  await assert.rejects(ends.served, /a bug/);
  assert.equal(host.returned, 1);
});

/** Lets everything that can run do so. */
async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve));
}
