/**
 * Puts a backup in the place of a manager that has lost its database, or of one that never was. What programs and
 * paired sites have done since is not in it: the manager waits for `antipode rebuild` before it orders anything.
 *
 * Invariants: the whole file is read and believed before anything is written; a database with anything in it is not
 * touched; a restore that was killed leaves none, and a manager that refuses to start until it is repeated.
 */
import { access, chown, mkdir, open, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Check } from 'typebox/value';
import { sql, type Transaction } from 'kysely';
import { Failure } from '#/lib/failure.ts';
import { silentLog } from '#/lib/log.ts';
import type { ManagerConfig } from '#/manager/manager-config.ts';
import { readFileIfThere, writeSecretFile } from '#/manager/secret-file.ts';
import { connectDatabase, kindOf, migrate, type Database } from '#/manager/store/database.ts';
import { MIGRATIONS, type DatabaseKind } from '#/manager/store/migrations.ts';
import type { Schema } from '#/manager/store/schema.ts';
import { readHead, readParts, sealOf, type BackupHead, type ReadBytes } from './backup-format.ts';
import { BackupLine, tablesOf, type Cell, type TableShape } from './dump.ts';
import { IDENTITY_FILES } from './backup.ts';
import { settleRestored } from './settle-restored.ts';

export const UNFINISHED = 'restore.unfinished';
const ROWS_AT_ONCE = 50;

export type Restored = { site_name: string; created_ms: number; tables: number; rows: number };

/** Throws storage_corrupt, unauthenticated, protocol_unsupported, already_exists, conflict, unreachable. */
export async function restoreBackup(
  config: ManagerConfig,
  options: { path: string; passphrase: string; nowMs: number },
): Promise<Restored> {
  const { nowMs, passphrase, path } = options;
  const { files, head } = await proveBackup(path, passphrase);
  if (head.site_name !== config.siteName) {
    throw new Failure('conflict', `the backup is of site ${head.site_name}, not of ${config.siteName}`, {
      hint: 'Restore it with the configuration that its manager had: site_name is fixed.',
    });
  }
  await mkdir(config.dataDirectory, { recursive: true, mode: 0o700 });
  const marker = join(config.dataDirectory, UNFINISHED);
  const isRepeated = (await readFileIfThere(marker)) === head.salt;
  if (!isRepeated) await checkIdentity(config.dataDirectory, files);
  const place = new Place(config.databaseUrl);
  const before = await place.state();
  if (before !== 'empty' && !(isRepeated && before === head.salt)) {
    throw new Failure(
      'already_exists',
      'the database has something in it: a restore never writes over anything',
      {
        hint: 'Stop the manager and move its database away first (manager.db, -wal, -shm), or make a new one.',
      },
    );
  }
  await writeSecretFile(marker, head.salt);
  let counts = { tables: 0, rows: 0 };
  if (before === 'empty') {
    counts = await place.fill({
      begin: (db, kind) => migrate(db, kind, head.migrations.at(-1)),
      rows: (at, kind) => fill(at, kind, readBackup(path, passphrase)),
      end: (db, kind) => migrate(db, kind),
      settle: (at) => settleRestored(at, { head, nowMs }),
    });
  }
  for (const [name, text] of files) await writeSecretFile(join(config.dataDirectory, name), text);
  const written = [...files.keys()].map((name) => join(config.dataDirectory, name));
  await giveToOwner(config.dataDirectory, [...written, ...place.files]);
  await rm(marker);
  return { site_name: head.site_name, created_ms: head.created_ms, ...counts };
}

/** A manager calls it before it does anything else. Throws config_invalid. */
export async function checkRestoreFinished(dataDirectory: string): Promise<void> {
  if ((await readFileIfThere(join(dataDirectory, UNFINISHED))) === undefined) return;
  throw new Failure('config_invalid', 'a restore of this site was begun and not finished', {
    hint: 'Repeat it, with the same file: antipode restore --help',
  });
}

