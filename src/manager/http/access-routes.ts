/** Signing in and out, who is calling, and sessions. */
import { Type } from 'typebox';
import {
  FirstAdministratorRequest,
  FirstLinkReply,
  LoginRequest,
  LogoutReply,
  Me,
  ResetRequest,
  SessionView,
  SignIn,
} from '#/api/access.ts';
import { closed, Name, pageOf, PageQuery } from '#/api/common.ts';
import { Failure } from '#/lib/failure.ts';
import { holds, permissionsOf } from '#/manager/access/grants.ts';
import { checkOrigin } from '#/manager/access/origin.ts';
import { clearCookie, setCookie } from '#/manager/access/session-cookie.ts';
import { SESSION_IDLE_MS } from '#/manager/limits.ts';
import type { Manager } from '#/manager/manager.ts';
import { findSessionById } from '#/manager/store/session-store.ts';
import type { UserRow } from '#/manager/store/user-store.ts';
import { Answer, route, type Caller, type Input, type Person, type Route } from './route.ts';
import { page } from './views.ts';

const roles = ['person'] as const;
const tag = 'access';
const JSON_TYPE = 'application/json; charset=utf-8';
/** A name and a password. */
const SIGN_IN_BYTES_MAX = 8192;

const SIGN_IN: readonly Route[] = [
  route({
    method: 'GET',
    path: '/api/v1/sign-in',
    roles: ['anonymous'],
    tag,
    summary: 'How people sign in here',
    reply: SignIn,
    handle: async (_input, { context, oidc, users }) => ({
      site_id: context.identity.siteId,
      site_name: context.config.siteName,
      needs_first_administrator: await users.needsFirst(),
      single_sign_on: oidc === undefined ? null : { label: oidc.config.label, path: '/api/v1/sign-in/start' },
    }),
  }),
  route({
    method: 'POST',
    path: '/api/v1/login',
    roles: ['anonymous'],
    tag,
    summary: 'Sign in with a name and a password: answers with the cookie of a session',
    body: LoginRequest,
    bodyBytesMax: SIGN_IN_BYTES_MAX,
    reply: Me,
    handle: async (input, manager) => {
      checkOwnPage(input);
      const user = await manager.users.signIn(input.body.name, input.body.password, input.remoteAddress);
      if (user.is_break_glass === 1) await manager.users.tellBreakGlass(user, input.remoteAddress);
      return begin(manager, user, input);
    },
  }),
  route({
    method: 'POST',
    path: '/api/v1/first-administrator',
    roles: ['anonymous'],
    tag,
    summary: 'Make the first administrator, with the token of the first link, and sign in',
    body: FirstAdministratorRequest,
    bodyBytesMax: SIGN_IN_BYTES_MAX,
    reply: Me,
    handle: async (input, manager) => {
      checkOwnPage(input);
      return begin(manager, await manager.users.createFirst(input.body, input.remoteAddress), input);
    },
  }),
  route({
    method: 'POST',
    path: '/api/v1/password-reset',
    roles: ['anonymous'],
    tag,
    summary: 'Choose a password with the token of a reset link, and sign in',
    body: ResetRequest,
    bodyBytesMax: SIGN_IN_BYTES_MAX,
    reply: Me,
    handle: async (input, manager) => {
      checkOwnPage(input);
      const user = await manager.userAdmin.resetByToken(input.body, input.remoteAddress);
      if (user.is_break_glass === 1) await manager.users.tellBreakGlass(user, input.remoteAddress);
      return begin(manager, user, input);
    },
  }),
  route({
    method: 'POST',
    path: '/api/v1/first-links',
    roles,
    tag,
    duringRebuild: true,
    summary: 'The address at which the first administrator is made, once; for root, while there is no user',
    reply: FirstLinkReply,
    handle: async ({ caller }, manager) => {
      if (personOf(caller).by !== 'socket') {
        throw new Failure('forbidden', 'the first link is made by root on the manager itself');
      }
      const { token, expiresMs } = await manager.users.createFirstToken();
      return { url: `${manager.url}/first#${token}`, token, expires_ms: expiresMs };
    },
  }),
];

