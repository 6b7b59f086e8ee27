/** Local users, and one's own password. */
import { Type } from 'typebox';
import {
  GrantsRequest,
  PasswordChange,
  PasswordReset,
  ResetLinkReply,
  UserReply,
  UserRequest,
  UserView,
} from '#/api/access.ts';
import { closed, Name, pageOf, PageQuery } from '#/api/common.ts';
import { Failure } from '#/lib/failure.ts';
import { personOf } from './access-routes.ts';
import { route, type Caller, type Route } from './route.ts';
import { page } from './views.ts';

const roles = ['person'] as const;
const tag = 'access';
const ByName = Type.Object({ name: Name }, closed);

const USERS: readonly Route[] = [
  route({
    method: 'GET',
    path: '/api/v1/users',
    roles,
    tag,
    summary: 'Local users, and what each may do',
    query: PageQuery,
    reply: pageOf(UserView),
    handle: async ({ query }, { userAdmin }) => page(await userAdmin.list(), query),
  }),
  route({
    method: 'POST',
    path: '/api/v1/users',
    roles,
    tag,
    duringRebuild: true,
    summary: 'Add a user; without a password one is made up, and shown once',
    body: UserRequest,
    reply: UserReply,
    handle: ({ body }, { userAdmin }) => userAdmin.add(body),
  }),
  route({
    method: 'POST',
    path: '/api/v1/users/:name/grants',
    roles,
    tag,
    duringRebuild: true,
    summary: 'Put other roles in the place of those of a user; they count from the next request on',
    params: ByName,
    body: GrantsRequest,
    reply: UserView,
    handle: ({ body, caller, params }, { userAdmin }) =>
      userAdmin.setGrants(params.name, body.grants, isRoot(caller)),
  }),
  ...(['lock', 'unlock'] as const).map((word) =>
    route({
      method: 'POST',
      path: `/api/v1/users/:name/${word}`,
      roles,
      tag,
      duringRebuild: true,
      summary: word === 'lock' ? 'Keep a user out, and end the sessions' : 'Let a user in again',
      params: ByName,
      reply: UserView,
      handle: ({ caller, params }, { userAdmin }) =>
        userAdmin.setLocked(params.name, word === 'lock', isRoot(caller)),
    }),
  ),
  route({
    method: 'POST',
    path: '/api/v1/users/:name/password',
    roles,
    tag,
    duringRebuild: true,
    summary: 'Give a user another password, and end the sessions; without one it is made up, and shown once',
    params: ByName,
    body: PasswordReset,
    reply: UserReply,
    handle: ({ body, params }, { userAdmin }) => userAdmin.resetPassword(params.name, body.password),
  }),
  route({
    method: 'POST',
    path: '/api/v1/users/:name/reset-link',
    roles,
    tag,
    duringRebuild: true,
    summary: 'The address at which a user chooses another password, once, within a day; shown once',
    params: ByName,
    reply: ResetLinkReply,
    handle: async ({ params }, { url, userAdmin }) => {
      const { token, expiresMs } = await userAdmin.createResetToken(params.name);
      return { url: `${url}/reset#${token}`, token, expires_ms: expiresMs };
    },
  }),
  route({
    method: 'DELETE',
    path: '/api/v1/users/:name',
    roles,
    tag,
    duringRebuild: true,
    summary: 'Delete a user, and end the sessions',
    params: ByName,
    handle: ({ caller, params }, { userAdmin }) => userAdmin.remove(params.name, isRoot(caller)),
  }),
];

export const USER_ROUTES: readonly Route[] = [
  ...USERS,
  route({
    method: 'POST',
    path: '/api/v1/password',
    roles,
    tag,
    duringRebuild: true,
    summary: "Change one's own password, and end one's other sessions",
    body: PasswordChange,
    handle: async ({ body, caller, remoteAddress }, { userAdmin }) => {
      const { session } = personOf(caller);
      if (session === undefined || session.grants !== null) {
        throw new Failure('usage_invalid', 'the caller has no password here', {
          hint: 'Passwords are those of local users who have signed in.',
        });
      }
      const who = { key: session.user_key, sessionId: session.id, address: remoteAddress };
      await userAdmin.changeOwnPassword(who, body);
    },
  }),
];

function isRoot(caller: Caller): boolean {
  return personOf(caller).by === 'socket';
}
