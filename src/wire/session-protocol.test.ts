import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DIGEST_KEY } from '#/disk/digest-fixture.ts';
import { Failure, hasCode } from '#/lib/failure.ts';
import { systemClock } from '#/lib/system-clock.ts';
import { openSession } from './client-session.ts';
import { CreditMeter, CreditWindow } from './credit.ts';
import { memoryTransportPair } from './memory-transport.ts';
import { MESSAGES } from './message-fixture.ts';
import type { Message } from './messages.ts';
import { RawEnd } from './raw-end-fixture.ts';
import { SEGMENT_BYTES_MAX } from './segment.ts';
import { serveSession } from './server-session.ts';
import { AGENT, dataSegment, DISKS, MemoryHost, OPEN, ROOT, SERVER, STAMP } from './session-fixture.ts';
import { nextState, SESSION_TABLE, type SessionState } from './session-state.ts';

const WINDOW = { segmentCount: 4, bytes: 2 * SEGMENT_BYTES_MAX };
const BEGIN = { sequence: 1, stamp: STAMP, momentMs: 5, disks: DISKS };
const OPENED: Message = {
  kind: 'opened',
  protocol: 1,
  disks: [{ ...DISKS[0]!, root: ROOT }],
  digestKey: DIGEST_KEY,
  window: WINDOW,
};
const SHA256 = 'c0'.repeat(32);

function rawClient(options: { window?: typeof WINDOW } = {}) {
  const host = new MemoryHost();
  const pair = memoryTransportPair({ client: AGENT, server: SERVER });
  const served = serveSession(pair.server, host, { clock: systemClock, window: WINDOW, ...options });
  return { host, served, client: new RawEnd(pair.client), close: () => pair.client[Symbol.asyncDispose]() };
}

/** What a client says, and hears, to bring a session into each state in which the server waits for it. */
const PATHS: { state: SessionState; says: Message[] }[] = [
  { state: 'new', says: [] },
  { state: 'idle', says: [{ kind: 'open', protocol: 1, ...OPEN }] },
  {
    state: 'point',
    says: [
      { kind: 'open', protocol: 1, ...OPEN },
      { kind: 'begin', ...BEGIN },
    ],
  },
  { state: 'closed', says: [{ kind: 'open', protocol: 1, ...OPEN }, { kind: 'close' }] },
];

test('in every state, whatever a client may not say ends the session with a named failure', async () => {
  let count = 0;
  for (const { state, says } of PATHS) {
    for (const message of MESSAGES) {
      if (nextState(state, 'client', message.kind) !== undefined) continue;
      const { host, served, client, close } = rawClient();
      for (const each of says) {
        await client.say(each);
        assert.notEqual((await client.hear())?.kind, 'failure');
      }
      await client.say(message);
      const answer = await client.hear();
      assert(answer?.kind === 'failure', `${message.kind} in ${state}: ${answer?.kind}`);
      assert.equal(answer.code, 'protocol_corrupt');
      assert.match(answer.message, new RegExp(`${message.kind}: unexpected in state ${state}`));
      await close();
      assert.equal((await served).failure?.code, 'protocol_corrupt');
      assert.equal(host.lent, host.returned);
      count++;
    }
  }
  assert(count > 40, `${count} combinations`);
});

test('in every state, whatever a server may not say ends the session of the client', async () => {
  const waits: {
    says: Message[];
    ask: (session: Awaited<ReturnType<typeof openSession>>) => Promise<unknown>;
  }[] = [
    { says: [OPENED], ask: (session) => session.digests(0, 0, 0, 1) },
    { says: [OPENED], ask: (session) => session.begin(BEGIN) },
  ];
  for (const { says, ask } of waits) {
    for (const message of MESSAGES) {
      const isAnswer = ['alive', 'failure', 'digests', 'begun'].includes(message.kind);
      if (isAnswer) continue;
      const pair = memoryTransportPair({ client: AGENT, server: SERVER });
      const server = new RawEnd(pair.server);
      const opening = openSession(pair.client, OPEN, { clock: systemClock });
      for (const each of says) await server.say(each);
      const session = await opening;
      const asked = ask(session);
      await server.say(message);
      await assert.rejects(asked, (error) => hasCode(error, 'protocol_corrupt'), message.kind);
      await assert.rejects(session.begin(BEGIN), (error) => hasCode(error, 'protocol_corrupt'));
    }
  }
});

