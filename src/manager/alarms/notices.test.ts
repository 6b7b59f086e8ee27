/** Who is told of alarms, over real HTTP and real SMTP, by a clock turned by hand. */
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { SMTPServer } from 'smtp-server';
import type { AlarmView } from '#/api/alarms.ts';
import { hasCode } from '#/lib/failure.ts';
import { silentLog } from '#/lib/log.ts';
import { ManualClock } from '#/lib/manual-clock.ts';
import { SeededRandom } from '#/lib/random.ts';
import { Changes } from '#/manager/changes.ts';
import type { Context } from '#/manager/context.ts';
import { EventLog } from '#/manager/event-log.ts';
import { openDatabase, type Database } from '#/manager/store/database.ts';
import { newestEvents } from '#/manager/store/event-store.ts';
import { readNoticeTargets, type NoticeTarget } from './notice-targets.ts';
import { Notices } from './notices.ts';

const SECRET = 'a secret of sixteen';
const ALARM: AlarmView = {
  id: 'alarm-1',
  kind: 'site_away',
  severity: 'warning',
  subject: { kind: 'site', id: 'site-west', name: 'west' },
  message: 'the manager of site west does not answer',
  hint: 'See what failed with: antipode sites',
  raised_ms: 1_000_000,
  cleared_ms: null,
  acknowledged_ms: null,
  acknowledged_by: null,
  note: null,
};
const CLEARED = { ...ALARM, cleared_ms: 1_060_000 };

type Heard = { body: string; headers: IncomingMessage['headers'] };

let directory: string;
let http: Server;
let smtp: SMTPServer;
let heard: Heard[];
let mails: string[];
let status = 200;
let mailPort: number;

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'antipode-notices-'));
  http = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      if (status === 200) heard.push({ body: Buffer.concat(chunks).toString(), headers: request.headers });
      response.writeHead(status, { location: 'http://127.0.0.1:1/' }).end();
    });
  }).listen(0, '127.0.0.1');
  await once(http, 'listening');
  smtp = new SMTPServer({
    disabledCommands: ['STARTTLS', 'AUTH'],
    onData(stream, _session, done) {
      const chunks: Buffer[] = [];
      stream.on('data', (chunk: Buffer) => chunks.push(chunk));
      stream.on('end', () => {
        mails.push(Buffer.concat(chunks).toString());
        done();
      });
    },
  });
  const listening = Promise.withResolvers<number>();
  const server = smtp.listen(0, '127.0.0.1', () => listening.resolve((server.address() as AddressInfo).port));
  mailPort = await listening.promise;
});
after(async () => {
  http.closeAllConnections();
  http.close();
  await new Promise<void>((resolve) => smtp.close(() => resolve()));
  await rm(directory, { recursive: true, force: true });
});

class World implements AsyncDisposable {
  readonly clock = new ManualClock();
  readonly db: Database;
  readonly context: Context;

  private constructor(db: Database) {
    this.db = db;
    const { clock } = this;
    const events = new EventLog('manager-1', { changes: new Changes(), clock, random: new SeededRandom(1) });
    const parts = { clock, config: { siteName: 'east' }, db, events, log: silentLog };
    this.context = parts as unknown as Context;
  }

  static async open(): Promise<World> {
    heard = [];
    mails = [];
    status = 200;
    return new World(await openDatabase('sqlite::memory:', silentLog));
  }

  notices(...targets: NoticeTarget[]): Notices {
    return new Notices(this.context, targets);
  }

  add(notices: Notices, turn: 'raised' | 'cleared', alarm: AlarmView): Promise<void> {
    return this.db.transaction().execute((at) => notices.add(at, turn, alarm));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.db.destroy();
  }
}

function webhook(port = (http.address() as AddressInfo).port): NoticeTarget {
  return { kind: 'webhook', key: `webhook ${port}`, url: `http://127.0.0.1:${port}/hook`, secret: SECRET };
}

const turns = (): string[] => heard.map(({ body }) => (JSON.parse(body) as { turn: string }).turn);

test('a webhook is told of each turn once, in order, signed', async () => {
  await using world = await World.open();
  const notices = world.notices(webhook());
  await world.add(notices, 'raised', ALARM);
  await world.add(notices, 'cleared', CLEARED);
  await notices.look();
  await notices.look();
  assert.deepEqual(turns(), ['raised', 'cleared']);
  const { body, headers } = heard[0]!;
  assert.equal(
    headers['antipode-signature'],
    `sha256=${createHmac('sha256', SECRET).update(body).digest('hex')}`,
  );
  assert.equal(headers['antipode-notice'], 'alarm-1-raised');
  assert.deepEqual(JSON.parse(body), { turn: 'raised', site: 'east', alarm: ALARM });
});