const OWN: readonly Route[] = [
  route({
    method: 'GET',
    path: '/api/v1/me',
    roles,
    tag,
    summary: 'Who is calling, and what that caller may do',
    reply: Me,
    handle: async ({ caller }) => meOf(personOf(caller)),
  }),
  route({
    method: 'POST',
    path: '/api/v1/logout',
    roles,
    tag,
    duringRebuild: true,
    summary: 'End the own session',
    reply: LogoutReply,
    handle: async ({ caller }, { context, oidc, sessions }) => {
      const { session } = personOf(caller);
      if (session === undefined) throw new Failure('usage_invalid', 'the caller has no session');
      await sessions.end(session.id);
      const isOfProvider = session.user_key.startsWith('oidc:');
      const providerUrl = isOfProvider ? await oidc?.endUrl() : undefined;
      const reply: LogoutReply = { provider_url: providerUrl ?? null };
      return new Answer(200, JSON.stringify(reply), JSON_TYPE, {
        'set-cookie': clearCookie(context.identity.siteId),
      });
    },
  }),
  route({
    method: 'GET',
    path: '/api/v1/sessions',
    roles,
    tag,
    summary: "The caller's sessions; everybody's for administrators",
    query: PageQuery,
    reply: pageOf(SessionView),
    handle: async ({ caller, query }, { sessions }) => {
      const { grants, session } = personOf(caller);
      const key = holds(grants, 'access.manage') ? undefined : (session?.user_key ?? '');
      return page(await sessions.list(session?.id, key), query);
    },
  }),
  route({
    method: 'DELETE',
    path: '/api/v1/sessions/:id',
    roles,
    tag,
    duringRebuild: true,
    summary: "End a session: an own one, or anybody's for administrators",
    params: Type.Object({ id: Name }, closed),
    handle: async ({ caller, params }, { context, sessions }) => {
      const { grants, session } = personOf(caller);
      if (!holds(grants, 'access.manage')) {
        const other = await findSessionById(context.db, params.id);
        // Another's session is to a stranger as if it were not there.
        if (session === undefined || other?.user_key !== session.user_key) {
          throw new Failure('not_found', `the caller has no session ${params.id}`);
        }
      }
      await sessions.end(params.id);
    },
  }),
];

export const ACCESS_ROUTES: readonly Route[] = [...SIGN_IN, ...OWN];

/** A page of another site would sign people in as somebody else, who then learns what they do. */
function checkOwnPage({ headers }: Pick<Input<unknown, unknown, unknown>, 'headers'>): void {
  if (headers.origin !== undefined) checkOrigin('POST', headers);
}

async function begin(
  { context, sessions }: Manager,
  user: UserRow,
  from: { remoteAddress: string; userAgent: string },
): Promise<Answer> {
  const { key, name } = user;
  const { secret, session } = await sessions.begin(
    { key, name, grants: null },
    { address: from.remoteAddress, agent: from.userAgent },
  );
  const grants = JSON.parse(user.grants) as Person['grants'];
  const me = meOf({ role: 'person', name, by: 'session', grants, session });
  const cookie = setCookie(context.identity.siteId, secret);
  return new Answer(200, JSON.stringify(me), JSON_TYPE, { 'set-cookie': cookie });
}

function meOf({ name, by, grants, session }: Person): Me {
  const own =
    session === undefined
      ? null
      : {
          id: session.id,
          begun_ms: session.begun_ms,
          ends_ms: session.ends_ms,
          idle_ms: SESSION_IDLE_MS,
        };
  return { name, by, grants: [...grants], ...permissionsOf(grants), session: own };
}

export function personOf(caller: Caller): Person {
  if (caller.role === 'person') return caller;
  throw new Failure('forbidden', `${caller.role} is no person`);
}
