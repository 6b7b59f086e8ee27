/** Each migration, from a database of the version before with something in it. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Kysely, sql } from 'kysely';
import { Migrator } from 'kysely/migration';
import { AuditChain, GENESIS } from '#/api/audit.ts';
import { silentLog } from '#/lib/log.ts';
import { appendAudit, auditAfter } from './audit-store.ts';
import { listClaims } from './claim-store.ts';
import { openDatabase } from './database.ts';
import { findJob } from './job-store.ts';
import { MIGRATIONS } from './migrations.ts';
import { listProtections } from './protection-store.ts';
import type { Schema } from './schema.ts';
import { sqliteDialect } from './sqlite-dialect.ts';
import { hasUser } from './user-store.ts';

test('a database of the first version keeps its recoveries, and knows of no claim yet', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'antipode-migrations-'));
  try {
    const path = join(directory, 'manager.db');
    const old = new Kysely<Schema>({ dialect: sqliteDialect(path) });
    const first = MIGRATIONS['0001-first-tables']!;
    const provider = {
      getMigrations: async () => ({
        '0001-first-tables': { up: (at: Kysely<unknown>) => first(at, 'sqlite') },
      }),
    };
    const { error } = await new Migrator({ db: old, provider }).migrateToLatest();
    assert.equal(error, undefined);
    const job = { id: 'job-1', kind: 'recovery' as const, replica_id: 'r', request: '{}', state: 'done' };
    await old
      .insertInto('jobs')
      .values({ ...job, failure: null, created_ms: 1, updated_ms: 2 })
      .execute();
    const step = { job_id: 'job-1', position: 0, name: 'raise_epoch', state: 'done' as const };
    const times = { started_ms: 1, ended_ms: 2, failure: null };
    const bare = old as unknown as Kysely<{ job_steps: typeof step & typeof times }>;
    await bare
      .insertInto('job_steps')
      .values({ ...step, ...times })
      .execute();
    await old.destroy();

    const db = await openDatabase(`sqlite:${path}`, silentLog);
    const found = await findJob(db, 'job-1');
    assert.deepEqual(
      found?.steps.map(({ name, note }) => [name, note]),
      [['raise_epoch', null]],
    );
    assert.deepEqual(await listClaims(db), []);
    await db.destroy();
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});

test('tokens of before are their holders for everything, and a database of before has no user', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'antipode-migrations-'));
  try {
    const path = join(directory, 'manager.db');
    const old = new Kysely<Schema>({ dialect: sqliteDialect(path) });
    const before = Object.entries(MIGRATIONS).filter(([name]) => name < '0005');
    const provider = {
      getMigrations: async () =>
        Object.fromEntries(
          before.map(([name, up]) => [name, { up: (at: Kysely<unknown>) => up(at, 'sqlite') }]),
        ),
    };
    const { error } = await new Migrator({ db: old, provider }).migrateToLatest();
    assert.equal(error, undefined);
    const token = { id: 'token-1', name: 'alice', token_sha256: 'ab', created_ms: 1 };
    const bare = old as unknown as Kysely<{ api_tokens: typeof token }>;
    await bare.insertInto('api_tokens').values(token).execute();
    await old.destroy();

    const db = await openDatabase(`sqlite:${path}`, silentLog);
    const found = await db.selectFrom('api_tokens').selectAll().executeTakeFirstOrThrow();
    assert.deepEqual(JSON.parse(found.grants), [{ role: 'administrator', group_id: null }]);
    assert.equal(found.expires_ms, null);
    assert.equal(await hasUser(db), false);
    await db.destroy();
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});

test('rows of the audit log of before are chained as they stand, without the gaps that they had', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'antipode-migrations-'));
  try {
    const path = join(directory, 'manager.db');
    const old = new Kysely<Schema>({ dialect: sqliteDialect(path) });
    const before = Object.entries(MIGRATIONS).filter(([name]) => name < '0009');
    const provider = {
      getMigrations: async () =>
        Object.fromEntries(
          before.map(([name, up]) => [name, { up: (at: Kysely<unknown>) => up(at, 'sqlite') }]),
        ),
    };
    const { error } = await new Migrator({ db: old, provider }).migrateToLatest();
    assert.equal(error, undefined);
    const row = { at_ms: 1, actor: 'root', action: 'POST /api/v1/runs', subject: '', outcome: 'ok' };
    const bare = old as unknown as Kysely<{ audit: typeof row & { sequence: number } }>;
    for (const sequence of [3, 4, 9]) {
      await bare
        .insertInto('audit')
        .values({ ...row, sequence })
        .execute();
    }
    await old.destroy();

    const db = await openDatabase(`sqlite:${path}`, silentLog);
    const entry = { ...row, by: 'socket', address: 'unix', reason: null, begun: null };
    assert.equal(await appendAudit(db, entry), 4);
    const chain = new AuditChain({ sequence: 0, hash: GENESIS });
    const rows = await auditAfter(db, 0, 10);
    assert.deepEqual(
      rows.map((one) => chain.next(one)),
      [undefined, undefined, undefined, undefined],
    );
    await db.destroy();
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});

test('what was protected before has been told to the other site as it is', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'antipode-migrations-'));
  try {
    const path = join(directory, 'manager.db');
    const old = new Kysely<Schema>({ dialect: sqliteDialect(path) });
    const before = Object.entries(MIGRATIONS).filter(([name]) => name < '0010');
    const provider = {
      getMigrations: async () =>
        Object.fromEntries(
          before.map(([name, up]) => [name, { up: (at: Kysely<unknown>) => up(at, 'sqlite') }]),
        ),
    };
    const { error } = await new Migrator({ db: old, provider }).migrateToLatest();
    assert.equal(error, undefined);
    await sql`insert into protections values ('p', 'u', 'ledger', 'h', 's', '[]', 5000, 'report',
      '{"keep_all_ms":0,"tiers":[]}', 1, 'active', 'r', 1, null, 0, 1, 0)`.execute(old);
    await old.destroy();

    const db = await openDatabase(`sqlite:${path}`, silentLog);
    const [protection] = await listProtections(db);
    assert.deepEqual([protection?.rpo_ms, protection?.revision, protection?.told_revision], [5000, 1, 1]);
    await db.destroy();
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});
