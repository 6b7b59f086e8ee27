/** Sessions of people who have signed in. Of the secret in the cookie only the hash is kept. */
import type { Selectable } from 'kysely';
import type { Database } from './database.ts';
import type { SessionsTable } from './schema.ts';

export type SessionRow = Selectable<SessionsTable>;

/** Of one user; the one used longest ago ends when there is another. */
const OF_ONE_USER_MAX = 20;

export async function addSession(db: Database, session: SessionRow): Promise<void> {
  const others = await db
    .selectFrom('sessions')
    .select('id')
    .where('user_key', '=', session.user_key)
    .orderBy('seen_ms', 'desc')
    .offset(OF_ONE_USER_MAX - 1)
    .limit(1000)
    .execute();
  const ids = others.map(({ id }) => id);
  if (ids.length > 0) await db.deleteFrom('sessions').where('id', 'in', ids).execute();
  await db.insertInto('sessions').values(session).execute();
}

export async function findSession(db: Database, secretSha256: string): Promise<SessionRow | undefined> {
  return db.selectFrom('sessions').selectAll().where('secret_sha256', '=', secretSha256).executeTakeFirst();
}

export async function findSessionById(db: Database, id: string): Promise<SessionRow | undefined> {
  return db.selectFrom('sessions').selectAll().where('id', '=', id).executeTakeFirst();
}

/** Those that have not ended, the last used one first; of one user, or of all. */
export async function listSessions(
  db: Database,
  live: { nowMs: number; seenAfterMs: number },
  userKey?: string,
): Promise<SessionRow[]> {
  let query = db
    .selectFrom('sessions')
    .selectAll()
    .where('ends_ms', '>', live.nowMs)
    .where('seen_ms', '>', live.seenAfterMs);
  if (userKey !== undefined) query = query.where('user_key', '=', userKey);
  return query.orderBy('seen_ms', 'desc').limit(10_000).execute();
}

export async function touchSession(db: Database, id: string, seenMs: number): Promise<void> {
  await db.updateTable('sessions').set({ seen_ms: seenMs }).where('id', '=', id).execute();
}

export async function dropSession(db: Database, id: string): Promise<boolean> {
  const { numDeletedRows } = await db.deleteFrom('sessions').where('id', '=', id).executeTakeFirst();
  return numDeletedRows === 1n;
}

/** All of a user but the one named. */
export async function dropSessionsOf(db: Database, userKey: string, butId = ''): Promise<void> {
  await db.deleteFrom('sessions').where('user_key', '=', userKey).where('id', '!=', butId).execute();
}

export async function dropEndedSessions(
  db: Database,
  live: { nowMs: number; seenAfterMs: number },
): Promise<void> {
  await db
    .deleteFrom('sessions')
    .where((either) =>
      either.or([either('ends_ms', '<=', live.nowMs), either('seen_ms', '<=', live.seenAfterMs)]),
    )
    .execute();
}
