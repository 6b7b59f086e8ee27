/**
 * Local users, and wrong passwords by the name that was claimed, whether a user has it or not: what is counted says
 * nothing about who exists. Names are kept as they were given and compared without case.
 */
import type { Selectable } from 'kysely';
import type { Database } from './database.ts';
import type { UsersTable } from './schema.ts';

export type UserRow = Selectable<UsersTable>;

/** Names of which wrong passwords are counted. */
const FAILURES_MAX = 10_000;

export async function addUser(db: Database, user: UserRow): Promise<boolean> {
  const { numInsertedOrUpdatedRows } = await db
    .insertInto('users')
    .values(user)
    .onConflict((conflict) => conflict.column('key').doNothing())
    .executeTakeFirst();
  return numInsertedOrUpdatedRows === 1n;
}

export async function findUser(db: Database, key: string): Promise<UserRow | undefined> {
  return db.selectFrom('users').selectAll().where('key', '=', key).executeTakeFirst();
}

export async function listUsers(db: Database): Promise<UserRow[]> {
  return db.selectFrom('users').selectAll().orderBy('key').limit(10_000).execute();
}

export async function hasUser(db: Database): Promise<boolean> {
  return (await db.selectFrom('users').select('id').limit(1).executeTakeFirst()) !== undefined;
}

export async function updateUser(
  db: Database,
  id: string,
  change: Partial<Omit<UserRow, 'id' | 'key' | 'name'>>,
): Promise<void> {
  await db.updateTable('users').set(change).where('id', '=', id).execute();
}

export async function dropUser(db: Database, id: string): Promise<void> {
  await db.deleteFrom('users').where('id', '=', id).execute();
}

export type SignInFailures = { count: number; last_ms: number };

export async function signInFailures(db: Database, nameSha256: string): Promise<SignInFailures> {
  const row = await db
    .selectFrom('sign_in_failures')
    .select(['count', 'last_ms'])
    .where('name_sha256', '=', nameSha256)
    .executeTakeFirst();
  return row ?? { count: 0, last_ms: 0 };
}

/** True when nobody else counted one since `known` was read. */
export async function countSignInFailure(
  db: Database,
  nameSha256: string,
  { known, count, nowMs }: { known: SignInFailures; count: number; nowMs: number },
): Promise<boolean> {
  if (known.count === 0) await makeRoom(db);
  await db
    .insertInto('sign_in_failures')
    .values({ name_sha256: nameSha256, count: 0, last_ms: 0 })
    .onConflict((conflict) => conflict.column('name_sha256').doNothing())
    .execute();
  const { numUpdatedRows } = await db
    .updateTable('sign_in_failures')
    .set({ count, last_ms: nowMs })
    .where('name_sha256', '=', nameSha256)
    .where('count', '=', known.count)
    .where('last_ms', '=', known.last_ms)
    .executeTakeFirst();
  return numUpdatedRows === 1n;
}

export async function forgetSignInFailures(db: Database, nameSha256: string): Promise<void> {
  await db.deleteFrom('sign_in_failures').where('name_sha256', '=', nameSha256).execute();
}

/** The names tried longest ago go first. */
async function makeRoom(db: Database): Promise<void> {
  const oldest = await db
    .selectFrom('sign_in_failures')
    .select('last_ms')
    .orderBy('last_ms', 'desc')
    .offset(FAILURES_MAX - 1)
    .limit(1)
    .executeTakeFirst();
  if (oldest !== undefined) {
    await db.deleteFrom('sign_in_failures').where('last_ms', '<=', oldest.last_ms).execute();
  }
}
