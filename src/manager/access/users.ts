/**
 * Local users: the first administrator, and signing in.
 *
 * Invariant: an attempt is counted before it is judged, so that many at the same time guess no faster than one after
 * the other; and what a stranger sees does not tell whether a name is a user's.
 */
import { createHash } from 'node:crypto';
import type { Grant } from '#/api/access.ts';
import { Failure } from '#/lib/failure.ts';
import type { Context } from '#/manager/context.ts';
import { newId } from '#/manager/ids.ts';
import {
  FIRST_LINK_LIFE_MS,
  SIGN_IN_FAILURES_FREE,
  SIGN_IN_FORGET_MS,
  SIGN_IN_WAIT_MAX_MS,
} from '#/manager/limits.ts';
import type { WrongTokens } from '#/manager/rate-limit.ts';
import type { Database } from '#/manager/store/database.ts';
import { readSetting, writeSetting } from '#/manager/store/settings-store.ts';
import { addAdmissionToken, takeAdmissionToken } from '#/manager/store/token-store.ts';
import {
  addUser,
  countSignInFailure,
  findUser,
  forgetSignInFailures,
  hasUser,
  signInFailures,
  updateUser,
  type SignInFailures,
  type UserRow,
} from '#/manager/store/user-store.ts';
import { ADMINISTRATOR } from './grants.ts';
import { checkNewPassword, Passwords } from './password.ts';

/** Set with the first user, and never again: what was deleted later makes the first link good for nothing. */
const FIRST_MADE = 'first_administrator';
/** What the manager itself calls root on its Unix socket. */
const RESERVED = ['root'];

export class Users {
  readonly passwords = new Passwords();
  readonly #context: Context;
  readonly #wrong: WrongTokens;

  constructor(context: Context, wrong: WrongTokens) {
    this.#context = context;
    this.#wrong = wrong;
  }

  /** Throws limit_exceeded after too many wrong tokens or passwords from there. */
  checkAddress(address: string): void {
    this.#wrong.check(address);
  }

  countWrong(address: string): void {
    this.#wrong.count(address);
  }

  async needsFirst(): Promise<boolean> {
    const { db } = this.#context;
    return (await readSetting(db, FIRST_MADE)) === undefined && !(await hasUser(db));
  }

  /** A token that makes one administrator, while there is no user. Throws conflict. */
  async createFirstToken(): Promise<{ token: string; expiresMs: number }> {
    const { clock, db, random } = this.#context;
    if (!(await this.needsFirst())) throw notFirst();
    const token = `apf1.${Buffer.from(random.bytes(32)).toString('base64url')}`;
    const createdMs = clock.now();
    const expiresMs = createdMs + FIRST_LINK_LIFE_MS;
    const kind = 'first-administrator';
    await addAdmissionToken(db, { secretSha256: sha256(token), kind, createdMs, expiresMs });
    return { token, expiresMs };
  }

  /** Throws token_invalid, usage_invalid, conflict, limit_exceeded. */
  async createFirst(
    request: { token: string; name: string; password: string },
    address: string,
  ): Promise<UserRow> {
    this.#wrong.check(address);
    const { clock, db } = this.#context;
    const user = await this.make(request.name, request.password, ADMINISTRATOR);
    return db.transaction().execute(async (at) => {
      const use = { secretSha256: sha256(request.token), kind: 'first-administrator' as const };
      if (!(await takeAdmissionToken(at, { ...use, nowMs: clock.now(), by: user.id }))) {
        this.#wrong.count(address);
        throw new Failure('token_invalid', 'the link was used already, has expired, or is none', {
          hint: 'As root on the manager: antipode admin first-link',
        });
      }
      if ((await readSetting(at, FIRST_MADE)) !== undefined || (await hasUser(at))) throw notFirst();
      await writeSetting(at, FIRST_MADE, user.id);
      await this.add(at, user);
      return user;
    });
  }

