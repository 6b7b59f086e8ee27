import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, test } from 'node:test';
import { WebSocket } from 'ws';
import type { AuditRow } from '#/api/audit.ts';
import type { ConsoleView } from '#/api/consoles.ts';
import { Failure } from '#/lib/failure.ts';
import { startQemuScreen, type QemuScreen } from '#test/qemu-screen.ts';
import { cookieName } from './access/session-cookie.ts';
import { addRecovery, bringConsoles, domainOf } from './console-fixture.ts';
import { TestSite, type FakeAgent } from './site-fixture.ts';

/** A host whose VM shows a real display, and one VM each that has none and that is off. */
let east: TestSite;
let agent: FakeAgent;
let screen: QemuScreen;
let bringing: Promise<void>;
const stop = new AbortController();

before(async () => {
  east = await TestSite.start('east');
  agent = await east.agent('east-host');
  await agent.send();
  screen = await startQemuScreen();
  for (const id of ['job-a', 'job-blind', 'job-off', 'job-else']) await addRecovery(east, agent, { id });
  await addRecovery(east, agent, { id: 'job-production', purpose: 'recovery' });
  const domains = [
    domainOf('job-a', screen.socketPath),
    domainOf('job-production', screen.socketPath),
    domainOf('job-blind', undefined),
    domainOf('job-off', screen.socketPath, 'shutoff'),
  ];
  bringing = bringConsoles(agent, domains, stop.signal);
});

after(async () => {
  stop.abort();
  await bringing;
  await east[Symbol.asyncDispose]();
  await screen[Symbol.asyncDispose]();
});

const url = (id: string): string => `wss://127.0.0.1:${east.address.port}/api/v1/consoles/${id}`;

/** Somebody who has signed in, at the manager's own page. */
async function signIn(role: 'administrator' | 'test-operator' = 'administrator') {
  const who = { key: `test:${role}`, name: role, grants: [{ role, group_id: null }] };
  const { secret, session } = await east.manager.sessions.begin(who, { address: '127.0.0.1', agent: 'test' });
  const cookie = `${cookieName(east.manager.context.identity.siteId)}=${secret}`;
  const origin = `https://127.0.0.1:${east.address.port}`;
  return { cookie, origin, session };
}
type Person = Awaited<ReturnType<typeof signIn>>;

/** As the page does. */
function open(person: Person, recovery = 'job-a'): Promise<ConsoleView> {
  const who = {
    name: person.session.user_name,
    by: 'session',
    sessionId: person.session.id,
    address: '127.0.0.1',
  };
  return east.manager.consoles.open(recovery, who, AbortSignal.timeout(10_000));
}

function connect(id: string, { cookie, origin }: { cookie?: string; origin?: string }): WebSocket {
  const headers = {
    ...(cookie === undefined ? {} : { cookie }),
    ...(origin === undefined ? {} : { origin }),
  };
  return new WebSocket(url(id), { rejectUnauthorized: false, headers });
}

/** What a display says, byte by byte, to who speaks RFB (RFC 6143, section 7). */
function reader(socket: WebSocket) {
  let bytes = Buffer.alloc(0);
  let news = Promise.withResolvers<void>();
  socket.on('message', (more: Buffer) => {
    bytes = Buffer.concat([bytes, more]);
    news.resolve();
    news = Promise.withResolvers();
  });
  return async (count: number): Promise<Buffer> => {
    while (bytes.length < count) await news.promise;
    const taken = bytes.subarray(0, count);
    bytes = bytes.subarray(count);
    return taken;
  };
}

async function handshake(
  socket: WebSocket,
): Promise<{ width: number; height: number; read: (count: number) => Promise<Buffer> }> {
  const read = reader(socket);
  assert.equal((await read(12)).toString(), 'RFB 003.008\n');
  socket.send('RFB 003.008\n');
  const count = (await read(1))[0]!;
  assert.deepEqual([...(await read(count))], [1], 'the socket needs no password');
  socket.send(Buffer.of(1));
  assert.equal((await read(4)).readUInt32BE(), 0);
  socket.send(Buffer.of(1));
  const head = await read(24);
  await read(head.readUInt32BE(20));
  return { width: head.readUInt16BE(0), height: head.readUInt16BE(2), read };
}

async function closing(socket: WebSocket): Promise<{ code: number; reason: string }> {
  const [code, reason] = (await once(socket, 'close')) as [number, Buffer];
  return { code, reason: reason.toString() };
}

async function refusal(id: string, shown: { cookie?: string; origin?: string }): Promise<number> {
  const socket = connect(id, shown);
  socket.on('error', () => undefined);
  const [, response] = (await once(socket, 'unexpected-response')) as [unknown, { statusCode: number }];
  return response.statusCode;
}

async function closingRow(): Promise<AuditRow | undefined> {
  const { items } = await east.api<{ items: AuditRow[] }>('GET', '/audit?limit=50');
  return items.find(({ action }) => action === 'console closed');
}

