import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Type } from 'typebox';
import { Failure, hasCode } from '#/lib/failure.ts';
import { createLog } from '#/lib/log.ts';
import { ManualClock } from '#/lib/manual-clock.ts';
import { SeededRandom } from '#/lib/random.ts';
import { createAuthority } from '#/wire/certificate-fixture.ts';
import { ControlClient, type ControlOptions } from './control-client.ts';
import { EventBuffer } from './event-buffer.ts';
import type { Membership } from './manager-client.ts';
import { isRenewalDue } from './member-file.ts';

type Orders = { revision: number };
const HOUR_MS = 3_600_000;
const IDENTITY = { siteId: 'east', role: 'agent' as const, id: 'agent-1' };
const authority = await createAuthority('east');

async function membershipUntil(untilMs: number, nowMs: number): Promise<Membership> {
  const credentials = await authority.issueFor(IDENTITY, { fromMs: nowMs - HOUR_MS, untilMs });
  return {
    id: IDENTITY.id,
    site_id: 'east',
    certificate_pem: credentials.certificatePem,
    private_key_pem: credentials.privateKeyPem,
    ca_pem: authority.caPem,
    trust: [],
  };
}

/** A manager that answers as the test says, and the client that talks to it. */
async function world(changes: Partial<ControlOptions<Orders>> = {}) {
  const clock = new ManualClock();
  const dataDirectory = await mkdtemp(join(tmpdir(), 'antipode-control-'));
  const stop = new AbortController();
  const taken: number[] = [];
  const events: string[] = [];
  const membership = await membershipUntil(clock.now() + 24 * HOUR_MS, clock.now());
  const counts = { polls: 0, reports: 0 };
  const control = new ControlClient<Orders>({
    client: { membership, renew: () => assert.fail('no renewal is due') },
    schema: Type.Object({ revision: Type.Integer() }),
    poll: async (_after, signal) => {
      counts.polls++;
      await clock.sleep(25_000, signal);
      return undefined;
    },
    ordered: async (orders) => void taken.push(orders.revision),
    report: async () => {
      counts.reports++;
      return {};
    },
    tell: async () => {},
    renewed: () => {},
    dataDirectory,
    clock,
    log: createLog('test', (line) => events.push((JSON.parse(line) as { event: string }).event)),
    ...changes,
  });
  return {
    clock,
    control,
    dataDirectory,
    taken,
    events,
    counts,
    stop,
    async pass(ms: number) {
      for (let at = 0; at < ms; at += 250) {
        clock.advance(250);
        await turns();
      }
    },
    async [Symbol.asyncDispose]() {
      stop.abort();
      await rm(dataDirectory, { recursive: true, force: true });
    },
  };
}

/** Files are written between two steps of the clock: lets them be. */
async function turns(): Promise<void> {
  for (let i = 0; i < 5; i++) await new Promise((resolve) => setImmediate(resolve));
}

test('orders are kept before they are taken in, and a restart goes on by them', async () => {
  const queue: Orders[] = [{ revision: 3 }, { revision: 3 }, { revision: 5 }];
  const asked: (number | undefined)[] = [];
  const seen: string[] = [];
  const done = Promise.withResolvers<void>();
  const options: Partial<ControlOptions<Orders>> = {
    poll: async (after) => {
      asked.push(after);
      const next = queue.shift();
      if (next !== undefined) return next;
      done.resolve();
      return await new Promise(() => {});
    },
    ordered: async (orders) => {
      seen.push(
        `${orders.revision} on disk: ${await readFile(join(own.dataDirectory, 'orders.json'), 'utf8')}`,
      );
    },
  };
  await using own = await world(options);
  void own.control.run(own.stop.signal);
  await done.promise;
  assert.deepEqual(seen, ['3 on disk: {"revision":3}\n', '5 on disk: {"revision":5}\n']);
  assert.deepEqual(asked, [undefined, 3, 3, 5]);

  await using next = await world();
  await writeFile(join(next.dataDirectory, 'orders.json'), '{"revision":5}');
  await next.control.takeKeptOrders();
  assert.deepEqual(next.taken, [5]);
  await writeFile(join(next.dataDirectory, 'orders.json'), '{"version":5}');
  await assert.rejects(next.control.takeKeptOrders(), (error) => hasCode(error, 'storage_corrupt'));
});

test('a manager that is away is asked again with growing pauses, and its absence is said once', async () => {
  let tries = 0;
  let isBack = false;
  await using own = await world({
    poll: async (_after, signal) => {
      tries++;
      if (!isBack) throw new Failure('unreachable', 'poll');
      await own.clock.sleep(25_000, signal);
      return undefined;
    },
  });
  const running = own.control.run(own.stop.signal);
  await own.pass(60_000);
  assert(tries >= 8 && tries <= 16, `${tries} tries in a minute`);
  isBack = true;
  await own.pass(40_000);
  assert.deepEqual(
    own.events.filter((event) => event.startsWith('orders.poll')),
    ['orders.poll.fails', 'orders.poll.works_again'],
  );
  own.stop.abort();
  await running;
});

