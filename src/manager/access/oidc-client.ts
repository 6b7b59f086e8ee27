/**
 * Signing in by a provider of identities: OpenID Connect's code flow with PKCE (RFC 7636), state and nonce, by
 * openid-client (docs/decisions/0015-openid-client.md).
 *
 * What the manager has to know when somebody comes back from the provider is in a cookie of that browser, so nothing is
 * kept for strangers, and whoever did not set out from this browser does not arrive in it.
 */
import { readFile } from 'node:fs/promises';
import { request } from 'node:https';
import { rootCertificates } from 'node:tls';
import * as client from 'openid-client';
import type { Grant, GrantRequests, IdentityProvider } from '#/api/access.ts';
import { Failure } from '#/lib/failure.ts';
import type { Context } from '#/manager/context.ts';
import { problemOf } from '#/manager/problem.ts';
import type { WrongTokens } from '#/manager/rate-limit.ts';
import type { OidcConfig } from './oidc-config.ts';

const TIMEOUT_S = 10;
const REPLY_BYTES_MAX = 1024 * 1024;
const METADATA_KEPT_MS = 3_600_000;
/** A provider that did not answer is asked again after this. */
const FAILURE_KEPT_MS = 5000;
const EXCHANGES_MAX = 20;
const SET_OUT_MS = 600_000;

export type SetOut = { state: string; nonce: string; verifier: string; begunMs: number };
export type Arrived = { key: string; name: string; grants: GrantRequests };

export class OidcClient {
  readonly config: OidcConfig;
  readonly #context: Context;
  readonly #redirectUri: () => string;
  readonly #wrong: WrongTokens;
  /** Shared by all who ask meanwhile, so that strangers cannot make the manager ask the provider at will. */
  #known: { configuration: Promise<client.Configuration>; untilMs: number } | undefined;
  #exchanges = 0;

  constructor(
    context: Context,
    config: OidcConfig,
    parts: { redirectUri: () => string; wrong: WrongTokens },
  ) {
    this.#context = context;
    this.config = config;
    this.#redirectUri = parts.redirectUri;
    this.#wrong = parts.wrong;
  }

  /** Where to send the browser, and what its cookie has to hold meanwhile. Throws unreachable. */
  async setOut(): Promise<{ url: string; cookie: string }> {
    const configuration = await this.#configuration();
    const setOut: SetOut = {
      state: client.randomState(),
      nonce: client.randomNonce(),
      verifier: client.randomPKCECodeVerifier(),
      begunMs: this.#context.clock.now(),
    };
    const url = client.buildAuthorizationUrl(configuration, {
      redirect_uri: this.#redirectUri(),
      scope: this.config.scope,
      state: setOut.state,
      nonce: setOut.nonce,
      code_challenge: await client.calculatePKCECodeChallenge(setOut.verifier),
      code_challenge_method: 'S256',
    });
    return { url: url.href, cookie: Buffer.from(JSON.stringify(setOut)).toString('base64url') };
  }

  /**
   * Where a browser ends its session at the provider (RP-initiated logout); undefined when the provider cannot, or does
   * not answer: the session here has ended all the same. Nothing of the person is sent: the provider knows its cookie.
   */
  async endUrl(): Promise<string | undefined> {
    try {
      const configuration = await this.#configuration();
      if (configuration.serverMetadata().end_session_endpoint === undefined) return undefined;
      const { origin } = new URL(this.#redirectUri());
      return client.buildEndSessionUrl(configuration, { post_logout_redirect_uri: `${origin}/` }).href;
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      return undefined;
    }
  }

  /** As it is configured, and whether it answers. */
  async view(): Promise<IdentityProvider> {
    const { clientId, groupsClaim, issuer, label, nameClaim, roles, scope } = this.config;
    const failure = await this.#configuration().then(
      () => null,
      (error: unknown) => {
        if (error instanceof Failure) return problemOf(error);
        throw error;
      },
    );
    return {
      issuer,
      client_id: clientId,
      label,
      scope,
      name_claim: nameClaim,
      groups_claim: groupsClaim,
      redirect_uri: this.#redirectUri(),
      roles: [...roles].map(([group, grants]) => ({
        group,
        roles: grants.map(({ role, group: on }) =>
          on === undefined || on === null ? role : `${role}@${on}`,
        ),
      })),
      is_reachable: failure === null,
      failure,
      can_end_sessions: (await this.endUrl()) !== undefined,
    };
  }

  /** Who came back, by what the provider says. Throws unauthenticated, forbidden, unreachable, limit_exceeded. */
  async arrive(query: string, cookie: string | undefined, address: string): Promise<Arrived> {
    const setOut = this.#setOutIn(cookie);
    this.#wrong.check(address);
    if (this.#exchanges >= EXCHANGES_MAX) {
      throw new Failure('limit_exceeded', 'too many people sign in at the same time', {
        hint: 'Try again in a few seconds.',
      });
    }
    this.#exchanges++;
    try {
      return this.#personIn(await this.#claims(query, setOut, address));
    } finally {
      this.#exchanges--;
    }
  }

