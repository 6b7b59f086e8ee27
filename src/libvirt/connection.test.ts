/** One connection against a daemon in memory: order, limits, time, and every way in which it ends. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Failure, hasCode } from '#/lib/failure.ts';
import type { CallOptions, RpcCall } from './connection.ts';
import { hasLibvirtCode, LibvirtCode } from './errors.ts';
import { FakeDaemon, fromHex, ManualClock } from './fake-daemon.ts';
import { CALLS_IN_FLIGHT_MAX, CALLS_QUEUED_MAX, STREAM_BUFFER_BYTES_MAX } from './limits.ts';
import { encodePacket, PacketStatus, PacketType } from './packet.ts';
import type { Packet } from './packet.ts';
import { KEEPALIVE_PROGRAM, REMOTE_PROGRAM } from './procedures.ts';

const NO_DOMAIN = fromHex(`0000002a 0000000c 00000001 00000004 676f6e65 00000002 00000000
  00000000 00000000 00000000 ffffffff ffffffff 00000000`);

const EMPTY = new Uint8Array(0);
const PING: Packet = {
  program: KEEPALIVE_PROGRAM,
  version: 1,
  procedure: 1,
  type: PacketType.message,
  serial: 0,
  status: PacketStatus.ok,
  payload: EMPTY,
};

function world(): {
  daemon: FakeDaemon;
  clock: ManualClock;
  ask: (options?: CallOptions) => Promise<Uint8Array>;
} {
  const clock = new ManualClock();
  const daemon = new FakeDaemon({ clock, callTimeoutMs: 1000, keepalive: { intervalMs: 5000, count: 2 } });
  return { daemon, clock, ask: (options) => daemon.connection.call(CALL, options) };
}

const CALL: RpcCall = { what: 'read something', program: REMOTE_PROGRAM, procedure: 59, args: EMPTY };

/** Lets everything run that can run without time or input. */
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

const failsWith = (code: string) => (error: unknown) => error instanceof Failure && error.code === code;

test('replies find their calls in any order', async () => {
  const { daemon, ask } = world();
  const [first, second] = [ask(), ask()];
  const calls = [await daemon.packet(0), await daemon.packet(1)] as const;
  daemon.reply(calls[1], Uint8Array.of(2, 0, 0, 0));
  daemon.reply(calls[0], Uint8Array.of(1, 0, 0, 0));
  assert.deepEqual([(await first)[0], (await second)[0]], [1, 2]);
});

test('no more calls are on the way than the daemon reads, and the others follow in order', async () => {
  const { daemon, ask } = world();
  const all = Array.from({ length: CALLS_IN_FLIGHT_MAX + 2 }, () => ask());
  await settled();
  assert.equal(daemon.received.length, CALLS_IN_FLIGHT_MAX);
  for (let i = 0; i < all.length; i++) daemon.reply(await daemon.packet(i), EMPTY);
  await Promise.all(all);
});

test('a call beyond the queue is refused', async () => {
  const { daemon, ask } = world();
  const all = Array.from({ length: CALLS_IN_FLIGHT_MAX + CALLS_QUEUED_MAX }, () => ask());
  const outcomes = Promise.allSettled(all);
  await assert.rejects(ask(), failsWith('limit_exceeded'));
  daemon.connection.close();
  assert(
    (await outcomes).every(
      (outcome) => outcome.status === 'rejected' && hasCode(outcome.reason, 'cancelled'),
    ),
  );
});

test("the daemon's error carries its code, domain and text", async () => {
  const { daemon, ask } = world();
  const call = ask();
  daemon.reply(await daemon.packet(0), NO_DOMAIN, { status: PacketStatus.error });
  await assert.rejects(call, (error) => {
    assert(failsWith('libvirt_error')(error) && hasLibvirtCode(error, LibvirtCode.noDomain));
    assert(!hasLibvirtCode(error, LibvirtCode.noNetwork));
    assert.match((error as Failure).message, /^read something: gone/);
    return true;
  });
});

test('a call without an answer times out, and its late answer is for nobody', async () => {
  const { daemon, clock, ask } = world();
  const call = ask();
  const packet = await daemon.packet(0);
  const timedOut = assert.rejects(call, failsWith('timeout'));
  await clock.advance(999);
  await clock.advance(1);
  await timedOut;
  daemon.reply(packet, EMPTY);
  const next = ask();
  daemon.reply(await daemon.packet(1), Uint8Array.of(7, 7, 7, 7));
  assert.equal((await next)[0], 7);
});

