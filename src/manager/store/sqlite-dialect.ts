/**
 * Kysely over node:sqlite. One connection, and whoever has acquired it holds it until release: a transaction's
 * statements are never mixed with another's, which is what PostgreSQL gives by itself.
 */
import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite';
import {
  CompiledQuery,
  SqliteAdapter,
  SqliteIntrospector,
  SqliteQueryCompiler,
  type DatabaseConnection,
  type Dialect,
  type Driver,
  type QueryResult,
} from 'kysely';

/** Compiled statements that are kept; the manager has fewer distinct ones than this. */
const STATEMENTS_MAX = 500;

/** `readOnly`: of a database that another process owns; nothing about it is changed. */
export function sqliteDialect(path: string, options: { readOnly?: boolean } = {}): Dialect {
  return {
    createAdapter: () => new SqliteAdapter(),
    createDriver: () => new SqliteDriver(path, options.readOnly === true),
    createIntrospector: (db) => new SqliteIntrospector(db),
    createQueryCompiler: () => new SqliteQueryCompiler(),
  };
}

class SqliteDriver implements Driver {
  readonly #path: string;
  readonly #isReadOnly: boolean;
  #connection: SqliteConnection | undefined;
  /** Settles when the connection is free; each waiter chains itself behind the one before. */
  #turn: Promise<void> = Promise.resolve();
  #release: (() => void) | undefined;

  constructor(path: string, isReadOnly: boolean) {
    this.#path = path;
    this.#isReadOnly = isReadOnly;
  }

  async init(): Promise<void> {
    const database = new DatabaseSync(this.#path, { timeout: 5000, readOnly: this.#isReadOnly });
    this.#connection = new SqliteConnection(database);
    if (this.#isReadOnly) return;
    // An acknowledged change survives power loss: with WAL, only FULL syncs the log at every commit.
    database.exec('pragma journal_mode = wal; pragma synchronous = full; pragma foreign_keys = on');
  }

  async acquireConnection(): Promise<DatabaseConnection> {
    const before = this.#turn;
    let release: (() => void) | undefined;
    this.#turn = new Promise((resolve) => (release = resolve));
    await before;
    this.#release = release;
    return this.#connection!;
  }

  async releaseConnection(): Promise<void> {
    this.#release?.();
  }

  async beginTransaction(connection: DatabaseConnection): Promise<void> {
    const begin = this.#isReadOnly ? 'begin' : 'begin immediate';
    await connection.executeQuery(CompiledQuery.raw(begin));
  }

  async commitTransaction(connection: DatabaseConnection): Promise<void> {
    await connection.executeQuery(CompiledQuery.raw('commit'));
  }

  async rollbackTransaction(connection: DatabaseConnection): Promise<void> {
    await connection.executeQuery(CompiledQuery.raw('rollback'));
  }

  async destroy(): Promise<void> {
    this.#connection?.close();
  }
}

class SqliteConnection implements DatabaseConnection {
  readonly #database: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();

  constructor(database: DatabaseSync) {
    this.#database = database;
  }

  async executeQuery<Row>(query: CompiledQuery): Promise<QueryResult<Row>> {
    const statement = this.#prepare(query.sql);
    const parameters = query.parameters as SQLInputValue[];
    if (statement.columns().length > 0) return { rows: statement.all(...parameters) as Row[] };
    const { changes } = statement.run(...parameters);
    return { rows: [], numAffectedRows: BigInt(changes) };
  }

  // Nothing streams: every list of the manager is paged.
  // oxlint-disable-next-line require-yield
  async *streamQuery<Row>(): AsyncIterableIterator<QueryResult<Row>> {
    throw new Error('the manager reads pages, not streams');
  }

  close(): void {
    this.#statements.clear();
    this.#database.close();
  }

  #prepare(sql: string): StatementSync {
    const known = this.#statements.get(sql);
    if (known !== undefined) return known;
    if (this.#statements.size >= STATEMENTS_MAX) this.#statements.clear();
    const statement = this.#database.prepare(sql);
    this.#statements.set(sql, statement);
    return statement;
  }
}