  async #claims(query: string, setOut: SetOut, address: string): Promise<Record<string, unknown>> {
    const configuration = await this.#configuration();
    try {
      const tokens = await client.authorizationCodeGrant(
        configuration,
        new URL(`${this.#redirectUri()}?${query}`),
        {
          expectedState: setOut.state,
          expectedNonce: setOut.nonce,
          pkceCodeVerifier: setOut.verifier,
          idTokenExpected: true,
        },
      );
      return tokens.claims() ?? {};
    } catch (error) {
      this.#wrong.count(address);
      throw new Failure('unauthenticated', `sign in at ${this.config.issuer}`, {
        cause: error,
        hint: 'Sign in again.',
      });
    }
  }

  #personIn(claims: Record<string, unknown>): Arrived {
    const { issuer, groupsClaim, nameClaim, roles } = this.config;
    const sub = String(claims['sub']);
    const given = claims[nameClaim] ?? claims['email'] ?? sub;
    const said = (typeof given === 'string' ? given : sub)
      .replaceAll(/[^\p{L}\p{N}._@+-]/gu, '_')
      .slice(0, 100);
    // Nobody has the name of a local user: that of the provider stands behind it.
    const name = `${said} (${new URL(issuer).host})`;
    const listed = claims[groupsClaim];
    const groups = Array.isArray(listed) ? listed : typeof listed === 'string' ? [listed] : [];
    const grants = groups.flatMap((group: unknown) => roles.get(String(group)) ?? []);
    if (grants.length === 0) {
      throw new Failure('forbidden', `${name} is in no group that has a role here`, {
        hint: `Put one of the groups of the claim "${groupsClaim}" into openid_connect.roles of the manager.`,
      });
    }
    return { key: `oidc:${issuer}#${sub}`, name, grants };
  }

  #setOutIn(cookie: string | undefined): SetOut {
    try {
      const setOut = JSON.parse(Buffer.from(cookie ?? '', 'base64url').toString()) as SetOut;
      const ageMs = this.#context.clock.now() - setOut.begunMs;
      if (ageMs >= 0 && ageMs < SET_OUT_MS && typeof setOut.verifier === 'string') return setOut;
    } catch {
      // As if there were none.
    }
    throw new Failure('unauthenticated', 'nobody set out to sign in from this browser, or too long ago', {
      hint: 'Sign in again.',
    });
  }

  async #configuration(): Promise<client.Configuration> {
    const nowMs = this.#context.clock.monotonicMs();
    if (this.#known === undefined || nowMs >= this.#known.untilMs) {
      const known = { configuration: this.#discover(), untilMs: nowMs + METADATA_KEPT_MS };
      this.#known = known;
      known.configuration.catch(() => (known.untilMs = this.#context.clock.monotonicMs() + FAILURE_KEPT_MS));
    }
    return this.#known.configuration;
  }

  async #discover(): Promise<client.Configuration> {
    const { caFile, clientId, clientSecretFile, issuer } = this.config;
    try {
      const secret = (await readFile(clientSecretFile, 'utf8')).trim();
      const authorities = caFile === null ? undefined : [...rootCertificates, await readFile(caFile, 'utf8')];
      return await client.discovery(new URL(issuer), clientId, undefined, client.ClientSecretBasic(secret), {
        [client.customFetch]: (url, options) => fetchJson(url, options, authorities),
        timeout: TIMEOUT_S,
      });
    } catch (error) {
      throw new Failure('unreachable', `reach the provider of identities at ${issuer}`, {
        cause: error,
        hint: 'Local users sign in with a password; a break-glass user is there for this.',
      });
    }
  }
}

/** Roles on groups of this site that are there; the others are on nothing. */
export function knownGrants(asked: GrantRequests, groups: readonly { id: string; name: string }[]): Grant[] {
  return asked.flatMap(({ role, group }): Grant[] => {
    if (group === undefined || group === null) return [{ role, group_id: null }];
    const found = groups.find(({ name }) => name === group);
    return found === undefined ? [] : [{ role, group_id: found.id }];
  });
}

/** fetch with authorities of its own, and a bound: Node's takes neither without another library. */
function fetchJson(
  url: string,
  options: client.CustomFetchOptions,
  authorities: string[] | undefined,
): Promise<Response> {
  const body = options.body;
  if (body !== undefined && body !== null && typeof body !== 'string' && !(body instanceof URLSearchParams)) {
    throw new TypeError('only forms are sent to the provider of identities');
  }
  return new Promise((resolve, reject) => {
    const outgoing = request(
      url,
      {
        method: options.method,
        headers: options.headers,
        agent: false,
        ...(authorities === undefined ? {} : { ca: authorities }),
        ...(options.signal === undefined ? {} : { signal: options.signal }),
      },
      (incoming) => {
        const chunks: Buffer[] = [];
        let bytes = 0;
        incoming.on('data', (chunk: Buffer) => {
          bytes += chunk.length;
          chunks.push(chunk);
          if (bytes > REPLY_BYTES_MAX) incoming.destroy(new Error('the reply is too long'));
        });
        incoming.on('error', reject);
        incoming.on('end', () => {
          const headers = Object.entries(incoming.headers).flatMap(([name, value]): [string, string][] =>
            typeof value === 'string' ? [[name, value]] : [],
          );
          const status = incoming.statusCode ?? 502;
          const isEmpty = status === 204 || status === 304;
          resolve(new Response(isEmpty ? null : Buffer.concat(chunks), { status, headers }));
        });
      },
    );
    outgoing.on('error', reject);
    outgoing.end(body?.toString());
  });
}