test('the screen of a VM arrives through agent and manager, and what is typed goes back', async () => {
  const person = await signIn();
  const { host_name: host, id, vm_name: vm } = await open(person);
  assert.deepEqual([host, vm], ['east-host', 'ledger-test']);
  const socket = connect(id, person);
  const { height, read, width } = await handshake(socket);
  assert(width >= 300 && height >= 200, `${width} x ${height}`);
  // A picture of the whole: an update of one or more rectangles, raw.
  const request = Buffer.from([3, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
  request.writeUInt16BE(width, 6);
  request.writeUInt16BE(height, 8);
  socket.send(request);
  assert.equal((await read(4))[0], 0);
  const rectangle = await read(12);
  assert.equal(rectangle.readInt32BE(8), 0);
  const pixels = await read(rectangle.readUInt16BE(4) * rectangle.readUInt16BE(6) * 4);
  assert(new Set(pixels).size > 1, 'QEMU draws a text');
  socket.close();
  await once(socket, 'close');
  await until(async () => (await closingRow()) !== undefined);
  const { actor, subject } = (await closingRow())!;
  assert.equal(actor, 'administrator');
  assert.match(subject, /^vm=ledger-test host=east-host seconds=\d+: closed$/);
  await until(async () => (await agent.now()).tasks.length === 0);
});

test('a console is for who asked for it, at the page of this manager, and once', async () => {
  const person = await signIn();
  const { id } = await open(person);
  assert.equal(await refusal(id, {}), 401);
  assert.equal(await refusal(id, { ...person, origin: 'https://evil.example' }), 403);
  assert.equal(await refusal(id, { cookie: person.cookie }), 403, 'no origin at all');
  assert.equal(await refusal(id, await signIn()), 404, 'another session');
  assert.equal(await refusal('console-000000000000', person), 404);
  const socket = connect(id, person);
  await handshake(socket);
  assert.equal(await refusal(id, person), 404, 'a second time');
  socket.terminate();
});

test('a console ends with the session that it was opened in', async () => {
  const person = await signIn();
  const socket = connect((await open(person)).id, person);
  await handshake(socket);
  const closed = closing(socket);
  await east.manager.sessions.end(person.session.id);
  const { code, reason } = await closed;
  assert.equal(code, 4003);
  assert.match(reason, /session has ended/);
});

test('what cannot be shown is refused in words that name the VM or its host', async () => {
  const person = await signIn();
  const words = async (recovery: string, code: string, message: RegExp): Promise<void> => {
    await assert.rejects(open(person, recovery), (error: Failure) => {
      assert.equal(error.code, code);
      assert.match(error.message, message);
      return true;
    });
  };
  await words('job-blind', 'vm_unsupported', /ledger-test has no screen/);
  await words('job-off', 'conflict', /ledger-test does not run: it is shutoff/);
  await words('job-else', 'not_found', /no VM of recovery job-else/);
  await words('job-none', 'not_found', /no recovery job-none/);
});

test('a screen that is brought by another host, or that nobody has ordered, is not taken', async () => {
  const { consoles } = east.manager;
  await assert.rejects(consoles.arrive('console-000000000000', agent.client.membership.id), /no console/);
});

test('a browser that sends more than any browser does, or no WebSocket, ends its own console only', async () => {
  const person = await signIn();
  const [one, other] = [await open(person), await open(person)];
  const socket = connect(one.id, person);
  socket.on('error', () => undefined);
  await handshake(socket);
  const closed = closing(socket);
  socket.send(Buffer.alloc(65 * 1024));
  assert.equal((await closed).code, 1009);
  const well = connect(other.id, person);
  await handshake(well);
  well.terminate();
});

test('who may test only opens the screens of tests', async () => {
  const { authorizeRole, authorizeSubject } = await import('./access/authorize.ts');
  const call = { method: 'POST', path: '/api/v1/recoveries/:id/consoles' };
  const who = { name: 'tess', by: 'session', grants: [{ role: 'test-operator', group_id: null }] } as const;
  authorizeRole(call, who);
  const sent = (id: string) => ({ params: { id }, query: {}, body: {} });
  await authorizeSubject(call, who, sent('job-a'), east.manager);
  await assert.rejects(
    authorizeSubject(call, who, sent('job-production'), east.manager),
    /needs console\.run/,
  );
});

test('the end of the screen closes the browser with the reason', async () => {
  await using own = await startQemuScreen();
  const person = await signIn();
  await addRecovery(east, agent, { id: 'job-killed' });
  const aside = new AbortController();
  const second = await east.agent('second-host');
  await second.send();
  await addRecovery(east, second, { id: 'job-second' });
  const running = bringConsoles(second, [domainOf('job-second', own.socketPath)], aside.signal);
  const socket = connect((await open(person, 'job-second')).id, person);
  await handshake(socket);
  const closed = closing(socket);
  own.kill();
  const { code, reason } = await closed;
  assert.equal(code, 4000);
  assert.match(reason, /VM was stopped/);
  aside.abort();
  await running;
});

test('a manager that stops says so, and is not held up', async () => {
  const person = await signIn();
  const socket = connect((await open(person)).id, person);
  await handshake(socket);
  await open(person);
  const closed = closing(socket);
  await east.stop();
  assert.equal((await closed).code, 1001);
});

async function until(isSo: () => Promise<boolean>): Promise<void> {
  const endMs = performance.now() + 10_000;
  while (!(await isSo())) assert(performance.now() < endMs, `never: ${isSo.toString()}`);
}
