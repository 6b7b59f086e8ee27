/**
 * What administrators do with users, and people with their own password.
 *
 * Invariant: over the network somebody always stays who may manage access; only root on the manager itself may take the
 * last one away.
 */
import { createHash } from 'node:crypto';
import type { Grant, GrantRequests, UserReply, UserView } from '#/api/access.ts';
import { Failure } from '#/lib/failure.ts';
import type { Context } from '#/manager/context.ts';
import { FIRST_LINK_LIFE_MS } from '#/manager/limits.ts';
import type { Database } from '#/manager/store/database.ts';
import { listGroups } from '#/manager/store/group-store.ts';
import { dropSessionsOf } from '#/manager/store/session-store.ts';
import { addAdmissionToken, findAdmissionToken, takeAdmissionToken } from '#/manager/store/token-store.ts';
import { dropUser, findUser, listUsers, updateUser, type UserRow } from '#/manager/store/user-store.ts';
import { holds } from './grants.ts';
import { checkNewPassword } from './password.ts';
import type { Sessions } from './sessions.ts';
import { keyOf, type Users } from './users.ts';

type Change = Partial<Pick<UserRow, 'grants' | 'is_locked' | 'password' | 'password_ms'>>;

export class UserAdmin {
  readonly #context: Context;
  readonly #users: Users;
  readonly #sessions: Sessions;

  constructor(context: Context, users: Users, sessions: Sessions) {
    this.#context = context;
    this.#users = users;
    this.#sessions = sessions;
  }

