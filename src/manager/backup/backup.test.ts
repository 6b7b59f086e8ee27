/** Backup and restore of real managers, between databases, and after a site went on without its backup. */
import assert from 'node:assert/strict';
import { chown, mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Page } from '#/api/common.ts';
import type { FenceView } from '#/api/fences.ts';
import type { RebuildView } from '#/api/rebuild.ts';
import type { RecoveryView } from '#/api/recoveries.ts';
import type { ReplicaView } from '#/api/replicas.ts';
import { hasCode } from '#/lib/failure.ts';
import { silentLog } from '#/lib/log.ts';
import { protectLedger, reportAndTell } from '#/manager/rebuild/rebuild-fixture.ts';
import {
  doneTask,
  type FakeAgent,
  type FakeServer,
  TestSite,
  twoSites,
  VIEW,
} from '#/manager/site-fixture.ts';
import { connectDatabase, kindOf } from '#/manager/store/database.ts';
import { TestPostgresql } from '#/manager/store/postgresql-fixture.ts';
import { makeBackup } from './backup.ts';
import { atOneMoment, tableLines, type BackupLine } from './dump.ts';
import { restoreBackup, UNFINISHED } from './restore.ts';

const passphrase = 'correct horse battery staple';
const NOBODY = 65_534;

async function backUp(site: TestSite): Promise<string> {
  const path = join(site.directory, 'site.apbackup');
  await makeBackup(site.config, { path, passphrase, nowMs: Date.now() });
  return path;
}

/** The manager ends and its whole data directory goes, keys and all. */
async function loseEverything(site: TestSite): Promise<void> {
  await site.stop();
  await rm(site.config.dataDirectory, { recursive: true });
}

async function rowsOf(url: string): Promise<Map<string, string[]>> {
  const db = connectDatabase(url, silentLog, { readOnly: true });
  const tables = new Map<string, string[]>();
  let name = '';
  await atOneMoment(db, kindOf(url), async (at) => {
    for await (const line of tableLines(at, kindOf(url)) as AsyncIterable<BackupLine>) {
      if ('table' in line) tables.set((name = line.table), []);
      else if ('row' in line) tables.get(name)!.push(JSON.stringify(line.row));
    }
  });
  await db.destroy();
  return new Map([...tables].map(([table, rows]) => [table, rows.toSorted()]));
}

/** A rebuild in which the programs were never turned away: a restored database knows them. */
async function compare(site: TestSite, programs: (FakeAgent | FakeServer)[], without: string[] = []) {
  for (const program of programs) await program.send();
  await site.api('POST', '/rebuild', { without });
  for (const program of programs) await reportAndTell(program);
  for (let tries = 0; tries < 5; tries++) {
    const view = await site.api<RebuildView>('POST', '/rebuild', { without });
    if (view.state === 'none') return view;
  }
  throw new Error((await site.api<RebuildView>('GET', '/rebuild')).missing.join('; '));
}

test('from SQLite to PostgreSQL and back: every row as it was, but what only held for the running manager', async () => {
  await using cluster = await TestPostgresql.start();
  await using sites = await twoSites();
  await protectLedger(sites);
  const { east } = sites;
  await east.stop();
  const path = await backUp(east);
  const before = await rowsOf(east.config.databaseUrl);
  const url = await cluster.database();
  const dataDirectory = join(east.directory, 'there');
  await restoreBackup({ ...east.config, dataDirectory, databaseUrl: url }, { path, passphrase, nowMs: 1 });
  const there = await rowsOf(url);
  for (const [table, rows] of before) {
    // These say that it was restored, and what was ordered is not any more.
    if (!['settings', 'events', 'tasks'].includes(table)) assert.deepEqual(there.get(table), rows, table);
    else assert(there.get(table)!.length >= rows.length, table);
  }
  assert.equal(await readFile(join(dataDirectory, 'ca.key.pem'), 'utf8'), await keyOf(east));
  const config = { ...east.config, dataDirectory, databaseUrl: url };
  const back = join(east.directory, 'back.apbackup');
  await makeBackup(config, { path: back, passphrase, nowMs: 2 });
  const home = join(east.directory, 'home');
  const sqlite = `sqlite:${join(home, 'manager.db')}`;
  // A manager of a package has a user of its own, and a restore is root's.
  await mkdir(home);
  await chown(home, NOBODY, NOBODY);
  await restoreBackup(
    { ...config, dataDirectory: home, databaseUrl: sqlite },
    { path: back, passphrase, nowMs: 3 },
  );
  assert.deepEqual((await rowsOf(sqlite)).get('replicas'), before.get('replicas'));
  for (const name of await readdir(home)) {
    const { gid, uid } = await stat(join(home, name));
    assert.deepEqual([name, uid, gid], [name, NOBODY, NOBODY]);
  }
});

function keyOf(site: TestSite): Promise<string> {
  return readFile(join(site.config.dataDirectory, 'ca.key.pem'), 'utf8');
}

