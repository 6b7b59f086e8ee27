import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Failure, hasCode } from '#/lib/failure.ts';
import { ManualClock } from '#/lib/manual-clock.ts';
import { ClientConnection } from './client-connection.ts';
import { openOver } from './client-session.ts';
import { memoryTransportPair, type MemoryTransport } from './memory-transport.ts';
import { serveSession, type SessionEnd } from './server-session.ts';
import { AGENT, dataSegment, DISKS, MemoryHost, OPEN, ROOT, SERVER, STAMP } from './session-fixture.ts';
import { SessionPool } from './session-pool.ts';

const BEGIN = { sequence: 1, stamp: STAMP, momentMs: 5, disks: DISKS };
const COMMIT = {
  stamp: STAMP,
  segmentCount: 1,
  roots: [ROOT],
  attachments: [],
  consistency: 'crash' as const,
};
const NEVER = new AbortController().signal;

/** A pool, and a server that serves each connection the pool makes. */
class Pair implements AsyncDisposable {
  readonly clock = new ManualClock();
  readonly host = new MemoryHost();
  readonly pool = new SessionPool(this.clock);
  readonly transports: { client: MemoryTransport; server: MemoryTransport }[] = [];
  readonly served: Promise<SessionEnd>[] = [];

  open(open = OPEN, key = 'server', signal = NEVER) {
    return this.pool.open({ key, connect: async () => this.#connect() }, open, signal);
  }

  #connect(): MemoryTransport {
    const pair = memoryTransportPair({ client: AGENT, server: SERVER });
    this.transports.push(pair);
    this.served.push(serveSession(pair.server, this.host, { clock: this.clock }));
    return pair.client;
  }

  /** Lets what is said be heard, and time go by in steps that keep both ends alive. */
  async pass(ms: number): Promise<void> {
    for (let left = ms; left > 0; left -= 1000) {
      await settled();
      this.clock.advance(Math.min(left, 1000));
    }
    await settled();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.pool[Symbol.asyncDispose]();
    for (const { client } of this.transports) await client[Symbol.asyncDispose]();
    await Promise.all(this.served);
  }
}

async function settled(): Promise<void> {
  for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => setImmediate(resolve));
}

test('sessions follow each other over one connection, and the replica is given back between them', async () => {
  await using pair = new Pair();
  const bytes: number[] = [];
  for (let sequence = 1; sequence <= 5; sequence++) {
    const stamp = String(sequence).padStart(32, '0');
    await using session = await pair.open();
    assert.equal(session.opened.head?.sequence, sequence === 1 ? undefined : sequence - 1);
    await session.begin({ ...BEGIN, sequence, stamp });
    await session.segment(0, dataSegment(sequence));
    await session.commit({ ...COMMIT, stamp });
    bytes.push(session.wireBytes());
    assert.equal(pair.host.lent, pair.host.returned + 1);
    await session[Symbol.asyncDispose]();
    await settled();
    assert.equal(pair.host.lent, pair.host.returned);
  }
  assert.equal(pair.transports.length, 1);
  assert(
    bytes.every((each) => each < 8000),
    `each session counts its own bytes: ${bytes.join(', ')}`,
  );
});

test('sessions at the same time, and for other places, have connections of their own', async () => {
  await using pair = new Pair();
  {
    await using _first = await pair.open();
    await using _second = await pair.open();
  }
  await settled();
  assert.equal(pair.transports.length, 2);
  await (await pair.open())[Symbol.asyncDispose]();
  await settled();
  assert.equal(pair.transports.length, 2);
  await (await pair.open(OPEN, 'another server'))[Symbol.asyncDispose]();
  assert.equal(pair.transports.length, 3);
});

test('a session that is left in the middle of a point takes its connection with it', async () => {
  await using pair = new Pair();
  const session = await pair.open();
  await session.begin(BEGIN);
  await session[Symbol.asyncDispose]();
  await pair.served[0];
  assert.equal(pair.host.lent, pair.host.returned);
  await using _next = await pair.open();
  assert.equal(pair.transports.length, 2);
});

test('a connection that broke while nobody used it costs no session', async () => {
  await using pair = new Pair();
  await (await pair.open())[Symbol.asyncDispose]();
  await settled();
  pair.transports[0]!.client.cut();
  await using session = await pair.open();
  assert.equal(await session.begin(BEGIN), 0);
  assert.equal(pair.transports.length, 2);
});

test('a server that does not answer over an old connection is given two seconds, then a new one is made', async () => {
  await using pair = new Pair();
  const hold = Promise.withResolvers<void>();
  const open = pair.host.open.bind(pair.host);
  await (await pair.open())[Symbol.asyncDispose]();
  await settled();
  pair.host.open = async (...request) => {
    await hold.promise;
    return await open(...request);
  };
  const opening = pair.open();
  await pair.pass(1999);
  assert.equal(pair.transports.length, 1);
  await pair.pass(1);
  assert.equal(pair.transports.length, 2);
  hold.resolve();
  await using session = await opening;
  assert.equal(await session.begin(BEGIN), 0);
});

test('what the server refuses with is told, over an old connection as over a new one', async () => {
  await using pair = new Pair();
  await (await pair.open())[Symbol.asyncDispose]();
  await settled();
  pair.host.refusal = new Failure('epoch_stale', 'open session: recovered elsewhere');
  await assert.rejects(pair.open(), (error) => hasCode(error, 'epoch_stale'));
  assert.equal(pair.transports.length, 1);
  await assert.rejects(pair.open(), (error) => hasCode(error, 'epoch_stale'));
  assert.equal(pair.transports.length, 2);
});

test('who gives up waiting for a session gets no other one', async () => {
  await using pair = new Pair();
  await (await pair.open())[Symbol.asyncDispose]();
  await settled();
  pair.host.open = () => new Promise(() => {});
  const stop = new AbortController();
  const opening = pair.open(OPEN, 'server', stop.signal);
  await settled();
  stop.abort(new Failure('cancelled', 'the agent stops'));
  await assert.rejects(opening, (error) => hasCode(error, 'cancelled'));
  assert.equal(pair.transports.length, 1);
  pair.transports[0]!.client.cut();
  pair.served.length = 0;
});

test('a connection rests for a bounded time, and is not used for ever', async () => {
  await using pair = new Pair();
  await (await pair.open())[Symbol.asyncDispose]();
  await pair.pass(31_000);
  await pair.served[0];
  for (let minute = 0; minute < 60; minute++) {
    await (await pair.open())[Symbol.asyncDispose]();
    await pair.pass(10_000);
  }
  // Ten minutes of sessions: nine over one connection, the last one over another.
  assert.equal(pair.transports.length, 3);
  await pair.served[1];
});

test('a server opens no session over a connection that is too old', async () => {
  const clock = new ManualClock();
  const { client, server } = memoryTransportPair({ client: AGENT, server: SERVER });
  const served = serveSession(server, new MemoryHost(), { clock });
  const connection = new ClientConnection(client, { clock });
  const session = await openOver(connection, OPEN, { rest: () => {} });
  await session[Symbol.asyncDispose]();
  await connection.request<'closed'>({ kind: 'close' });
  for (let second = 0; second <= 600; second++) {
    await settled();
    clock.advance(1000);
  }
  await assert.rejects(openOver(connection, OPEN, {}), (error) => hasCode(error, 'unreachable'));
  await served;
});