  async list(): Promise<UserView[]> {
    return (await listUsers(this.#context.db)).map(userView);
  }

  /** Roles with the groups they are on, by their ids. Throws not_found. */
  async grants(asked: GrantRequests): Promise<Grant[]> {
    const groups = await listGroups(this.#context.db);
    return asked.map(({ role, group }) => {
      if (group === undefined || group === null) return { role, group_id: null };
      const found = groups.find(({ id, name }) => id === group || name === group);
      if (found !== undefined) return { role, group_id: found.id };
      throw new Failure('not_found', `this site has no protection group "${group}"`, {
        hint: 'List them with: antipode group list',
      });
    });
  }

  /** Throws already_exists, usage_invalid, not_found. */
  async add(request: {
    name: string;
    password?: string;
    grants: GrantRequests;
    is_break_glass?: boolean;
  }): Promise<UserReply> {
    const { db } = this.#context;
    const made = request.password === undefined ? this.#madeUp() : null;
    const grants = await this.grants(request.grants);
    const user = await this.#users.make(request.name, request.password ?? made!, grants);
    user.is_break_glass = request.is_break_glass === true ? 1 : 0;
    await db.transaction().execute((at) => this.#users.add(at, user));
    return { user: userView(user), password: made };
  }

  async setGrants(name: string, asked: GrantRequests, isRoot: boolean): Promise<UserView> {
    const grants = JSON.stringify(await this.grants(asked));
    return this.#change(name, { grants }, isRoot);
  }

  /** A user who is locked cannot sign in, and has no session any more. */
  setLocked(name: string, isLocked: boolean, isRoot: boolean): Promise<UserView> {
    return this.#change(name, { is_locked: isLocked ? 1 : 0 }, isRoot);
  }

  /** Ends all sessions of the user. Null: one is made up. */
  async resetPassword(name: string, given: string | undefined): Promise<UserReply> {
    const made = given === undefined ? this.#madeUp() : null;
    const user = await this.#find(this.#context.db, name);
    const change = await this.#hashed(given ?? made!, user.name);
    await this.#users.forgive(user.key);
    return { user: await this.#change(name, change, true), password: made };
  }

  /** A token with which the user chooses a password, once, and which is good for nothing after another password. */
  async createResetToken(name: string): Promise<{ token: string; expiresMs: number }> {
    const { clock, db, events, random } = this.#context;
    const user = await this.#find(db, name);
    const token = `apr1.${Buffer.from(random.bytes(32)).toString('base64url')}`;
    const createdMs = clock.now();
    const expiresMs = createdMs + FIRST_LINK_LIFE_MS;
    await db.transaction().execute(async (at) => {
      const kind = resetKind(user);
      await addAdmissionToken(at, { secretSha256: sha256(token), kind, createdMs, expiresMs });
      await events.record(at, {
        kind: 'access.reset_link',
        severity: 'warning',
        subject: { kind: 'user', id: user.id },
        message: `a link was made at which user ${user.name} chooses another password`,
      });
    });
    return { token, expiresMs };
  }

  /** Throws token_invalid, usage_invalid, limit_exceeded. */
  async resetByToken(asked: { token: string; password: string }, address: string): Promise<UserRow> {
    const { clock, db } = this.#context;
    this.#users.checkAddress(address);
    const secretSha256 = sha256(asked.token);
    const known = await findAdmissionToken(db, secretSha256);
    const user = (await listUsers(db)).find((one) => resetKind(one) === known?.kind);
    if (user === undefined || user.is_locked === 1) throw this.#noLink(address);
    const change = await this.#hashed(asked.password, user.name);
    const use = { secretSha256, kind: resetKind(user), nowMs: clock.now(), by: user.id };
    if (!(await db.transaction().execute((at) => takeAdmissionToken(at, use)))) throw this.#noLink(address);
    await this.#users.forgive(user.key);
    await this.#change(user.name, change, true);
    return user;
  }

  #noLink(address: string): Failure {
    this.#users.countWrong(address);
    return new Failure('token_invalid', 'the link was used already, has expired, or is none', {
      hint: 'Ask an administrator for another one.',
    });
  }

  /** One's own; ends one's other sessions. Throws unauthenticated when the old one is wrong. */
  async changeOwnPassword(
    who: { key: string; sessionId: string; address: string },
    change: { old: string; password: string },
  ): Promise<void> {
    const { db } = this.#context;
    const user = await this.#users.signIn(who.key, change.old, who.address);
    await updateUser(db, user.id, await this.#hashed(change.password, user.name));
    await this.#sessions.endAllOf(user.key, who.sessionId);
  }

  async remove(name: string, isRoot: boolean): Promise<void> {
    const { changes, db, events } = this.#context;
    await db.transaction().execute(async (at) => {
      const user = await this.#find(at, name);
      await dropUser(at, user.id);
      if (!isRoot) await checkSomebodyStays(at);
      await dropSessionsOf(at, user.key);
      await events.record(at, {
        kind: 'access.user_deleted',
        severity: 'warning',
        subject: { kind: 'user', id: user.id },
        message: `user ${user.name} was deleted`,
      });
    });
    changes.notify('access');
  }

  async #change(name: string, change: Change, isRoot: boolean): Promise<UserView> {
    const { changes, db, events } = this.#context;
    const view = await db.transaction().execute(async (at) => {
      const user = await this.#find(at, name);
      await updateUser(at, user.id, change);
      if (!isRoot) await checkSomebodyStays(at);
      const isOut = change.is_locked === 1 || change.password !== undefined;
      if (isOut) await dropSessionsOf(at, user.key);
      await events.record(at, {
        kind: 'access.user_changed',
        severity: 'warning',
        subject: { kind: 'user', id: user.id },
        message: `user ${user.name} ${wordsOf(change)}`,
      });
      return userView({ ...user, ...change });
    });
    changes.notify('access');
    return view;
  }

  async #hashed(password: string, name: string): Promise<Change> {
    checkNewPassword(password, name);
    const hash = await this.#users.passwords.hash(password);
    return { password: hash, password_ms: this.#context.clock.now() };
  }

  async #find(db: Database, name: string): Promise<UserRow> {
    const user = await findUser(db, keyOf(name));
    if (user !== undefined) return user;
    throw new Failure('not_found', `there is no user ${name}`, {
      hint: 'List them with: antipode user list',
    });
  }

  /** 120 bits, in characters that can be read out. */
  #madeUp(): string {
    const letters = 'abcdefghijkmnpqrstuvwxyz23456789';
    const bytes = this.#context.random.bytes(24);
    const text = Array.from(bytes, (byte) => letters[byte % letters.length]!).join('');
    return text.replaceAll(/(.{6})(?=.)/g, '$1-');
  }
}

/** Another password makes it another kind: links of before are good for nothing then. */
function resetKind(user: Pick<UserRow, 'id' | 'password_ms'>): `password-reset ${string} ${number}` {
  return `password-reset ${user.id} ${user.password_ms}`;
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

/** After a change, inside its transaction. Throws conflict. */
async function checkSomebodyStays(at: Database): Promise<void> {
  const isAny = (await listUsers(at)).some(
    (user) => user.is_locked === 0 && holds(JSON.parse(user.grants) as Grant[], 'access.manage'),
  );
  if (isAny) return;
  throw new Failure('conflict', 'nobody would be left who is an administrator of everything', {
    hint: 'Make another administrator first, or do it as root on the manager itself.',
  });
}

export function userView(user: UserRow): UserView {
  return {
    id: user.id,
    name: user.name,
    grants: JSON.parse(user.grants) as Grant[],
    is_locked: user.is_locked === 1,
    is_break_glass: user.is_break_glass === 1,
    created_ms: user.created_ms,
    password_ms: user.password_ms,
    signed_in_ms: user.signed_in_ms,
  };
}

function wordsOf(change: Change): string {
  if (change.password !== undefined) return 'was given another password';
  if (change.grants !== undefined) return 'was given other roles';
  return change.is_locked === 1 ? 'was locked' : 'was unlocked';
}