  /** A user as it would be added. Throws usage_invalid, limit_exceeded. */
  async make(name: string, password: string, grants: readonly Grant[]): Promise<UserRow> {
    const { clock, random } = this.#context;
    checkNewPassword(password, name);
    const nowMs = clock.now();
    return {
      id: newId(random, 'user'),
      key: keyOf(name),
      name,
      password: await this.passwords.hash(password),
      grants: JSON.stringify(grants),
      is_locked: 0,
      is_break_glass: 0,
      created_ms: nowMs,
      password_ms: nowMs,
      signed_in_ms: null,
    };
  }

  /** Throws already_exists, usage_invalid. */
  async add(db: Database, user: UserRow): Promise<void> {
    if (RESERVED.includes(user.key)) {
      throw new Failure('usage_invalid', `${user.name} is what the manager calls root on its Unix socket`);
    }
    if (!(await addUser(db, user))) throw new Failure('already_exists', `there is a user ${user.name}`);
    await this.#context.events.record(db, {
      kind: 'access.user_added',
      severity: 'info',
      subject: { kind: 'user', id: user.id },
      message: `user ${user.name} was added`,
    });
  }

  /** Loudly: such a user is for when the identity provider is down, and its use is looked into after. */
  async tellBreakGlass(user: UserRow, address: string): Promise<void> {
    const { db, events, log } = this.#context;
    log.warning('access.break_glass', { user: user.name, address });
    await events.record(db, {
      kind: 'access.break_glass',
      severity: 'error',
      subject: { kind: 'user', id: user.id },
      message: `the break-glass user ${user.name} signed in from ${address}`,
    });
  }

  /** Wrong passwords of before count no more. */
  async forgive(key: string): Promise<void> {
    await forgetSignInFailures(this.#context.db, sha256(key));
  }

  /** The user of a name and a password. Throws unauthenticated, limit_exceeded. */
  async signIn(name: string, password: string, address: string): Promise<UserRow> {
    const { clock, db } = this.#context;
    this.#wrong.check(address);
    const key = keyOf(name);
    const nameSha256 = sha256(key);
    const nowMs = clock.now();
    const known = await signInFailures(db, nameSha256);
    checkWait(known, nowMs);
    // What was counted long ago counts no more.
    const count = nowMs - known.last_ms > SIGN_IN_FORGET_MS ? 1 : known.count + 1;
    const isCounted = await countSignInFailure(db, nameSha256, { known, count, nowMs });
    if (!isCounted) throw tooMany(1000);
    const user = await findUser(db, key);
    const isRight = await this.passwords.isRight(password, user?.password ?? undefined);
    if (user === undefined || !isRight || user.is_locked === 1) {
      this.#wrong.count(address);
      throw new Failure('unauthenticated', 'the name or the password is wrong, or the user is locked', {
        hint: 'Another administrator, or root on the manager, may set a new password or unlock the user.',
      });
    }
    await forgetSignInFailures(db, nameSha256);
    await updateUser(db, user.id, { signed_in_ms: nowMs });
    return user;
  }
}

export function keyOf(name: string): string {
  return name.normalize('NFKC').toLowerCase();
}

function checkWait(known: SignInFailures, nowMs: number): void {
  const waitMs = waitAfter(known.count);
  const leftMs = known.last_ms + waitMs - nowMs;
  if (waitMs > 0 && leftMs > 0) throw tooMany(Math.min(leftMs, waitMs));
}

/** The wait doubles with each wrong password: 1 s after the first few, and a quarter of an hour at most. */
export function waitAfter(failureCount: number): number {
  const over = failureCount - SIGN_IN_FAILURES_FREE;
  return over < 0 ? 0 : Math.min(SIGN_IN_WAIT_MAX_MS, 1000 * 2 ** Math.min(over, 30));
}

function tooMany(waitMs: number): Failure {
  return new Failure('limit_exceeded', 'too many wrong passwords were given for this name', {
    hint: `Try again in ${Math.ceil(waitMs / 1000)} s.`,
  });
}

function notFirst(): Failure {
  return new Failure('conflict', 'this site has, or had, a user already', {
    hint: 'As root on the manager: antipode user add NAME --role administrator, or antipode user password NAME',
  });
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
