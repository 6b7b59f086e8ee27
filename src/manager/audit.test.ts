/** The audit log: whole on both databases, with two managers, when it is archived, and after a kill. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { suite, test } from 'node:test';
import { AuditChain, auditHash, GENESIS, type AuditRow } from '#/api/audit.ts';
import { requestJson } from '#/cli/http-json.ts';
import { silentLog } from '#/lib/log.ts';
import { firstAdministrator, PASSWORD, TestBrowser } from './access/site-browser-fixture.ts';
import { Audit } from './audit.ts';
import { sqliteIn } from './manager-config.ts';
import { TestSite } from './site-fixture.ts';
import { appendAudit, auditAfter, auditHead } from './store/audit-store.ts';
import { openDatabase, type Database } from './store/database.ts';
import { TestPostgresql } from './store/postgresql-fixture.ts';

const MAIN = new URL('main.ts', import.meta.url).pathname;
const ENTRY = {
  at_ms: 1_790_000_000_000,
  actor: 'alice',
  by: 'session',
  address: '192.0.2.1',
  action: 'POST /api/v1/runs',
  subject: 'plan=shop',
  outcome: 'ok',
  reason: null,
  begun: null,
};

contract('SQLite', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'antipode-audit-'));
  return {
    url: `sqlite:${join(directory, 'manager.db')}`,
    end: () => rm(directory, { recursive: true, force: true }),
  };
});

contract('PostgreSQL', async () => {
  const cluster = await TestPostgresql.start();
  return { url: await cluster.database(), end: () => cluster[Symbol.asyncDispose]() };
});

function contract(kind: string, start: () => Promise<{ url: string; end: () => Promise<void> }>): void {
  suite(`the audit log on ${kind}`, () => {
    test('rows of two managers at the same time are one chain without a gap', async () => {
      const place = await start();
      const first = await openDatabase(place.url, silentLog);
      // SQLite is one process's: what comes at the same time there comes from the same manager.
      const second = kind === 'SQLite' ? first : await openDatabase(place.url, silentLog);
      const managers = [first, second];
      try {
        const appends = Array.from({ length: 60 }, (_, i) =>
          appendAudit(managers[i % 2]!, { ...ENTRY, actor: `manager ${i % 2}`, reason: `why ${i} “ü”` }),
        );
        const numbers = await Promise.all(appends);
        assert.deepEqual(new Set(numbers), new Set(Array.from({ length: 60 }, (_, i) => i + 1)));
        const rows = await auditAfter(managers[0]!, 0, 1000);
        assert.deepEqual(broken(rows), []);
        assert(
          rows.some(({ actor }) => actor === 'manager 0') && rows.some((row) => row.actor === 'manager 1'),
        );
        assert.deepEqual({ ...(await auditHead(second)) }, { sequence: 60, hash: rows.at(-1)!.hash });

        await assertTamperingShows(managers[0]!);
      } finally {
        for (const manager of new Set(managers)) await manager.destroy();
        await place.end();
      }
    });
  });
}

/** Each change that somebody could make in the database, in a transaction that is taken back. */
async function assertTamperingShows(db: Database): Promise<void> {
  const edits: Record<string, (at: Database) => Promise<unknown>> = {
    'another actor': (at) =>
      at.updateTable('audit').set({ actor: 'bob' }).where('sequence', '=', 7).execute(),
    'another outcome': (at) =>
      at.updateTable('audit').set({ outcome: 'forbidden' }).where('sequence', '=', 60).execute(),
    'no reason': (at) => at.updateTable('audit').set({ reason: null }).where('sequence', '=', 1).execute(),
    'a row less': (at) => at.deleteFrom('audit').where('sequence', '=', 30).execute(),
    'the first rows less': (at) => at.deleteFrom('audit').where('sequence', '<=', 5).execute(),
    'the last rows less': (at) => at.deleteFrom('audit').where('sequence', '>', 55).execute(),
    'all rows less': (at) => at.deleteFrom('audit').execute(),
    'a row more': (at) =>
      at
        .insertInto('audit')
        .values({ ...ENTRY, sequence: 61, hash: 'f'.repeat(64) })
        .execute()
        .then(() => at.updateTable('audit_chain').set({ sequence: 61 }).execute()),
    'a row with a hash of its own': async (at) => {
      const [row] = await auditAfter(at, 19, 1);
      const [before] = await auditAfter(at, 18, 1);
      const forged = { ...row!, actor: 'bob' };
      const hash = auditHash(before!.hash, forged);
      await at.updateTable('audit').set({ actor: 'bob', hash }).where('sequence', '=', 20).execute();
    },
  };
  class TakeBack extends Error {}
  for (const [what, edit] of Object.entries(edits)) {
    const changed = db.transaction().execute(async (at) => {
      await edit(at);
      const audit = new Audit({ db: at, identity: { managerId: 'manager-1' } } as never);
      const found = await audit.verify();
      assert.equal(found.is_whole, false, what);
      assert(found.problems.length > 0, what);
      throw new TakeBack();
    });
    await assert.rejects(changed, TakeBack, what);
  }
}