/** Reads all of it once, and believes it or not. */
export async function proveBackup(
  path: string,
  passphrase: string,
): Promise<{ head: BackupHead; files: Map<string, string> }> {
  const files = new Map<string, string>();
  let found: BackupHead | undefined;
  let rows = 0;
  let tables = 0;
  let end: { tables: number; rows: number } | undefined;
  for await (const { head, line } of readBackup(path, passphrase)) {
    found = head;
    if ('file' in line) files.set(line.file, line.text);
    else if ('table' in line) tables++;
    else if ('row' in line) rows++;
    else end = line.end;
  }
  const isWhole = end?.rows === rows && end.tables === tables;
  const isOurs = [...files.keys()].every((name) => (IDENTITY_FILES as readonly string[]).includes(name));
  if (found === undefined || !isWhole || !isOurs || !files.has('site.json')) {
    throw new Failure('storage_corrupt', `read the backup ${path}: it does not hold what it says it holds`);
  }
  const newer = found.migrations.filter((name) => !Object.hasOwn(MIGRATIONS, name));
  if (newer.length > 0) {
    const message = `the backup is of version ${found.version}, which has tables that this one does not know`;
    throw new Failure('protocol_unsupported', message, {
      hint: `Install version ${found.version} or newer.`,
    });
  }
  return { head: found, files };
}

async function* readBackup(
  path: string,
  passphrase: string,
): AsyncGenerator<{ head: BackupHead; line: BackupLine }> {
  await using file = await opened(path);
  const read: ReadBytes = async (bytes) => {
    const buffer = Buffer.alloc(bytes);
    let filled = 0;
    while (filled < bytes) {
      const { bytesRead } = await file.read(buffer, filled, bytes - filled);
      if (bytesRead === 0) break;
      filled += bytesRead;
    }
    return buffer.subarray(0, filled);
  };
  const { encoded, head } = await readHead(read);
  const seal = await sealOf(passphrase, head, encoded);
  for await (const part of readParts(read, seal)) {
    for (const text of part.toString().split('\n')) {
      if (text === '') continue;
      const line: unknown = JSON.parse(text);
      if (!Check(BackupLine, line))
        throw new Failure('storage_corrupt', `read the backup ${path}: a line is none`);
      yield { head, line };
    }
  }
}

async function opened(path: string) {
  try {
    return await open(path, 'r');
  } catch (error) {
    throw new Failure('usage_invalid', `open the backup ${path}`, { cause: error });
  }
}

/** Another site's identity is never replaced; the same one may be here still. */
async function checkIdentity(directory: string, files: ReadonlyMap<string, string>): Promise<void> {
  for (const name of ['site.json', 'ca.pem', 'ca.key.pem']) {
    const text = await readFileIfThere(join(directory, name));
    if (text === undefined || text === files.get(name)) continue;
    throw new Failure('conflict', `${directory}/${name} is of another site than the backup`, {
      hint: 'Restore into an empty data_directory, or move that site away first.',
    });
  }
}

type Steps<T> = {
  begin: (db: Database, kind: DatabaseKind) => Promise<void>;
  rows: (at: Transaction<Schema>, kind: DatabaseKind) => Promise<T>;
  end: (db: Database, kind: DatabaseKind) => Promise<void>;
  settle: (at: Transaction<Schema>) => Promise<void>;
};

async function inTurn<T>(at: Transaction<Schema>, steps: Steps<T>): Promise<T> {
  await steps.begin(at, 'postgresql');
  const rows = await steps.rows(at, 'postgresql');
  await steps.end(at, 'postgresql');
  await steps.settle(at);
  return rows;
}

async function using<T>(url: string, work: (db: Database) => Promise<T>): Promise<T> {
  const db = connectDatabase(url, silentLog);
  try {
    return await work(db);
  } finally {
    await db.destroy();
  }
}

/** Where the database goes: a file that gets its name at the end, or one transaction. */
class Place {
  readonly #url: string;
  readonly #kind: DatabaseKind;

  constructor(url: string) {
    this.#url = url;
    this.#kind = kindOf(url);
  }

