/** Alarms follow the state of a site: two managers of it on one PostgreSQL, and one on SQLite, on a clock turned by hand. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { hasCode } from '#/lib/failure.ts';
import { silentLog } from '#/lib/log.ts';
import { ManualClock } from '#/lib/manual-clock.ts';
import { SeededRandom } from '#/lib/random.ts';
import { Changes } from '#/manager/changes.ts';
import type { Context } from '#/manager/context.ts';
import { EventLog } from '#/manager/event-log.ts';
import { openDatabase, type Database } from '#/manager/store/database.ts';
import { newestEvents } from '#/manager/store/event-store.ts';
import { TestPostgresql } from '#/manager/store/postgresql-fixture.ts';
import { Alarms } from './alarms.ts';
import { Notices } from './notices.ts';
import type { SiteFacts } from './judge-alarms.ts';

const LIMIT = 100;
const WELL: SiteFacts = {
  nowMs: 0,
  vms: [],
  cycleMs: new Map(),
  programs: [],
  sites: [],
  plans: [],
  brokenGlass: [],
};
const AWAY: SiteFacts = { ...WELL, sites: [{ id: 'site-west', name: 'west', isReachable: false }] };
const SILENT: SiteFacts = {
  ...WELL,
  programs: [
    {
      kind: 'host',
      id: 'host-1',
      name: 'kvm1',
      isFresh: true,
      hasReported: true,
      certificateExpiresMs: 2 ** 45,
      space: { path: '/', freeBytes: 0 },
      libvirtFailure: null,
      mayRunTwice: [],
    },
  ],
};
const unknown = (facts: SiteFacts): SiteFacts => ({
  ...facts,
  programs: facts.programs.map((program) => ({ ...program, isFresh: false, hasReported: false })),
});

let cluster: TestPostgresql;
let directory: string;
before(async () => {
  cluster = await TestPostgresql.start();
  directory = await mkdtemp(join(tmpdir(), 'antipode-alarms-'));
});
after(async () => {
  await cluster[Symbol.asyncDispose]();
  await rm(directory, { recursive: true, force: true });
});

class World implements AsyncDisposable {
  readonly clock = new ManualClock();
  readonly db: Database;
  facts: SiteFacts = WELL;
  alarms: Alarms;
  readonly #databases: Database[];
  readonly #others: Alarms[];

  private constructor(databases: Database[]) {
    this.#databases = databases;
    this.db = databases[0]!;
    const [first, ...others] = databases.map((db) => this.#manager(db));
    this.alarms = first!;
    this.#others = others;
  }

  static async open(urls: readonly string[]): Promise<World> {
    return new World(await Promise.all(urls.map((url) => openDatabase(url, silentLog))));
  }

  #manager(db: Database): Alarms {
    const random = new SeededRandom(this.#databases.indexOf(db) + 1);
    const parts = { changes: new Changes(), clock: this.clock, random };
    const config = { siteName: 'east' };
    const context = {
      config,
      clock: this.clock,
      db,
      random,
      events: new EventLog(`manager-${random.next()}`, parts),
    };
    const notices = new Notices(context as unknown as Context, []);
    return new Alarms(context as unknown as Context, async () => this.facts, notices);
  }

  /** As a manager that died and came back does: only what is in the database is known. */
  restart(): void {
    this.alarms = this.#manager(this.db);
  }

  /** All managers look, every two seconds. */
  async pass(seconds: number): Promise<void> {
    for (let passed = 0; passed < seconds; passed += 2) {
      this.clock.advance(2000);
      for (const alarms of [this.alarms, ...this.#others]) await alarms.look();
    }
  }

  async standing(): Promise<string[]> {
    const alarms = await this.alarms.list(LIMIT);
    return alarms.filter(({ cleared_ms: clearedMs }) => clearedMs === null).map(({ kind }) => kind);
  }

  async events(): Promise<string[]> {
    return (await newestEvents(this.db, LIMIT)).map(({ kind }) => kind);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const db of this.#databases) await db.destroy();
  }
}

const KINDS = {
  'on SQLite': () => World.open([`sqlite:${join(directory, 'manager.db')}`]),
  'by two managers on PostgreSQL': async () => {
    const url = await cluster.database();
    return World.open([url, url]);
  },
};

for (const [name, open] of Object.entries(KINDS)) {
  test(`an alarm is raised once when it has lasted, and cleared when it has been well, ${name}`, async () => {
    await using world = await open();
    world.facts = AWAY;
    await world.pass(10);
    assert.deepEqual(await world.standing(), []);
    await world.pass(20);
    assert.deepEqual(await world.standing(), ['site_away']);
    world.facts = WELL;
    await world.pass(10);
    assert.deepEqual(await world.standing(), ['site_away']);
    await world.pass(20);
    assert.deepEqual(await world.standing(), []);
    assert.deepEqual(await world.events(), ['alarm.raised', 'alarm.cleared']);
    world.facts = AWAY;
    await world.pass(20);
    assert.equal((await world.alarms.list(LIMIT)).length, 2);
  });
}

test('what comes and goes raises nothing, and what goes for a moment clears nothing', async () => {
  await using world = await World.open(['sqlite::memory:']);
  for (let turn = 0; turn < 5; turn++) {
    world.facts = AWAY;
    await world.pass(8);
    world.facts = WELL;
    await world.pass(8);
  }
  assert.deepEqual(await world.events(), []);
  world.facts = AWAY;
  await world.pass(20);
  for (let turn = 0; turn < 5; turn++) {
    world.facts = WELL;
    await world.pass(8);
    world.facts = AWAY;
    await world.pass(8);
  }
  assert.deepEqual(await world.events(), ['alarm.raised']);
});

test('an alarm whose subject is not known any more stands, however long, and also after a restart', async () => {
  await using world = await World.open(['sqlite::memory:']);
  world.facts = SILENT;
  await world.pass(20);
  world.facts = unknown(SILENT);
  await world.pass(60);
  world.restart();
  await world.pass(60);
  assert.deepEqual(await world.standing(), ['space_short']);
  world.facts = WELL;
  await world.pass(20);
  assert.deepEqual(await world.standing(), []);
});

test('an alarm that somebody has in hand says who, and stands until it is cleared', async () => {
  await using world = await World.open(['sqlite::memory:']);
  world.facts = AWAY;
  await world.pass(20);
  const [alarm] = await world.alarms.list(LIMIT);
  const taken = await world.alarms.acknowledge(alarm!.id, { name: 'alice', note: 'calling them' });
  assert.equal(taken.acknowledged_by, 'alice');
  await world.pass(60);
  assert.deepEqual(await world.standing(), ['site_away']);
  world.facts = WELL;
  await world.pass(20);
  const again = world.alarms.acknowledge(alarm!.id, { name: 'bob', note: null });
  await assert.rejects(again, (error) => hasCode(error, 'not_found'));
  assert.deepEqual(await world.events(), ['alarm.raised', 'alarm.acknowledged', 'alarm.cleared']);
});

test('another reason for the same alarm rewords it', async () => {
  await using world = await World.open(['sqlite::memory:']);
  world.facts = SILENT;
  await world.pass(20);
  const space = { path: '/elsewhere', freeBytes: 0 };
  world.facts = { ...SILENT, programs: SILENT.programs.map((program) => ({ ...program, space })) };
  await world.pass(4);
  const [alarm] = await world.alarms.list(LIMIT);
  assert.match(alarm!.message, /elsewhere/);
  assert.deepEqual(await world.events(), ['alarm.raised']);
});
