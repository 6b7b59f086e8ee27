import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect as connectTcp } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import { test } from 'node:test';
import { Failure, failureIn, hasCode, type FailureCode } from '#/lib/failure.ts';
import type { PeerIdentity } from '#/lib/peer-identity.ts';
import { systemClock } from '#/lib/system-clock.ts';
import { createAuthority } from './certificate-fixture.ts';
import { type ClientSession, openSession } from './client-session.ts';
import { SEGMENT_BYTES_MAX } from './segment.ts';
import { serveSession, type SessionEnd } from './server-session.ts';
import { AGENT, dataSegment, DISKS, MemoryHost, OPEN, ROOT, SERVER, STAMP } from './session-fixture.ts';
import { connect, type TlsConnectOptions } from './tls-client.ts';
import { listen, type TlsListenOptions } from './tls-server.ts';

const HOST = '127.0.0.1';
const HOUR_MS = 3_600_000;
const west = await createAuthority('west');
const east = await createAuthority('east');
const agent = await west.issueFor(AGENT);
const server = await east.issueFor(SERVER);

const TRUST = [west, east].map(({ siteId, caPem }) => ({ siteId, caPem }));
const BEGIN = { sequence: 1, stamp: STAMP, momentMs: 5, disks: DISKS };
const COMMIT = { stamp: STAMP, roots: [ROOT], attachments: [], consistency: 'crash' as const };

async function serve(changes: Partial<TlsListenOptions> = {}) {
  const host = new MemoryHost();
  const ends: SessionEnd[] = [];
  const refused: Failure[] = [];
  const stop = new AbortController();
  const listener = await listen({
    host: HOST,
    port: 0,
    identity: { credentials: server, trust: TRUST },
    role: 'agent',
    accept: async (transport) => {
      const window = { segmentCount: 16, bytes: 4 * SEGMENT_BYTES_MAX };
      ends.push(await serveSession(transport, host, { clock: systemClock, signal: stop.signal, window }));
    },
    refused: (failure) => refused.push(failure),
    ...changes,
  });
  return {
    host,
    ends,
    refused,
    listener,
    port: listener.address.port,
    async [Symbol.asyncDispose]() {
      stop.abort();
      await listener[Symbol.asyncDispose]();
    },
  };
}

function target(port: number, changes: Partial<TlsConnectOptions> = {}): TlsConnectOptions {
  return { host: HOST, port, peer: SERVER, authorityPem: east.caPem, credentials: agent, ...changes };
}

/** Connects and opens, as an agent does: a server can only refuse a certificate after the handshake. */
async function open(options: TlsConnectOptions) {
  return await openSession(await connect(options), OPEN, { clock: systemClock });
}

function refusedWith(code: FailureCode, pattern: RegExp) {
  return (error: unknown): boolean => {
    const texts: string[] = [];
    for (let e = error as Error | undefined; e !== undefined; e = e.cause as Error | undefined)
      texts.push(e.message);
    assert(hasCode(error, code), `${failureIn(error)?.code}: ${texts.join(': ')}`);
    assert.match(texts.join(': '), pattern);
    return true;
  };
}

test('a point travels over TLS, and back-pressure holds the sender back', async () => {
  await using served = await serve();
  await using session = await open(target(served.port));
  const gate = Promise.withResolvers<void>();
  served.host.replica.gate = gate.promise;
  await session.begin(BEGIN);
  let sent = 0;
  const sending = (async () => {
    for (; sent < 200; sent++) await session.segment(sent, dataSegment(sent, 64));
  })();
  while (sent < 4) await new Promise((resolve) => setImmediate(resolve));
  assert(sent <= 16, `${sent} segments sent without credit`);
  gate.resolve();
  await sending;
  await session.commit({ ...COMMIT, segmentCount: 200 });
  assert.equal(served.host.replica.committed[0]!.segments.length, 200);
});

/** Once the call has resolved the bytes are the sender's again. */
async function sendAndReuse(session: ClientSession, index: number): Promise<void> {
  const segment = dataSegment(index, 64);
  await session.segment(index, segment);
  segment.fill(0xff);
}

test('a connection that is destroyed in the middle of a point is resumed by the next one', async () => {
  await using served = await serve();
  const transport = await connect(target(served.port));
  const session = await openSession(transport, OPEN, { clock: systemClock });
  await session.begin(BEGIN);
  for (let index = 0; index < 40; index++) await sendAndReuse(session, index);
  await transport[Symbol.asyncDispose]();
  await using resumed = await open(target(served.port));
  const from = await resumed.begin(BEGIN);
  assert(from > 0 && from <= 40, `resumed at ${from}`);
  for (let index = from; index < 50; index++) await sendAndReuse(resumed, index);
  await resumed.commit({ ...COMMIT, segmentCount: 50 });
  const { segments } = served.host.replica.committed[0]!;
  assert(segments.every((segment, index) => Buffer.from(segment).equals(dataSegment(index, 64))));
});

test('an agent of a site that is not trusted is refused and told why', async () => {
  await using served = await serve();
  const north = await createAuthority('north');
  const credentials = await north.issueFor({ ...AGENT, siteId: 'north' });
  await assert.rejects(
    open(target(served.port, { credentials })),
    refusedWith('certificate_invalid', /antipode:\/\/north\/agent\/agent-1.*site north is not trusted/),
  );
  assert.equal(served.refused.length, 1);
  assert.equal(served.host.lent, 0);
});

