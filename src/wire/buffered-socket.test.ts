import assert from 'node:assert/strict';
import { randomBytes, randomInt } from 'node:crypto';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { connect, createServer, type TLSSocket } from 'node:tls';
import { createAuthority } from './certificate-fixture.ts';
import { AGENT, SERVER } from './session-fixture.ts';
import { useReceiveBuffers } from './buffered-socket.ts';
import { SocketTransport } from './tls-socket.ts';

const HOST = '127.0.0.1';
const authority = await createAuthority('east');
const credentials = await authority.issueFor(SERVER);
const identity = { cert: credentials.certificatePem, key: credentials.privateKeyPem };

/** The accepting end and the dialling end of one connection. */
async function connectedPair() {
  const server = createServer(identity).listen(0, HOST);
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const dialled = connect({ host: HOST, port, rejectUnauthorized: false });
  const [accepted] = (await once(server, 'secureConnection')) as [TLSSocket];
  for (const socket of [dialled, accepted]) socket.on('error', () => {});
  return {
    dialled,
    accepted,
    async [Symbol.asyncDispose]() {
      dialled.destroy();
      accepted.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}

test('both ends of a connection of this Node take buffers', async () => {
  await using pair = await connectedPair();
  const buffers = { next: () => new Uint8Array(16_384), received: () => true };
  assert.equal(useReceiveBuffers(pair.accepted, buffers), true);
  assert.equal(useReceiveBuffers(pair.dialled, buffers), true);
});

test('what arrives before, in pieces of any length, and past a full queue, arrives in order', async (t) => {
  await using pair = await connectedPair();
  const sent = randomBytes(8 * 1024 * 1024);
  const early = randomInt(1, 5000);
  t.diagnostic(`early ${early}`);
  pair.dialled.write(sent.subarray(0, early));
  await once(pair.accepted, 'readable');
  await using transport = new SocketTransport(pair.accepted, AGENT);
  let at = early;
  while (at < sent.length) {
    const length = randomInt(1, at < 1_000_000 ? 3000 : 200_000);
    pair.dialled.write(sent.subarray(at, at + length));
    at += length;
  }
  pair.dialled.end();
  // Nothing is taken before everything was written: the transport has to stop reading in between.
  let received = 0;
  for (let piece = await transport.receive(); piece !== undefined; piece = await transport.receive()) {
    assert.deepEqual(Buffer.compare(piece, sent.subarray(received, received + piece.length)), 0);
    received += piece.length;
  }
  assert.equal(received, sent.length);
});

test('the queue of a transport that nobody reads is bounded, also when every record has one byte', async () => {
  await using pair = await connectedPair();
  await using transport = new SocketTransport(pair.accepted, AGENT);
  let sent = 0;
  while (!pair.accepted.isPaused()) {
    await new Promise((resolve) => pair.dialled.write(new Uint8Array(1), resolve));
    sent++;
    assert(sent < 10_000, 'the transport goes on reading');
  }
  for (let received = 0; received < sent;) received += (await transport.receive())!.length;
  assert.equal(pair.accepted.isPaused(), false);
});