test('every state but the last can be left, and only by a message that some end may send', () => {
  for (const [state, { client = {}, server = {} }] of Object.entries(SESSION_TABLE)) {
    const targets = [...Object.values(client), ...Object.values(server)].filter((target) => target !== state);
    assert.equal(targets.length > 0, state !== 'ended', state);
    for (const target of targets) assert(target in SESSION_TABLE);
    const hasBoth = Object.keys(client).some((kind) => kind in server);
    assert.equal(hasBoth, false, `${state}: a message that both ends may send leaves open who began`);
  }
});

test('answers that decode and still cannot be are refused', async () => {
  const cases: {
    answer: Message[];
    ask: (session: Awaited<ReturnType<typeof openSession>>) => Promise<unknown>;
  }[] = [
    {
      answer: [{ kind: 'digests', disk: 1, level: 0, first: 0, digests: new Uint8Array(16) }],
      ask: (session) => session.digests(0, 0, 0, 1),
    },
    {
      answer: [{ kind: 'digests', disk: 0, level: 0, first: 0, digests: new Uint8Array(32) }],
      ask: (session) => session.digests(0, 0, 0, 1),
    },
    {
      answer: [
        { kind: 'begun', segmentCount: 0 },
        { kind: 'attachments_wanted', sha256: [SHA256] },
      ],
      ask: async (session) => {
        await session.begin(BEGIN);
        await session.offerAttachments([]);
      },
    },
    {
      answer: [
        { kind: 'begun', segmentCount: 0 },
        { kind: 'acknowledged', sequence: 2, stamp: STAMP },
      ],
      ask: async (session) => {
        await session.begin(BEGIN);
        const commit = {
          stamp: STAMP,
          segmentCount: 0,
          roots: [ROOT],
          attachments: [],
          consistency: 'off' as const,
        };
        await session.commit(commit);
      },
    },
    {
      answer: [
        { kind: 'begun', segmentCount: 0 },
        { kind: 'credit', segmentCount: 1, bytes: 1 },
      ],
      ask: async (session) => {
        await session.begin(BEGIN);
        await new Promise((_, reject) =>
          session.ended.addEventListener('abort', () => reject(session.ended.reason as Error)),
        );
      },
    },
  ];
  for (const { answer, ask } of cases) {
    const pair = memoryTransportPair({ client: AGENT, server: SERVER });
    const server = new RawEnd(pair.server);
    const opening = openSession(pair.client, OPEN, { clock: systemClock });
    await server.hear();
    await server.say(OPENED);
    const session = await opening;
    const asked = ask(session);
    const answered = (async () => {
      for (const each of answer) {
        if (each.kind !== 'credit') await server.hear();
        await server.say(each);
      }
    })();
    await assert.rejects(asked, (error) => hasCode(error, 'protocol_corrupt'), JSON.stringify(answer));
    await answered;
  }
});

test('what is out of range or out of order is refused before it reaches the replica', async () => {
  const segment = dataSegment(0);
  const begun: Message[] = [
    { kind: 'open', protocol: 1, ...OPEN },
    { kind: 'begin', ...BEGIN },
  ];
  const commit = {
    kind: 'commit' as const,
    stamp: STAMP,
    roots: [ROOT],
    attachments: [],
    consistency: 'off' as const,
  };
  const cases: { says: Message[]; last: Message; code: string }[] = [
    { says: begun, last: { kind: 'segment', index: 1, segment }, code: 'protocol_corrupt' },
    { says: begun, last: { ...commit, segmentCount: 1 }, code: 'protocol_corrupt' },
    { says: begun, last: { ...commit, segmentCount: 0, roots: [] }, code: 'protocol_corrupt' },
    { says: begun, last: { kind: 'abort', stamp: '00'.repeat(16) }, code: 'protocol_corrupt' },
    {
      says: begun,
      last: { kind: 'attachment', sha256: SHA256, offset: 0, bytes: new Uint8Array(1) },
      code: 'protocol_corrupt',
    },
    {
      says: begun.slice(0, 1),
      last: { kind: 'digests_get', disk: 1, level: 0, first: 0, count: 1 },
      code: 'usage_invalid',
    },
    {
      says: begun.slice(0, 1),
      last: { kind: 'digests_get', disk: 0, level: 8, first: 0, count: 1 },
      code: 'usage_invalid',
    },
    { says: begun.slice(0, 1), last: { kind: 'begin', ...BEGIN, disks: [] }, code: 'usage_invalid' },
    {
      says: [],
      last: { kind: 'open', protocol: 1, ...OPEN, disks: [...DISKS, ...DISKS] },
      code: 'usage_invalid',
    },
  ];
  for (const { says, last, code } of cases) {
    const { served, client, close } = rawClient();
    for (const each of says) {
      await client.say(each);
      await client.hear();
    }
    await client.say(last);
    const answer = await client.hear();
    assert(answer?.kind === 'failure', `${last.kind}: ${answer?.kind}`);
    assert.equal(answer.code, code, `${last.kind}: ${answer.message}`);
    await close();
    await served;
  }
});