test('a cancelled call keeps its place on the way until the daemon answers', async () => {
  const { daemon, ask } = world();
  const abort = new AbortController();
  const calls = Array.from({ length: CALLS_IN_FLIGHT_MAX }, () => ask({ signal: abort.signal }));
  const waiting = ask();
  const outcomes = Promise.allSettled(calls);
  await settled();
  abort.abort(new Error('enough'));
  assert((await outcomes).every((o) => o.status === 'rejected' && hasCode(o.reason, 'cancelled')));
  await settled();
  assert.equal(daemon.received.length, CALLS_IN_FLIGHT_MAX);
  daemon.reply(await daemon.packet(0), EMPTY);
  daemon.reply(await daemon.packet(CALLS_IN_FLIGHT_MAX), EMPTY);
  await waiting;
});

test('a call that is cancelled while it waits is never sent', async () => {
  const { daemon, ask } = world();
  const abort = new AbortController();
  const calls = Array.from({ length: CALLS_IN_FLIGHT_MAX }, () => ask());
  const waiting = assert.rejects(ask({ signal: abort.signal }), failsWith('cancelled'));
  abort.abort();
  await waiting;
  for (let i = 0; i < CALLS_IN_FLIGHT_MAX; i++) daemon.reply(await daemon.packet(i), EMPTY);
  await Promise.all(calls);
  await settled();
  assert.equal(daemon.received.length, CALLS_IN_FLIGHT_MAX);
  await assert.rejects(ask({ signal: abort.signal }), failsWith('cancelled'));
});

test('a ping is answered with a pong', async () => {
  const { daemon } = world();
  daemon.send(encodePacket(PING));
  assert.deepEqual(await daemon.packet(0), { ...PING, procedure: 2, payload: Buffer.alloc(0).subarray() });
});

test('a silent daemon is asked for a sign of life, and is unreachable after it gave none', async () => {
  const { daemon, clock, ask } = world();
  const call = assert.rejects(ask({ timeoutMs: 1e9 }), failsWith('unreachable'));
  await daemon.packet(0);
  await clock.advance(5000);
  assert.equal((await daemon.packet(1)).program, KEEPALIVE_PROGRAM);
  daemon.send(encodePacket({ ...PING, procedure: 2 }));
  await settled();
  for (let i = 0; i < 4; i++) await clock.advance(5000);
  await call;
  assert.equal((await daemon.connection.ended).code, 'unreachable');
  assert.equal(daemon.received.filter((packet) => packet.program === KEEPALIVE_PROGRAM).length, 3);
});

const STRANGE: readonly [name: string, change: Partial<Packet>][] = [
  ['a reply to a call that was not made', { serial: 77 }],
  ['a reply of another procedure', { procedure: 60 }],
  ['a reply of another program', { program: 1 }],
  ['a reply of another version', { version: 2 }],
  ['a reply that is to be continued', { status: PacketStatus.continue }],
  ['a call from the daemon', { type: PacketType.call }],
  ['a piece of a stream that is not open', { type: PacketType.stream }],
  ['an event that is an error', { type: PacketType.message, status: PacketStatus.error }],
  ['a keepalive packet that is neither ping nor pong', { ...PING, procedure: 3 }],
];

for (const [name, change] of STRANGE) {
  test(`${name} ends the connection as corrupt`, async () => {
    const { daemon, ask } = world();
    const call = assert.rejects(ask(), failsWith('protocol_corrupt'));
    daemon.reply(await daemon.packet(0), EMPTY, change);
    await call;
    await assert.rejects(ask(), failsWith('protocol_corrupt'));
  });
}

test('a daemon that hangs up ends every call as unreachable', async () => {
  const { daemon, ask } = world();
  const outcomes = Promise.allSettled(Array.from({ length: 10 }, () => ask()));
  daemon.hangUp();
  assert((await outcomes).every((o) => o.status === 'rejected' && hasCode(o.reason, 'unreachable')));
});

const openStream = async (daemon: FakeDaemon, options?: CallOptions) => {
  const opening = daemon.connection.callWithStream({ ...CALL, procedure: 211 }, options);
  const call = await daemon.packet(0);
  daemon.reply(call, EMPTY);
  return { call, stream: (await opening).stream };
};

