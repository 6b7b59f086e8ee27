/** Signing in by a provider of identities: to it, and back from it. */
import type { IncomingHttpHeaders } from 'node:http';
import { Type } from 'typebox';
import { IdentityProviderReply } from '#/api/access.ts';
import { Failure } from '#/lib/failure.ts';
import { knownGrants, type OidcClient } from '#/manager/access/oidc-client.ts';
import { cookieName, setCookie } from '#/manager/access/session-cookie.ts';
import type { Manager } from '#/manager/manager.ts';
import { listGroups } from '#/manager/store/group-store.ts';
import { Answer, route, type Route } from './route.ts';

const tag = 'access';
const START = '/api/v1/sign-in/start';
export const CALLBACK = '/api/v1/sign-in/callback';
const Short = Type.Optional(Type.String({ maxLength: 4096 }));

export const OIDC_ROUTES: readonly Route[] = [
  route({
    method: 'GET',
    path: '/api/v1/identity-provider',
    roles: ['person'],
    tag,
    summary: 'The provider of identities as it is configured, and whether it answers',
    reply: IdentityProviderReply,
    handle: async (_input, { oidc }) => ({ provider: (await oidc?.view()) ?? null }),
  }),
  route({
    method: 'GET',
    path: START,
    roles: ['anonymous'],
    tag,
    summary: 'Sends the browser to the provider of identities (OpenID Connect)',
    handle: async ({ headers }, manager) => {
      try {
        const { cookie, url } = await clientOf(manager).setOut();
        return redirect(url, [meanwhile(manager, cookie, 600)]);
      } catch (error) {
        return inWords(error, headers);
      }
    },
  }),
  route({
    method: 'GET',
    path: CALLBACK,
    roles: ['anonymous'],
    tag,
    summary: 'Where the provider sends the browser back to: begins a session',
    query: Type.Object({ code: Short, state: Short, iss: Short, error: Short, error_description: Short }),
    handle: async ({ headers, query, remoteAddress, userAgent }, manager) => {
      const { audit, context, sessions } = manager;
      const cookie = cookieIn(headers.cookie, `${cookieName(context.identity.siteId)}-sign-in`);
      const given = Object.entries(query).filter(
        (entry): entry is [string, string] => entry[1] !== undefined,
      );
      const who = { by: 'openid-connect', address: remoteAddress, action: `GET ${CALLBACK}`, subject: '' };
      let actor = '';
      try {
        const asked = new URLSearchParams(given).toString();
        const arrived = await clientOf(manager).arrive(asked, cookie, remoteAddress);
        actor = arrived.name;
        const grants = knownGrants(arrived.grants, await listGroups(context.db));
        const begun = await sessions.begin(
          { key: arrived.key, name: arrived.name, grants },
          { address: remoteAddress, agent: userAgent },
        );
        await audit.end({ ...who, actor, reason: null }, 'ok', null);
        return redirect('/', [setCookie(context.identity.siteId, begun.secret), meanwhile(manager, '', 0)]);
      } catch (error) {
        // Of strangers who never set out, nothing is recorded.
        if (error instanceof Failure && cookie !== undefined && error.code !== 'limit_exceeded') {
          await audit.end({ ...who, actor, reason: null }, error.code, null);
        }
        return inWords(error, headers);
      }
    },
  }),
];

/**
 * A person who looks at a browser is told by the page, which has words for each code; nothing that others could write
 * into an address is shown there. Whoever asks for no page gets the failure as it is.
 */
function inWords(error: unknown, { accept = '' }: IncomingHttpHeaders): Answer {
  if (!(error instanceof Failure) || !accept.includes('text/html')) throw error;
  return redirect(`/?sign-in=${error.code}`, []);
}

function clientOf({ oidc }: Manager): OidcClient {
  if (oidc !== undefined) return oidc;
  throw new Failure('not_found', 'this site has no provider of identities', {
    hint: 'Sign in with a name and a password, or put openid_connect into the configuration of the manager.',
  });
}

/** Lax: the way back from the provider is a link of another site, with which a strict cookie is not sent. */
function meanwhile({ context }: Manager, value: string, forS: number): string {
  const name = `${cookieName(context.identity.siteId)}-sign-in`;
  return `${name}=${value}; Path=/; Max-Age=${forS}; Secure; HttpOnly; SameSite=Lax`;
}

function cookieIn(header: string | undefined, name: string): string | undefined {
  const parts = (header ?? '').slice(0, 8192).split(';');
  return parts
    .map((part) => part.trim())
    .find((part) => part.startsWith(`${name}=`))
    ?.slice(name.length + 1);
}

function redirect(location: string, cookies: string[]): Answer {
  return new Answer(302, '', 'text/plain; charset=utf-8', { location, 'set-cookie': cookies });
}
