/**
 * Opens the manager's database: SQLite in its data directory, or PostgreSQL by a URL, migrated to this version.
 *
 * Either way there is one connection, so transactions follow each other and a reader of events by their sequence
 * never meets a gap that fills up later.
 */
import { Kysely, PostgresDialect } from 'kysely';
import { Migrator } from 'kysely/migration';
import { Pool, types } from 'pg';
import { describe, Failure } from '#/lib/failure.ts';
import { failureFields, type Log } from '#/lib/log.ts';
import { MIGRATIONS, type DatabaseKind } from './migrations.ts';
import type { Schema } from './schema.ts';
import { sqliteDialect } from './sqlite-dialect.ts';

export type Database = Kysely<Schema>;

/** PostgreSQL's name for bigint; milliseconds and bytes here are safe integers. */
const INT8 = 20;

/** `url` is `sqlite:PATH` or `postgresql://...`. Throws config_invalid, unreachable, storage_io. */
export async function openDatabase(url: string, log: Log): Promise<Database> {
  const db = connectDatabase(url, log);
  try {
    await migrate(db, kindOf(url));
    return db;
  } catch (error) {
    await db.destroy();
    throw error;
  }
}

/** As it is, not migrated. `readOnly`: a file of SQLite is not written in any way. */
export function connectDatabase(url: string, log: Log, options: { readOnly?: boolean } = {}): Database {
  return new Kysely<Schema>({
    dialect:
      kindOf(url) === 'sqlite'
        ? sqliteDialect(url.slice('sqlite:'.length), options)
        : postgresDialect(url, log),
  });
}

export function kindOf(url: string): DatabaseKind {
  if (url.startsWith('sqlite:')) return 'sqlite';
  if (/^postgres(ql)?:\/\//.test(url)) return 'postgresql';
  throw new Failure('config_invalid', 'database_url is neither sqlite:PATH nor postgresql://HOST/DATABASE');
}

function postgresDialect(url: string, log: Log): PostgresDialect {
  const pool = new Pool({
    connectionString: url,
    max: 1,
    connectionTimeoutMillis: 10_000,
    types: {
      getTypeParser: ((id: number, format: 'text') =>
        id === INT8 ? Number : types.getTypeParser(id, format)) as typeof types.getTypeParser,
    },
  });
  // An idle connection that breaks is replaced by the next query; without a listener it would end the process.
  pool.on('error', (error) => log.warning('database.connection_lost', failureFields(error)));
  return new PostgresDialect({ pool });
}

/** To this version, or as far as the step `target`. */
export async function migrate(db: Database, kind: DatabaseKind, target?: string): Promise<void> {
  const migrator = new Migrator({
    db,
    provider: {
      getMigrations: async () =>
        Object.fromEntries(
          Object.entries(MIGRATIONS).map(([name, up]) => [
            name,
            { up: (at: Kysely<unknown>) => up(at, kind) },
          ]),
        ),
    },
  });
  const { error } = await (target === undefined ? migrator.migrateToLatest() : migrator.migrateTo(target));
  if (error === undefined) return;
  const text = describe(error);
  if (text.includes('corrupted migrations')) {
    throw new Failure('config_invalid', 'the database was written by a newer manager', {
      cause: error,
      hint: 'Run the newer version, or restore a backup from before it.',
    });
  }
  throw new Failure('unreachable', `prepare the ${kind} database`, {
    cause: error,
    hint: 'Check database_url, and that the database answers and its user may create tables.',
  });
}
