/**
 * Sessions: begun when somebody signs in, looked up for each request, ended by time, by their person, by an
 * administrator, or with their user. What a local user may do is read from the user each time: a role that is taken
 * away is gone with the next request.
 */
import { createHash } from 'node:crypto';
import type { Grant, SessionView } from '#/api/access.ts';
import { Failure } from '#/lib/failure.ts';
import type { Context } from '#/manager/context.ts';
import { newId } from '#/manager/ids.ts';
import { SESSION_IDLE_MS, SESSION_LIFE_MS, SESSION_TOUCH_EVERY_MS } from '#/manager/limits.ts';
import {
  addSession,
  dropEndedSessions,
  dropSession,
  dropSessionsOf,
  findSession,
  listSessions,
  touchSession,
  type SessionRow,
} from '#/manager/store/session-store.ts';
import { findUser } from '#/manager/store/user-store.ts';

const SECRET = /^[\w-]{43}$/;

/** Of somebody who has signed in. */
export type Person = { key: string; name: string; session: SessionRow; grants: readonly Grant[] };

export class Sessions {
  readonly #context: Context;

  constructor(context: Context) {
    this.#context = context;
  }

  /** The secret is the cookie's value, and is not kept. `grants` null: those of the local user at each request. */
  async begin(
    who: { key: string; name: string; grants: readonly Grant[] | null },
    from: { address: string; agent: string },
  ): Promise<{ secret: string; session: SessionRow }> {
    const { clock, db, random } = this.#context;
    const secret = Buffer.from(random.bytes(32)).toString('base64url');
    const nowMs = clock.now();
    const session: SessionRow = {
      id: newId(random, 'session'),
      secret_sha256: sha256(secret),
      user_key: who.key,
      user_name: who.name,
      grants: who.grants === null ? null : JSON.stringify(who.grants),
      begun_ms: nowMs,
      seen_ms: nowMs,
      ends_ms: nowMs + SESSION_LIFE_MS,
      address: from.address,
      agent: from.agent.slice(0, 255),
    };
    await db.transaction().execute(async (at) => {
      await dropEndedSessions(at, this.#live());
      await addSession(at, session);
    });
    return { secret, session };
  }

  /** Whose session a cookie is of. Throws unauthenticated when it is none, or has ended. */
  async person(secret: string): Promise<Person> {
    const { clock, db } = this.#context;
    const session = SECRET.test(secret) ? await findSession(db, sha256(secret)) : undefined;
    const { nowMs, seenAfterMs } = this.#live();
    if (session === undefined || session.ends_ms <= nowMs || session.seen_ms <= seenAfterMs) throw ended();
    let grants: Grant[];
    if (session.grants === null) {
      const user = await findUser(db, session.user_key);
      if (user === undefined || user.is_locked === 1) throw ended();
      grants = JSON.parse(user.grants) as Grant[];
    } else grants = JSON.parse(session.grants) as Grant[];
    if (nowMs - session.seen_ms >= SESSION_TOUCH_EVERY_MS) {
      await touchSession(db, session.id, clock.now());
    }
    return { key: session.user_key, name: session.user_name, session, grants };
  }

  /** Those of one user, or all. */
  async list(ownId: string | undefined, userKey?: string): Promise<SessionView[]> {
    const rows = await listSessions(this.#context.db, this.#live(), userKey);
    return rows.map((row) => ({
      id: row.id,
      name: row.user_name,
      begun_ms: row.begun_ms,
      seen_ms: row.seen_ms,
      ends_ms: row.ends_ms,
      address: row.address,
      agent: row.agent,
      is_own: row.id === ownId,
    }));
  }

  async end(id: string): Promise<void> {
    if (await dropSession(this.#context.db, id)) return this.#context.changes.notify('access');
    throw new Failure('not_found', `there is no session ${id}`, {
      hint: 'List them with: antipode session list',
    });
  }

  async endAllOf(userKey: string, butId?: string): Promise<void> {
    await dropSessionsOf(this.#context.db, userKey, butId);
    this.#context.changes.notify('access');
  }

  #live(): { nowMs: number; seenAfterMs: number } {
    const nowMs = this.#context.clock.now();
    return { nowMs, seenAfterMs: nowMs - SESSION_IDLE_MS };
  }
}

function ended(): Failure {
  return new Failure('unauthenticated', 'the session has ended', { hint: 'Sign in again.' });
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