test('reports follow a change at most once a second, and come without one as a sign of life', async () => {
  await using own = await world();
  const running = own.control.run(own.stop.signal);
  await own.pass(30_000);
  const quiet = own.counts.reports;
  assert(quiet >= 4 && quiet <= 7, `${quiet} reports in 30 quiet seconds`);
  for (let i = 0; i < 40; i++) {
    own.control.changed();
    await own.pass(250);
  }
  const busy = own.counts.reports - quiet;
  assert(busy >= 7 && busy <= 11, `${busy} reports in 10 busy seconds`);
  own.stop.abort();
  await running;
});

test('what somebody waits for is reported at once, and never more than half of the time goes into reports', async () => {
  await using own = await world({
    report: async (signal) => {
      own.counts.reports++;
      await own.clock.sleep(40, signal);
      return {};
    },
  });
  const running = own.control.run(own.stop.signal);
  const pass = async (ms: number): Promise<number> => {
    const before = own.counts.reports;
    for (let at = 0; at < ms; at += 10) {
      own.clock.advance(10);
      await turns();
    }
    return own.counts.reports - before;
  };
  await pass(200);
  own.control.changed();
  assert.equal(await pass(300), 0, 'a change soon after a report is gathered');
  own.control.changedAndAwaited();
  assert.equal(await pass(10), 1, 'one that is waited for is not');
  await pass(3000);
  own.control.changed();
  assert.equal(await pass(20), 0, 'what begins after a quiet time may end at once');
  own.control.changedAndAwaited();
  assert.equal(await pass(10), 1, 'and then one report tells both');
  own.control.changedAndAwaited();
  assert.equal(await pass(60), 0, 'a report is not begun before the last one has ended, and a pause');
  assert.equal(await pass(40), 1);
  let busy = 0;
  for (let i = 0; i < 100; i++) {
    own.control.changedAndAwaited();
    busy += await pass(10);
  }
  assert(busy >= 8 && busy <= 13, `${busy} reports of 40 ms in a second`);
  own.stop.abort();
  await running;
});

test('a certificate is renewed when a third of its life is left, and the new one is kept', async () => {
  const renewed: Membership[] = [];
  const nowMs = new ManualClock().now();
  const old = await membershipUntil(nowMs + HOUR_MS / 4, nowMs);
  const fresh = await membershipUntil(nowMs + 10 * HOUR_MS, nowMs);
  assert.equal(isRenewalDue(old.certificate_pem, nowMs), true);
  assert.equal(isRenewalDue(fresh.certificate_pem, nowMs), false);
  let tries = 0;
  const isKept = Promise.withResolvers<void>();
  const client = {
    membership: old,
    renew: async () => {
      if (++tries === 1) throw new Failure('unreachable', 'renew');
      return (client.membership = fresh);
    },
  };
  await using own = await world({
    client,
    renewed: (membership) => {
      renewed.push(membership);
      isKept.resolve();
    },
  });
  const running = own.control.run(own.stop.signal);
  await own.pass(3_000);
  await isKept.promise;
  const path = join(own.dataDirectory, 'membership.json');
  assert.deepEqual(JSON.parse(await readFile(path, 'utf8')), fresh);
  assert.equal((await stat(path)).mode & 0o777, 0o600);
  assert.deepEqual([renewed.length, tries], [1, 2]);
  own.stop.abort();
  await running;
});

test('a bug ends the loops instead of being tried again', async () => {
  await using own = await world({
    report: async () => {
      throw new TypeError('a bug');
    },
  });
  await assert.rejects(own.control.run(own.stop.signal), /a bug/);
});

test('events stay until a report with them was accepted, and are bounded', () => {
  const buffer = new EventBuffer(new ManualClock(), new SeededRandom(1));
  const subject = { kind: 'store', id: '/store' };
  const add = (message: string): void =>
    buffer.add({ kind: 'store.full', severity: 'error', subject, message });
  add('one');
  const sent = buffer.pending();
  add('two');
  buffer.accepted(sent);
  assert.deepEqual(
    buffer.pending().map((event) => event.message),
    ['two'],
  );
  for (let i = 0; i < 1500; i++) add(`${i}`);
  const pending = buffer.pending();
  assert.deepEqual([pending.length, pending.at(-1)?.message], [1000, '1499']);
  assert.equal(new Set(pending.map((event) => event.id)).size, 1000);
});