function broken(rows: readonly AuditRow[]): string[] {
  const chain = new AuditChain({ sequence: 0, hash: GENESIS });
  return rows.map((row) => chain.next(row)).filter((problem) => problem !== undefined);
}

test('who does something, from where, why and with which outcome is on record, also what is refused', async () => {
  await using site = await TestSite.start('west');
  const alice = await firstAdministrator(site);
  const reason = encodeURIComponent('Übung: Störung 4711');
  const headers = { 'antipode-reason': reason };
  await alice.ask('POST', '/users', {
    body: { name: 'bob', password: PASSWORD, grants: [{ role: 'read-only' }] },
    headers,
  });
  const bob = new TestBrowser(site);
  await bob.login('bob');
  await bob.ask('POST', '/join-tokens', { body: { kind: 'agent' } });
  await bob.ask('GET', '/status');
  await bob.login('bob', 'not the right words');
  const bad = await alice.ask('POST', '/join-tokens', {
    body: { kind: 'agent' },
    headers: { 'antipode-reason': '%ff' },
  });
  assert.equal(bad.code, 'usage_invalid', 'nothing is done for a reason that cannot be read');
  await site.api('POST', '/join-tokens', { kind: 'agent' });

  const { items } = await site.api<{ items: AuditRow[] }>('GET', '/audit?limit=100');
  const told = items
    .toReversed()
    .map((row) => [
      row.actor,
      row.by,
      row.action.replace('/api/v1', ''),
      row.subject,
      row.outcome,
      row.reason,
    ]);
  assert.deepEqual(told, [
    ['root', 'socket', 'POST /first-links', '', 'ok', null],
    ['alice', 'password', 'POST /first-administrator', 'name=alice', 'ok', null],
    ['alice', 'session', 'POST /users', 'name=bob', 'ok', 'Übung: Störung 4711'],
    ['bob', 'password', 'POST /login', 'name=bob', 'ok', null],
    ['bob', 'session', 'POST /join-tokens', '', 'forbidden', null],
    ['bob', 'password', 'POST /login', 'name=bob', 'unauthenticated', null],
    ['alice', 'session', 'POST /join-tokens', 'kind=agent', 'usage_invalid', null],
    ['root', 'socket', 'POST /join-tokens', 'kind=agent', 'ok', null],
  ]);
  assert(
    items.every(({ address, by }) => (by === 'socket' ? address === 'unix' : address.endsWith('127.0.0.1'))),
  );
  const all = await auditAfter(site.manager.context.db, 0, 1000);
  assert(!JSON.stringify(all).includes(PASSWORD), 'no password is on record');
  const begun = all.find(({ outcome, action }) => outcome === 'begun' && action.endsWith('/users'))!;
  assert.equal(all.find((row) => row.begun === begun.sequence)?.outcome, 'ok');
  const verified = await site.api('GET', '/audit/verification');
  assert.equal(verified['is_whole'], true, String(verified['problems']));
});