test('a frame out of sequence, and segments without credit, are refused', async () => {
  const repeated = rawClient();
  await repeated.client.say({ kind: 'open', protocol: 1, ...OPEN });
  await repeated.client.hear();
  await repeated.client.say({ kind: 'begin', ...BEGIN }, 0);
  const answer = await repeated.client.hear();
  assert(answer?.kind === 'failure' && /sequence number 0/.test(answer.message));
  await repeated.close();

  const greedy = rawClient();
  const gate = Promise.withResolvers<void>();
  greedy.host.replica.gate = gate.promise;
  await greedy.client.say({ kind: 'open', protocol: 1, ...OPEN });
  await greedy.client.hear();
  await greedy.client.say({ kind: 'begin', ...BEGIN });
  await greedy.client.hear();
  for (let index = 0; index <= WINDOW.segmentCount; index++) {
    await greedy.client.say({ kind: 'segment', index, segment: dataSegment(index) });
  }
  const refusal = await greedy.client.hear();
  assert(refusal?.kind === 'failure' && /without credit/.test(refusal.message));
  gate.resolve();
  await greedy.close();
  assert.equal((await greedy.served).failure?.code, 'protocol_corrupt');
});

test('a client that is newer is served by the protocol that both speak', async () => {
  const { served, client, close } = rawClient();
  await client.say({ kind: 'open', ...OPEN, protocol: 99 });
  const opened = await client.hear();
  assert(opened?.kind === 'opened' && opened.protocol === 1);
  await close();
  await served;
});

test('a server that chooses a protocol nobody offered is refused', async () => {
  const pair = memoryTransportPair({ client: AGENT, server: SERVER });
  const opening = openSession(pair.client, OPEN, { clock: systemClock });
  await new RawEnd(pair.server).say({ ...OPENED, protocol: 2 } as Message);
  await assert.rejects(opening, (error) => hasCode(error, 'protocol_unsupported'));
});

test('a failure code of a newer peer is still a failure', async () => {
  const pair = memoryTransportPair({ client: AGENT, server: SERVER });
  const opening = openSession(pair.client, OPEN, { clock: systemClock });
  await new RawEnd(pair.server).say({ kind: 'failure', code: 'moon_full', message: 'no tide' });
  await assert.rejects(opening, (error) => {
    assert(error instanceof Failure);
    assert.deepEqual([error.code, error.message], ['protocol_unsupported', 'moon_full: no tide']);
    return true;
  });
});

test('credit is given by the quarter window, and never for what was not sent', async () => {
  const window = { segmentCount: 8, bytes: 800 };
  const meter = new CreditMeter(window);
  const sender = new CreditWindow(window);
  const { signal } = new AbortController();
  let grants = 0;
  for (let i = 0; i < 1000; i++) {
    await sender.take(10 + (i % 90), signal);
    meter.received(10 + (i % 90));
    const credit = meter.drained(10 + (i % 90));
    if (credit === undefined) continue;
    sender.credit(credit);
    grants++;
  }
  assert(grants > 200 && grants <= 500, `${grants} grants`);
  assert.throws(() => sender.credit({ segmentCount: 0, bytes: 0 }), /receive credit/);
  assert.throws(() => sender.credit({ segmentCount: 5000, bytes: 1 }), /receive credit/);
});