test('a backup from before a fail-over: restored, the site keeps its epoch, and nothing is started a second time', async () => {
  await using sites = await twoSites();
  const { east, eastAgent, eastServer, west, westAgent } = sites;
  const { replica_id: replicaId } = await protectLedger(sites);
  const path = await backUp(east);
  const job = await east.api<RecoveryView>('POST', '/recoveries', { vm: 'ledger', force: true });
  await westAgent.yields(2);
  await eastServer.finish(doneTask((await eastServer.task('open_view')).id, VIEW));
  await eastServer.holds(replicaId!, [Date.now() - 1000], { epoch: 2 });
  await eastAgent.now();
  await loseEverything(east);
  await restoreBackup(east.config, { path, passphrase, nowMs: Date.now() });
  await east.restart();

  assert.equal((await east.api<RebuildView>('GET', '/rebuild')).state, 'waiting');
  await assert.rejects(east.api('POST', '/recoveries', { vm: 'ledger', force: true }), (error: Error) =>
    hasCode(error, 'unreachable'),
  );
  await assert.rejects(east.api('POST', '/rebuild/abandon'), (error: Error) => hasCode(error, 'conflict'));
  const { result } = await compare(east, [eastAgent, eastServer]);
  assert.deepEqual([result?.replicas, result?.claims], [1, 1]);
  const [fence] = (await east.api<Page<FenceView>>('GET', '/fences')).items;
  assert.deepEqual([fence?.epoch, fence?.is_here], [2, true]);
  const replicas = (await east.api<Page<ReplicaView>>('GET', '/replicas')).items;
  assert.deepEqual(
    replicas.map(({ id, state, epoch }) => [id, state, epoch]),
    [[replicaId, 'recovered', 2]],
  );
  const { tasks } = await eastAgent.now();
  assert.deepEqual(tasks, [], 'nobody is told to start anything');
  await assert.rejects(east.api('GET', `/recoveries/${job.id}`), (error: Error) =>
    hasCode(error, 'not_found'),
  );
  const westFence = (await west.api<Page<FenceView>>('GET', '/fences')).items[0];
  assert.equal(westFence?.epoch, 2);
});

test('a recovery that was under way in the backup is not carried on', async () => {
  await using sites = await twoSites();
  const { east, eastAgent, eastServer, westAgent } = sites;
  await protectLedger(sites);
  const job = await east.api<RecoveryView>('POST', '/recoveries', { vm: 'ledger', force: true });
  await westAgent.yields(2);
  await eastServer.task('open_view');
  const path = await backUp(east);
  await loseEverything(east);
  await restoreBackup(east.config, { path, passphrase, nowMs: Date.now() });
  await east.restart();
  await compare(east, [eastAgent, eastServer]);
  const view = await east.api<RecoveryView>('GET', `/recoveries/${job.id}`);
  assert.equal(view.state, 'failed');
  assert.match(view.failure?.message ?? '', /under way in a backup/);
  assert.deepEqual((await eastServer.now()).tasks, []);
});

test('nothing is written over: not a database, not the identity of another site, not from a damaged file', async () => {
  await using east = await TestSite.start('east');
  await using west = await TestSite.start('west');
  const path = await backUp(east);
  const options = { path, passphrase, nowMs: 1 };
  await assert.rejects(restoreBackup(east.config, options), (error: Error) =>
    hasCode(error, 'already_exists'),
  );
  await assert.rejects(restoreBackup(west.config, options), /of site east, not of west/);
  const foreign = { ...west.config, siteName: 'east' };
  await assert.rejects(restoreBackup(foreign, options), /is of another site/);
  const empty = {
    ...east.config,
    dataDirectory: join(east.directory, 'n'),
    databaseUrl: `sqlite:${east.directory}/n/m.db`,
  };
  const bytes = await readFile(path);
  bytes[bytes.length - 40]! ^= 4;
  const wrong = join(east.directory, 'wrong');
  await writeFile(wrong, bytes);
  await assert.rejects(restoreBackup(empty, { ...options, path: wrong }), /part 1 is damaged/);
  await assert.rejects(
    restoreBackup(empty, { ...options, passphrase: 'not this one, no' }),
    /another passphrase/,
  );
  assert.deepEqual(
    (await readdir(east.directory)).filter((name) => name === 'n'),
    [],
    'not even a directory',
  );
  const short = makeBackup(east.config, { path, passphrase: 'short', nowMs: 1 });
  await assert.rejects(short, (error: Error) => hasCode(error, 'usage_invalid'));
});

test('a restore that was cut off keeps the manager from starting until it is repeated', async () => {
  await using east = await TestSite.start('east');
  const path = await backUp(east);
  await loseEverything(east);
  await restoreBackup(east.config, { path, passphrase, nowMs: 1 });
  // As it is after a kill between the database's name and the last file.
  const { salt } = JSON.parse(/\{.*?\}/.exec((await readFile(path)).toString('latin1'))![0]) as {
    salt: string;
  };
  await writeFile(join(east.config.dataDirectory, UNFINISHED), salt);
  await rm(join(east.config.dataDirectory, 'ca.key.pem'));
  await assert.rejects(east.restart(), /begun and not finished/);
  await restoreBackup(east.config, { path, passphrase, nowMs: 1 });
  await east.restart();
  assert.equal((await east.api<RebuildView>('GET', '/rebuild')).state, 'waiting');
});