  /** `empty`, or the salt of the backup that it was filled from, or what is there. */
  async state(): Promise<string> {
    if (this.#kind === 'sqlite' && !(await isThere(this.#path))) return 'empty';
    const db = connectDatabase(this.#url, silentLog, { readOnly: true });
    try {
      const tables = await tablesOf(db);
      if (tables.length === 0) return 'empty';
      if (!tables.some(({ name }) => name === 'settings')) return 'something else';
      const { rows } = await sql<{
        value: string;
      }>`select value from settings where name = 'restored_backup'`.execute(db);
      return rows[0]?.value ?? 'a site';
    } finally {
      await db.destroy();
    }
  }

  async fill<T>(steps: Steps<T>): Promise<T> {
    if (this.#kind === 'postgresql') {
      return using(this.#url, (db) => db.transaction().execute((at) => inTurn(at, steps)));
    }
    const beside = `${this.#path}.restoring`;
    for (const end of ['', '-wal', '-shm', '-journal']) await rm(`${beside}${end}`, { force: true });
    await mkdir(dirname(this.#path), { recursive: true, mode: 0o700 });
    // Closing the last connection to a file of SQLite brings its log into it.
    const filled = await using(`sqlite:${beside}`, async (db) => {
      // Tables of SQLite are made outside of transactions; the file has no name yet.
      await steps.begin(db, 'sqlite');
      const rows = await db.transaction().execute((at) => steps.rows(at, 'sqlite'));
      await steps.end(db, 'sqlite');
      await db.transaction().execute((at) => steps.settle(at));
      return rows;
    });
    await using file = await open(beside, 'r+');
    await file.sync();
    await rename(beside, this.#path);
    await using directory = await open(dirname(this.#path), 'r');
    await directory.sync();
    return filled;
  }

  /** Of SQLite: a database is somebody's as any file is. */
  get files(): string[] {
    return this.#kind === 'sqlite' ? [this.#path] : [];
  }

  get #path(): string {
    return this.#url.slice('sqlite:'.length);
  }
}

/** A restore is root's, and the manager may have a user of its own: whom its directory belongs to. */
async function giveToOwner(directory: string, paths: readonly string[]): Promise<void> {
  const { gid, uid } = await stat(directory);
  for (const path of paths) {
    const own = await stat(path);
    if (own.uid !== uid || own.gid !== gid) await chown(path, uid, gid);
  }
}

async function isThere(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
}

type Lines = AsyncIterable<{ line: BackupLine }>;

async function fill(
  at: Transaction<Schema>,
  kind: DatabaseKind,
  lines: Lines,
): Promise<{ tables: number; rows: number }> {
  const known = new Map((await tablesOf(at)).map((table) => [table.name, table]));
  // What a migration puts into new tables is in the backup as well.
  for (const name of known.keys()) await sql`delete from ${sql.table(name)}`.execute(at);
  let counts = { tables: 0, rows: 0 };
  let table: TableShape | undefined;
  let rows: Cell[][] = [];
  const put = async (): Promise<void> => {
    if (table !== undefined && rows.length > 0) await insert(at, kind, { table, rows });
    rows = [];
  };
  for await (const { line } of lines) {
    if ('table' in line) {
      await put();
      table = { name: line.table, columns: line.columns };
      const there = known.get(line.table)?.columns ?? [];
      if (there.join() !== line.columns.join()) {
        throw new Failure('storage_corrupt', `restore the table ${line.table}: it has other columns here`);
      }
    } else if ('row' in line) {
      rows.push(line.row);
      if (rows.length >= ROWS_AT_ONCE) await put();
    } else if ('end' in line) counts = line.end;
  }
  await put();
  if (kind === 'postgresql') await raiseSequences(at);
  return counts;
}

async function insert(
  at: Transaction<Schema>,
  kind: DatabaseKind,
  { rows, table }: { table: TableShape; rows: Cell[][] },
): Promise<void> {
  const columns = sql.join(table.columns.map((column) => sql.ref(column)));
  const values = sql.join(rows.map((row) => sql`(${sql.join(row)})`));
  // Numbers that the database gives by itself come back as they were.
  const own = sql.raw(kind === 'postgresql' ? 'overriding system value' : '');
  await sql`insert into ${sql.table(table.name)} (${columns}) ${own} values ${values}`.execute(at);
}

async function raiseSequences(at: Transaction<Schema>): Promise<void> {
  const { rows } = await sql<{ table_name: string; column_name: string }>`
    select table_name, column_name from information_schema.columns
    where table_schema = current_schema() and is_identity = 'YES'`.execute(at);
  for (const { column_name: column, table_name: table } of rows) {
    await sql`select setval(pg_get_serial_sequence(${table}, ${column}),
      (select coalesce(max(${sql.ref(column)}), 0) + 1 from ${sql.table(table)}), false)`.execute(at);
  }
}