test('the authority of one site cannot speak for another', async () => {
  await using served = await serve();
  const credentials = await east.issueFor(AGENT);
  await assert.rejects(
    open(target(served.port, { credentials })),
    refusedWith('certificate_invalid', /not issued by that site's own authority/),
  );
  await using impostor = await serve({
    identity: { credentials: await west.issueFor(SERVER), trust: TRUST },
  });
  await assert.rejects(
    open(target(impostor.port)),
    refusedWith(
      'certificate_invalid',
      /connect to replication-server.*not issued by that site's own authority/,
    ),
  );
});

test('an authority with the same name and another key is not the authority', async () => {
  await using served = await serve();
  const credentials = await (await createAuthority('west')).issueFor(AGENT);
  await assert.rejects(
    open(target(served.port, { credentials })),
    refusedWith('certificate_invalid', /authority/),
  );
});

test('expired certificates are named, with what to do, at either end', async () => {
  await using served = await serve();
  const expired = { fromMs: Date.now() - 2 * HOUR_MS, untilMs: Date.now() - HOUR_MS };
  const credentials = await west.issueFor(AGENT, expired);
  await assert.rejects(
    connect(target(served.port, { credentials })),
    refusedWith('certificate_invalid', /certificate of this program: expired/),
  );
  await using old = await serve({
    identity: { credentials: await east.issueFor(SERVER, expired), trust: TRUST },
  });
  await assert.rejects(connect(target(old.port)), (error) => {
    assert.match(failureIn(error)?.hint ?? '', /renewed by itself/);
    return refusedWith('certificate_invalid', /replication-server\/server-1: expired at/)(error);
  });
});

test('a certificate that expires while its owner does not notice is refused by the server', async () => {
  await using served = await serve();
  const soon = await west.issueFor(AGENT, {
    fromMs: Date.now() + HOUR_MS,
    untilMs: Date.now() + 2 * HOUR_MS,
  });
  const socket = await rawConnection(served.port, soon);
  await once(socket, 'close');
  assert.deepEqual(
    served.refused.map(({ code, message }) => [code, /not valid before/.test(message)]),
    [['certificate_invalid', true]],
  );
});

test('other roles, other programs and certificates without a name are refused', async () => {
  await using served = await serve();
  const manager = await west.issueFor({ ...AGENT, role: 'manager' });
  await assert.rejects(
    open(target(served.port, { credentials: manager })),
    refusedWith('forbidden', /only an agent/),
  );
  const nameless = await west.issue('https://west.example/agent');
  await assert.rejects(
    open(target(served.port, { credentials: nameless })),
    refusedWith('certificate_invalid', /names no program/),
  );
  const other: PeerIdentity = { ...SERVER, id: 'server-2' };
  await assert.rejects(
    connect(target(served.port, { peer: other })),
    refusedWith('certificate_invalid', /server-1: expected antipode:\/\/east\/replication-server\/server-2/),
  );
});

test('trust that is added while the server runs counts from the next connection', async () => {
  await using served = await serve({ identity: { credentials: server, trust: TRUST.slice(1) } });
  await assert.rejects(open(target(served.port)), (error) => hasCode(error, 'certificate_invalid'));
  served.listener.update({ credentials: server, trust: TRUST });
  await using session = await open(target(served.port));
  assert.equal(session.opened.head, undefined);
});

test('peers that do not finish the handshake are bounded in time and number', async () => {
  await using served = await serve({ handshakeWithinMs: 300, handshakesMax: 2 });
  const sockets = Array.from({ length: 3 }, () => connectTcp({ host: HOST, port: served.port }));
  await Promise.all(sockets.map((socket) => once(socket.on('error', () => {}).resume(), 'close')));
  await using session = await open(target(served.port));
  assert.equal(session.opened.protocol, 1);
});

test('nobody listening, and somebody who never answers, are named in bounded time', async () => {
  await using served = await serve();
  const { port } = served;
  await served.listener[Symbol.asyncDispose]();
  await assert.rejects(connect(target(port)), refusedWith('unreachable', /ECONNREFUSED/));
  const mute = (await import('node:net')).createServer(() => {}).listen(0, HOST);
  await once(mute, 'listening');
  const mutePort = (mute.address() as { port: number }).port;
  await assert.rejects(
    connect(target(mutePort, { connectWithinMs: 100 })),
    refusedWith('timeout', /no handshake within 100 ms/),
  );
  await assert.rejects(connect(target(mutePort, { signal: AbortSignal.timeout(50) })), (error) =>
    hasCode(error, 'cancelled'),
  );
  mute.close();
});

test('a server of another protocol is refused', async () => {
  const other = createTlsServer({
    cert: server.certificatePem,
    key: server.privateKeyPem,
    ALPNProtocols: ['h2'],
  });
  other.listen(0, HOST);
  await once(other, 'listening');
  const { port } = other.address() as { port: number };
  await assert.rejects(connect(target(port)), refusedWith('protocol_unsupported', /connect to/));
  other.close();
});

async function rawConnection(port: number, credentials: { certificatePem: string; privateKeyPem: string }) {
  const { connect: connectTls } = await import('node:tls');
  const socket = connectTls({
    host: HOST,
    port,
    cert: credentials.certificatePem,
    key: credentials.privateKeyPem,
    rejectUnauthorized: false,
    ALPNProtocols: ['antipode/1'],
  });
  socket.resume().on('error', () => {});
  await once(socket, 'secureConnect');
  return socket;
}
