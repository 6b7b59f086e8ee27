/** Subscriptions against a daemon in memory: order, early events, overflow, and the end of the connection. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hasCode } from '#/lib/failure.ts';
import { FakeDaemon, fromHex, ManualClock } from './fake-daemon.ts';
import { PacketType } from './packet.ts';
import type { Packet } from './packet.ts';
import { Procedure } from './procedures.ts';
import { Remote } from './remote.ts';
import { Subscription } from './subscription.ts';
import type { SubscribeOptions } from './subscription.ts';
import { XdrWriter } from './xdr.ts';

const DOMAIN = '00000004 74657374 6695eb01f6a4830479aa97f2502e193f 00000001';

/** A lifecycle event: 2 is started, 4 is resumed, 5 is stopped. */
function sendLifecycle(daemon: FakeDaemon, call: Packet, callback: number, change: number): void {
  const payload = fromHex(`0000000${callback} ${DOMAIN} 0000000${change} 00000000`);
  daemon.reply(call, payload, { type: PacketType.message, procedure: Procedure.eventLifecycle, serial: 1 });
}

async function subscribed(options: SubscribeOptions = {}): Promise<{
  daemon: FakeDaemon;
  call: Packet;
  subscription: Subscription;
}> {
  const daemon = new FakeDaemon({ clock: new ManualClock() });
  const opening = Subscription.open(new Remote(daemon.connection), ['lifecycle'], options);
  const call = await daemon.packet(0);
  daemon.reply(call, new XdrWriter().int(3).bytes());
  return { daemon, call, subscription: await opening };
}

async function take(subscription: Subscription, count: number): Promise<string[]> {
  const iterator = subscription[Symbol.asyncIterator]();
  const seen: string[] = [];
  while (seen.length < count) {
    const { value } = await iterator.next();
    seen.push(value?.kind === 'lifecycle' ? value.change : 'none');
  }
  return seen;
}

test('events come in order and only for their own callback', async () => {
  const { daemon, call, subscription } = await subscribed();
  sendLifecycle(daemon, call, 3, 2);
  sendLifecycle(daemon, call, 4, 4);
  sendLifecycle(daemon, call, 3, 5);
  assert.deepEqual(await take(subscription, 2), ['started', 'stopped']);
});

test("an event that comes before its callback's number is known is not lost", async () => {
  const daemon = new FakeDaemon({ clock: new ManualClock() });
  const opening = Subscription.open(new Remote(daemon.connection), ['lifecycle']);
  const call = await daemon.packet(0);
  sendLifecycle(daemon, call, 3, 2);
  sendLifecycle(daemon, call, 9, 4);
  daemon.reply(call, new XdrWriter().int(3).bytes());
  const subscription = await opening;
  sendLifecycle(daemon, call, 3, 5);
  assert.deepEqual(await take(subscription, 2), ['started', 'stopped']);
});

test('a slow consumer gets what was kept and then a named error', async () => {
  const { daemon, call, subscription } = await subscribed({ queuedMax: 2 });
  for (const change of [2, 4, 5, 2]) sendLifecycle(daemon, call, 3, change);
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(await take(subscription, 2), ['started', 'resumed']);
  await assert.rejects(take(subscription, 1), (error) => hasCode(error, 'limit_exceeded'));
});

test('a lost connection ends the subscription as unreachable after the events that came', async () => {
  const { daemon, call, subscription } = await subscribed();
  sendLifecycle(daemon, call, 3, 2);
  daemon.hangUp();
  assert.deepEqual(await take(subscription, 1), ['started']);
  await assert.rejects(take(subscription, 1), (error) => hasCode(error, 'unreachable'));
});

test('a connection that is closed on purpose ends the subscription without an error', async () => {
  const { daemon, subscription } = await subscribed();
  daemon.connection.close();
  assert.deepEqual(await subscription[Symbol.asyncIterator]().next(), { done: true, value: undefined });
});

test('leaving the loop tells the daemon', async () => {
  const { daemon, call, subscription } = await subscribed();
  sendLifecycle(daemon, call, 3, 2);
  const leaving = (async () => {
    for await (const event of subscription) return event.kind;
    return undefined;
  })();
  const goodbye = await daemon.packet(1);
  assert.deepEqual([goodbye.procedure, [...goodbye.payload]], [Procedure.eventDeregister, [0, 0, 0, 3]]);
  daemon.reply(goodbye, new Uint8Array(0));
  assert.equal(await leaving, 'lifecycle');
});

test('an event that is corrupt ends the connection', async () => {
  const { daemon, call, subscription } = await subscribed();
  daemon.reply(call, fromHex('00000003 ffffffff'), {
    type: PacketType.message,
    procedure: Procedure.eventLifecycle,
  });
  await assert.rejects(take(subscription, 1), (error) => hasCode(error, 'protocol_corrupt'));
});
