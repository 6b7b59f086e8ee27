import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ManagerApi } from '#/cli/manager-api.ts';
import { open } from '#/cli/http-json.ts';
import type { EventView } from '#/api/events.ts';
import { TestSite } from './site-fixture.ts';

function apiOf(site: TestSite): ManagerApi {
  return new ManagerApi({ kind: 'unix', socketPath: site.config.socketPath });
}

async function record(site: TestSite, message: string): Promise<void> {
  const { db, events } = site.manager.context;
  const subject = { kind: 'vm', id: 'u' };
  await events.record(db, { kind: 'test.happened', severity: 'info', subject, message });
}

/** Messages of the next `count` events of the stream. */
async function read(
  stream: AsyncGenerator<{ kind: string; data?: unknown }>,
  count: number,
): Promise<string[]> {
  const messages: string[] = [];
  while (messages.length < count) {
    const { value, done } = await stream.next();
    assert(done !== true, 'the stream ended');
    if (value.kind === 'event') messages.push((value.data as EventView).message);
  }
  return messages;
}

test('the stream begins after any event, tells each once and in order, and resumes over a restart of the manager', async () => {
  await using site = await TestSite.start('east');
  for (const message of ['one', 'two', 'three']) await record(site, message);
  const stop = new AbortController();
  const stream = apiOf(site).stream(1, stop.signal);
  assert.deepEqual(await read(stream, 2), ['two', 'three']);
  await record(site, 'four');
  assert.deepEqual(await read(stream, 1), ['four']);
  const next = read(stream, 2);
  await site.restart();
  await record(site, 'five');
  await record(site, 'six');
  assert.deepEqual(await next, ['five', 'six']);
  stop.abort();
  await stream.return(undefined);
});

test('a stream without a beginning tells what happens from now on', async () => {
  await using site = await TestSite.start('east');
  await record(site, 'before');
  const stop = new AbortController();
  const stream = apiOf(site).stream(undefined, stop.signal);
  // The first message says that everything is worth a look, and shows that the stream stands.
  assert.equal((await stream.next()).value?.kind, 'change');
  await record(site, 'after');
  assert.deepEqual(await read(stream, 1), ['after']);
  stop.abort();
  await stream.return(undefined);
});

test('a reader that takes nothing holds up nobody and nothing piles up for it', async () => {
  await using site = await TestSite.start('east');
  const target = { kind: 'unix', socketPath: site.config.socketPath } as const;
  const slow = await open(target, { method: 'GET', path: '/api/v1/events/stream?after=0' });
  slow.pause();
  const text = 'x'.repeat(4000);
  await site.manager.context.db.transaction().execute(async (at) => {
    const { events } = site.manager.context;
    const subject = { kind: 'vm', id: 'u' };
    for (let count = 0; count < 1000; count++) {
      await events.record(at, { kind: 'test.happened', severity: 'info', subject, message: text });
    }
  });
  const stop = new AbortController();
  const quick = apiOf(site).stream(0, stop.signal);
  assert.equal((await read(quick, 1000)).length, 1000);
  stop.abort();
  await quick.return(undefined);
  // What the slow one has not taken is in the database, not in the memory of the manager: it reads on from there.
  let bytes = 0;
  for await (const chunk of slow as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > 4_000_000) break;
  }
  slow.destroy();
});

test('an event that a program reports again is one event, and its time is when it happened', async () => {
  await using site = await TestSite.start('east');
  const agent = await site.agent('host');
  const atMs = Date.now() - 3_600_000;
  const subject = { kind: 'vm', id: 'u' };
  agent.report.events = [
    { id: 'e1', at_ms: atMs, kind: 'link.lost', severity: 'warning', subject, message: 'the link is lost' },
  ];
  await agent.send();
  await agent.send();
  const { items } = await site.api<{ items: EventView[] }>('GET', '/events');
  const told = items.filter((event) => event.kind === 'link.lost');
  assert.equal(told.length, 1);
  assert.equal(told[0]?.at_ms, atMs);
  assert.equal(told[0].reporter, agent.client.membership.id);
});

test('what administrators do is on record with who it was and how it ended, and never with a token', async () => {
  await using site = await TestSite.start('east');
  const token = await site.joinToken('agent');
  await assert.rejects(site.api('POST', '/pairings', { token }));
  await assert.rejects(site.api('POST', '/protections', { vm: 'ledger', site: 'west', rpo_ms: 5000 }));
  const { items } = await site.api<{ items: Record<string, string>[] }>('GET', '/audit');
  assert.deepEqual(
    items.map(({ actor, action, subject, outcome }) => [actor, action, subject, outcome]),
    [
      ['root', 'POST /api/v1/protections', 'vm=ledger site=west', 'not_found'],
      ['root', 'POST /api/v1/pairings', '', 'token_invalid'],
      ['root', 'POST /api/v1/join-tokens', 'kind=agent', 'ok'],
    ],
  );
  assert(!JSON.stringify(items).includes(token));
});