test('a mail says what is wrong, what to do, and since when', async () => {
  await using world = await World.open();
  const server = `smtp://127.0.0.1:${mailPort}`;
  const notices = world.notices({
    kind: 'mail',
    key: 'mail',
    server,
    from: 'a@x.example',
    to: ['b@x.example'],
  });
  await world.add(notices, 'raised', ALARM);
  await notices.look();
  assert.equal(mails.length, 1);
  assert.match(mails[0]!, /^Subject: \[antipode east\] WARNING: the manager of site west does not\s+answer/m);
  assert.match(mails[0]!, /^See what failed with: antipode sites/m);
  assert.match(mails[0]!, /^raised {3}1970-01-01T00:16:40\.000Z/m);
  assert.match(mails[0]!, /^Message-ID: <alarm-1-raised@antipode\.invalid>/m);
});

test('a target that is away is told later, also by another process, and holds back no other', async () => {
  await using world = await World.open();
  const away = webhook(1);
  const notices = world.notices(away, webhook());
  await world.add(notices, 'raised', ALARM);
  await notices.look();
  assert.deepEqual(turns(), ['raised']);
  const back: NoticeTarget = { ...(webhook() as Extract<NoticeTarget, { kind: 'webhook' }>), key: away.key };
  const next = world.notices(back);
  await next.look();
  assert.equal(heard.length, 1, 'its pause is not over');
  world.clock.advance(10_000);
  await next.look();
  assert.deepEqual(turns(), ['raised', 'raised']);
});

test('a refusal and a redirect are no acknowledgement', async () => {
  await using world = await World.open();
  const notices = world.notices(webhook());
  await world.add(notices, 'raised', ALARM);
  for (status of [500, 302, 401]) {
    await notices.look();
    world.clock.advance(3_600_000);
  }
  status = 200;
  await notices.look();
  assert.deepEqual(turns(), ['raised']);
});

test('what nobody took for a day is given up, and said so', async () => {
  await using world = await World.open();
  const notices = world.notices(webhook(1));
  await world.add(notices, 'raised', ALARM);
  world.clock.advance(86_400_000);
  await notices.look();
  const [event] = await newestEvents(world.db, 10);
  assert.equal(event?.kind, 'alarm.not_told');
  assert.match(event.message, /^webhook 1 was not told that an alarm was raised/);
  const rows = await world.db.selectFrom('alarm_notices').selectAll().execute();
  assert.deepEqual(rows, []);
});

test('of notices that gather for one target the oldest go', async () => {
  await using world = await World.open();
  const notices = world.notices(webhook(1));
  for (let count = 0; count <= 1000; count++)
    await world.add(notices, 'raised', { ...ALARM, id: `alarm-${count}` });
  const rows = await world.db.selectFrom('alarm_notices').select('body').orderBy('sequence').execute();
  assert.equal(rows.length, 1000);
  assert.match(rows[0]!.body, /alarm-1"/);
});

test('a file of targets is read, and refused with the place when it is wrong or open to others', async () => {
  const path = join(directory, 'targets.json');
  const write = async (value: unknown, mode = 0o600): Promise<void> => {
    await rm(path, { force: true });
    await writeFile(path, typeof value === 'string' ? value : JSON.stringify(value));
    await chmod(path, mode);
  };
  const refused = (message: RegExp) =>
    assert.rejects(readNoticeTargets(path), (error: Error) => {
      assert.doesNotMatch(String(error), /hunter2/);
      return hasCode(error, 'config_invalid') && message.test(error.message);
    });
  const mail = { server: 'smtps://ops:hunter2@mail.example', from: 'a@x.example', to: ['b@x.example'] };
  await write({ webhooks: [{ url: 'https://chat.example/hook?token=hunter2' }], mail });
  assert.deepEqual(
    (await readNoticeTargets(path)).map(({ key }) => key),
    ['webhook https://chat.example/hook', 'mail by mail.example'],
  );
  await write({ mail }, 0o644);
  await refused(/others may read it/);
  await write({ mail: { ...mail, to: ['hunter2'] } });
  await refused(/\/mail\/to\/0/);
  await write({ webhooks: [{ url: 'https://[hunter2' }] });
  await refused(/a url that is none/);
  await write('{"hunter2"');
  await refused(/not JSON/);
  await write({ others: 1 });
  await refused(/./);
  assert.deepEqual(await readNoticeTargets(null), []);
});