test('a stream is read to its end and the end is confirmed', async () => {
  const { daemon } = world();
  const { call, stream } = await openStream(daemon);
  daemon.stream(call, Uint8Array.of(1, 2, 3));
  daemon.stream(call, Uint8Array.of(4));
  daemon.stream(call, EMPTY);
  assert.deepEqual([...(await stream.readAll(4))], [1, 2, 3, 4]);
  const finish = await daemon.packet(1);
  assert.deepEqual(
    [finish.type, finish.status, finish.serial],
    [PacketType.stream, PacketStatus.ok, call.serial],
  );
  daemon.stream(call, EMPTY, { status: PacketStatus.ok });
});

test('a stream that is longer than allowed is given up and aborted', async () => {
  const { daemon } = world();
  const { call, stream } = await openStream(daemon);
  const reading = assert.rejects(stream.readAll(3), failsWith('limit_exceeded'));
  daemon.stream(call, Uint8Array.of(1, 2, 3, 4));
  await reading;
  assert.equal((await daemon.packet(1)).status, PacketStatus.error);
});

test('a reader that is too slow loses its stream and nothing else', async () => {
  const { daemon, ask } = world();
  const { call, stream } = await openStream(daemon);
  const piece = new Uint8Array(1_048_576);
  for (let bytes = 0; bytes <= STREAM_BUFFER_BYTES_MAX; bytes += piece.length) daemon.stream(call, piece);
  assert.equal((await daemon.packet(1)).status, PacketStatus.error);
  await assert.rejects(stream.readAll(1e9), failsWith('limit_exceeded'));
  const next = ask();
  daemon.reply(await daemon.packet(2), EMPTY);
  await next;
});

test('data of a stream that comes before the reply is not lost', async () => {
  const { daemon } = world();
  const opening = daemon.connection.callWithStream(CALL);
  const call = await daemon.packet(0);
  daemon.stream(call, Uint8Array.of(1));
  daemon.stream(call, EMPTY);
  daemon.reply(call, EMPTY);
  assert.deepEqual([...(await (await opening).stream.readAll(1))], [1]);
});

test('a call that fails opens no stream', async () => {
  const { daemon } = world();
  const opening = assert.rejects(daemon.connection.callWithStream(CALL), failsWith('libvirt_error'));
  const call = await daemon.packet(0);
  daemon.reply(call, NO_DOMAIN, { status: PacketStatus.error });
  await opening;
  daemon.stream(call, Uint8Array.of(1));
  assert.equal((await daemon.connection.ended).code, 'protocol_corrupt');
});

test("a stream ends with the daemon's error", async () => {
  const { daemon } = world();
  const { call, stream } = await openStream(daemon);
  const reading = assert.rejects(stream.readAll(10), failsWith('libvirt_error'));
  daemon.stream(call, NO_DOMAIN, { status: PacketStatus.error });
  await reading;
});

test('a stream is written in pieces and given up by its owner', async () => {
  const { daemon } = world();
  const { stream } = await openStream(daemon);
  await stream.write(new Uint8Array(300_000));
  const sent = [await daemon.packet(1), await daemon.packet(2)];
  assert.deepEqual(
    sent.map((packet) => [packet.status, packet.payload.length]),
    [
      [PacketStatus.continue, 262_120],
      [PacketStatus.continue, 37_880],
    ],
  );
  await stream[Symbol.asyncDispose]();
  assert.equal((await daemon.packet(3)).status, PacketStatus.error);
  await assert.rejects(stream.write(Uint8Array.of(1)), failsWith('usage_invalid'));
});

test('the stream of a call that was given up is aborted', async () => {
  const { daemon, clock } = world();
  const opening = assert.rejects(daemon.connection.callWithStream(CALL), failsWith('timeout'));
  const call = await daemon.packet(0);
  await clock.advance(1000);
  await opening;
  daemon.reply(call, EMPTY);
  assert.equal((await daemon.packet(1)).status, PacketStatus.error);
});

test("a stream that is cancelled ends at once, and what still comes for it is nobody else's", async () => {
  const { daemon, ask } = world();
  const { call, stream } = await openStream(daemon);
  const reading = assert.rejects(stream.readAll(10), failsWith('cancelled'));
  stream.cancel(new Failure('cancelled', 'enough'));
  await reading;
  assert.equal((await daemon.packet(1)).status, PacketStatus.error);
  daemon.stream(call, Uint8Array.of(1));
  daemon.stream(call, EMPTY, { status: PacketStatus.ok });
  const next = ask();
  daemon.reply(await daemon.packet(2), EMPTY);
  await next;
});

test('a lost connection ends a stream as unreachable', async () => {
  const { daemon } = world();
  const { stream } = await openStream(daemon);
  daemon.hangUp();
  await assert.rejects(stream.readAll(10), failsWith('unreachable'));
});
