/**
 * Everything that a manager knows as lines of JSON, at one moment, the same for SQLite and PostgreSQL: so a backup of
 * the one is restored into the other.
 *
 * Invariant: one transaction, in which nothing that others write meanwhile is seen; read in pages, so that neither a
 * long table nor its reader fills the memory.
 */
import { sql, type Kysely, type Transaction } from 'kysely';
import { Type, type Static } from 'typebox';
import type { Database } from '#/manager/store/database.ts';
import type { DatabaseKind } from '#/manager/store/migrations.ts';
import type { Schema } from '#/manager/store/schema.ts';

const Cell = Type.Union([Type.String(), Type.Number(), Type.Null()]);
export const BackupLine = Type.Union([
  Type.Object({ file: Type.String(), text: Type.String() }, { additionalProperties: false }),
  Type.Object({ table: Type.String(), columns: Type.Array(Type.String()) }, { additionalProperties: false }),
  Type.Object({ row: Type.Array(Cell) }, { additionalProperties: false }),
  Type.Object(
    { end: Type.Object({ tables: Type.Integer(), rows: Type.Integer() }) },
    { additionalProperties: false },
  ),
]);
export type BackupLine = Static<typeof BackupLine>;
export type Cell = Static<typeof Cell>;

const PAGE_ROWS = 500;
/** What only holds for a running manager, or lets somebody in who was let in before: it does not come back. */
const LEFT_OUT = ['leases', 'sessions', 'admission_tokens', 'sign_in_failures'];

export type TableShape = { name: string; columns: string[] };

/** The manager's own, without the query builder's. */
export async function tablesOf(db: Kysely<Schema>): Promise<TableShape[]> {
  const tables = await db.introspection.getTables();
  return tables
    .filter(({ name }) => !name.startsWith('sqlite_') && !name.startsWith('kysely_'))
    .map(({ name, columns }) => ({ name, columns: columns.map((column) => column.name).toSorted() }))
    .toSorted((a, b) => (a.name < b.name ? -1 : 1));
}

/** `work` in one transaction that sees one moment. */
export function atOneMoment<T>(
  db: Database,
  kind: DatabaseKind,
  work: (at: Transaction<Schema>) => Promise<T>,
): Promise<T> {
  const transaction = db.transaction();
  // SQLite's readers see the moment of their first statement by themselves.
  return (kind === 'sqlite' ? transaction : transaction.setIsolationLevel('repeatable read')).execute(work);
}

export async function* tableLines(at: Transaction<Schema>, kind: DatabaseKind): AsyncGenerator<BackupLine> {
  let rowCount = 0;
  const tables = (await tablesOf(at)).filter(({ name }) => !LEFT_OUT.includes(name));
  for (const { name, columns } of tables) {
    yield { table: name, columns };
    for await (const row of rowsOf(at, kind, { name, columns })) {
      rowCount++;
      yield { row };
    }
  }
  yield { end: { tables: tables.length, rows: rowCount } };
}

/** By the place of each row, which stays where it is while the transaction lasts. */
async function* rowsOf(
  at: Transaction<Schema>,
  kind: DatabaseKind,
  { columns, name }: TableShape,
): AsyncGenerator<Cell[]> {
  const place = sql.ref(kind === 'sqlite' ? 'rowid' : 'ctid');
  const names = sql.join(columns.map((column) => sql.ref(column)));
  let last: unknown;
  for (;;) {
    const after =
      last === undefined ? sql`` : sql`where ${place} > ${last}${sql.raw(kind === 'sqlite' ? '' : '::tid')}`;
    const { rows } = await sql<Record<string, Cell>>`
      select ${names}, ${place}${sql.raw(kind === 'sqlite' ? '' : '::text')} as "backup place" from ${sql.table(name)}
      ${after} order by ${place} limit ${sql.lit(PAGE_ROWS)}`.execute(at);
    for (const row of rows) yield columns.map((column) => row[column] ?? null);
    last = rows.at(-1)?.['backup place'];
    if (rows.length < PAGE_ROWS) return;
    // A manager that backs up goes on answering between pages.
    await new Promise((resolve) => setImmediate(resolve));
  }
}