test('rows that there is no room for go into archives, and the chain goes on through them', async () => {
  await using site = await TestSite.start('west');
  const { context } = site.manager;
  const limits = { rowsMax: 30, archiveRows: 20 };
  const audit = new Audit(context, limits);
  for (let i = 0; i < 100; i++) await audit.end({ ...ENTRY, reason: `why ${i}` }, 'ok', null);
  const directory = join(context.config.dataDirectory, 'audit');
  const files = (await readdir(directory)).toSorted((a, b) => a.localeCompare(b));
  assert.deepEqual(files, [
    'audit-0000000001-0000000020.jsonl',
    'audit-0000000021-0000000040.jsonl',
    'audit-0000000041-0000000060.jsonl',
  ]);
  const kept = await auditAfter(context.db, 0, 1000);
  assert.equal(kept[0]?.sequence, 61);
  const archived = await Promise.all(files.map((file) => readFile(join(directory, file), 'utf8')));
  const lines = archived.join('').trimEnd().split('\n');
  assert.deepEqual(broken([...lines.map((line) => JSON.parse(line) as AuditRow), ...kept]), []);
  const verified = await audit.verify();
  assert.equal(verified.is_whole, true, verified.problems.join());
  assert.deepEqual(new Set(verified.archives.map(({ state }) => state)), new Set(['whole']));

  const changed = archived[1]!.replace('why 30', 'why 31');
  await writeFile(join(directory, files[1]!), changed);
  const after = await audit.verify();
  assert.equal(after.is_whole, false);
  assert.match(after.problems.join(), /0000000021-0000000040.jsonl is not what was written/);
  // Also when its hash in the database is made to fit.
  const hash = createHash('sha256').update(changed).digest('hex');
  const fit = context.db.updateTable('audit_archives').set({ sha256: hash });
  await fit.where('file', '=', files[1]!).execute();
  assert.match((await audit.verify()).problems.join(), /row 31 is not what it was when it was written/);
});

test('after kill -9 the chain is whole, and whatever was answered is on record', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'antipode-audit-kill-'));
  const socketPath = join(directory, 'manager.sock');
  const answered: string[] = [];
  const databaseUrl = sqliteIn(join(directory, 'data'));
  try {
    for (let round = 0; round < 3; round++) {
      const child = await managerProcess(directory, socketPath, databaseUrl);
      const exited = once(child, 'exit');
      const asked = Array.from({ length: 40 }, async (_, i) => {
        const headers = { 'antipode-reason': `${round}-${i}` };
        const call = {
          method: 'POST',
          path: '/api/v1/join-tokens',
          body: { kind: 'agent' },
          headers,
        } as const;
        await requestJson({ kind: 'unix', socketPath }, call);
        answered.push(`${round}-${i}`);
        // In the middle of those that are still under way.
        if (answered.length % 10 === 7) child.kill('SIGKILL');
      });
      await Promise.allSettled(asked);
      child.kill('SIGKILL');
      await exited;
    }
    assert(answered.length >= 3 && answered.length < 120, `${answered.length} were answered`);
    const db = await openDatabase(databaseUrl, silentLog);
    const rows = await auditAfter(db, 0, 1000);
    assert.deepEqual(broken(rows), []);
    assert.deepEqual({ ...(await auditHead(db)) }, { sequence: rows.length, hash: rows.at(-1)!.hash });
    const done = new Set(rows.filter(({ outcome }) => outcome === 'ok').map(({ reason }) => reason));
    for (const reason of answered) assert(done.has(reason), `${reason} was answered, and is not on record`);
    const tokens = await db.selectFrom('admission_tokens').selectAll().execute();
    const begun = rows.filter(({ outcome }) => outcome === 'begun');
    assert(begun.length >= tokens.length, 'nothing was done that had not been begun on record');
    await db.destroy();
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});

async function managerProcess(directory: string, socketPath: string, databaseUrl: string) {
  const path = join(directory, 'manager.json');
  const config = {
    data_directory: join(directory, 'data'),
    site_name: 'east',
    listen: { host: '127.0.0.1', port: 0 },
    advertised_host: '127.0.0.1',
    socket_path: socketPath,
    database_url: databaseUrl,
  };
  await writeFile(path, JSON.stringify(config));
  const child = spawn(process.execPath, [MAIN, '--config', path], { stdio: ['ignore', 'ignore', 'pipe'] });
  for await (const line of createInterface({ input: child.stderr })) {
    if (line.includes('"event":"manager.ready"')) break;
  }
  child.stderr.resume();
  return child;
}
