import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DIGEST_KEY } from '#/disk/digest-fixture.ts';
import { hasCode } from '#/lib/failure.ts';
import { ManualClock } from '#/lib/manual-clock.ts';
import { openSession } from './client-session.ts';
import { memoryTransportPair } from './memory-transport.ts';
import type { Message } from './messages.ts';
import { RawEnd } from './raw-end-fixture.ts';
import { serveSession } from './server-session.ts';
import { AGENT, DISKS, MemoryHost, OPEN, ROOT, SERVER, STAMP } from './session-fixture.ts';
import { SessionRegistry } from './session-registry.ts';

const WINDOW = { segmentCount: 256, bytes: 16 * 1024 * 1024 };
const BEGIN = { sequence: 1, stamp: STAMP, momentMs: 5, disks: DISKS };
const OPENED: Message = {
  kind: 'opened',
  protocol: 1,
  disks: [{ ...DISKS[0]!, root: ROOT }],
  digestKey: DIGEST_KEY,
  window: WINDOW,
};
const SILENCE = { aliveEveryMs: 5_000, silenceMaxMs: 15_000 };

test('both ends of a half-open link give up in bounded time', async () => {
  const clock = new ManualClock();
  const pair = memoryTransportPair({ client: AGENT, server: SERVER });
  const server = new RawEnd(pair.server);
  const opening = openSession(pair.client, OPEN, { clock, silence: SILENCE });
  await server.say(OPENED);
  const session = await opening;
  const waiting = session.digests(0, 0, 0, 1);
  const gaveUp = assert.rejects(waiting, (error) => hasCode(error, 'timeout'));
  await pass(clock, 16_000);
  await gaveUp;

  const { client } = memoryServed(clock);
  await client.say({ kind: 'open', protocol: 1, ...OPEN });
  assert.equal((await client.hear())?.kind, 'opened');
  const heard: string[] = [];
  const listening = (async () => {
    for (let message = await client.hear(); message !== undefined; message = await client.hear()) {
      heard.push(message.kind === 'failure' ? message.code : message.kind);
    }
  })();
  await pass(clock, 20_000);
  await listening.catch(() => {});
  assert.deepEqual(heard, ['alive', 'alive', 'timeout']);
});

test('a session over which nothing happens stays, because both ends say that they are alive', async () => {
  const clock = new ManualClock();
  const host = new MemoryHost();
  const pair = memoryTransportPair({ client: AGENT, server: SERVER });
  const served = serveSession(pair.server, host, { clock, silence: SILENCE });
  const session = await openSession(pair.client, OPEN, { clock, silence: SILENCE });
  await pass(clock, 600_000);
  assert.equal(session.ended.aborted, false);
  assert.equal(await session.begin(BEGIN), 0);
  await session[Symbol.asyncDispose]();
  assert.equal((await served).failure, undefined);
});

test('a client that connects and says nothing, or dribbles, is let go', async () => {
  const clock = new ManualClock();
  const { served, transport } = memoryServed(clock);
  const bytes = new Uint8Array(28);
  bytes.set([0x41, 0x50, 0x46, 0x31]);
  let isOver = false;
  void served.then(() => (isOver = true));
  for (let second = 0; second < 30 && !isOver; second++) {
    if (second < 27) await transport.send([bytes.subarray(second, second + 1)]).catch(() => {});
    await pass(clock, 1_000);
  }
  assert.equal((await served).failure?.code, 'timeout');
});

test('a newer session of the same agent waits for the older one to let go; another agent is refused', async () => {
  const clock = new ManualClock();
  const registry = new SessionRegistry(clock);
  const ended: string[] = [];
  const first = await registry.claim('r', AGENT, (why) => ended.push(why.code));
  await assert.rejects(
    registry.claim('r', { ...AGENT, id: 'agent-2' }, () => {}),
    (error) => hasCode(error, 'replica_busy'),
  );
  const second = registry.claim('r', AGENT, () => ended.push('second'));
  const third = registry.claim('r', AGENT, () => ended.push('third'));
  assert.deepEqual(ended, ['replica_busy', 'second']);
  const order: string[] = [];
  void second.then(() => order.push('second'));
  void third.then(() => order.push('third'));
  await turns(5);
  assert.deepEqual(order, []);
  void first[Symbol.asyncDispose]();
  await (await second)[Symbol.asyncDispose]();
  await (await third)[Symbol.asyncDispose]();
  assert.deepEqual(order, ['second', 'third']);
  assert.equal(registry.count, 0);

  const stuck = await registry.claim('r', AGENT, () => {});
  const late = assert.rejects(
    registry.claim('r', AGENT, () => {}),
    (error) => hasCode(error, 'replica_busy'),
  );
  await pass(clock, 11_000);
  await late;
  await stuck[Symbol.asyncDispose]();
  await turns(2);
  assert.equal(registry.count, 0);
});

function memoryServed(clock: ManualClock) {
  const pair = memoryTransportPair({ client: AGENT, server: SERVER });
  const served = serveSession(pair.server, new MemoryHost(), { clock, silence: SILENCE });
  return { served, client: new RawEnd(pair.client), transport: pair.client };
}

/** Lets time pass in steps, and everything that is due happen in between. */
async function pass(clock: ManualClock, ms: number): Promise<void> {
  for (let at = 0; at < ms; at += 500) {
    clock.advance(500);
    await turns(3);
  }
}

async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve));
}
