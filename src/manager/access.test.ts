import assert from 'node:assert/strict';
import { stat } from 'node:fs/promises';
import { request as httpRequest } from 'node:http';
import { Agent, request as httpsRequest } from 'node:https';
import { after, before, test } from 'node:test';
import { ROLES, type Role } from '#/api/access.ts';
import { ManagerApi } from '#/cli/manager-api.ts';
import { Failure } from '#/lib/failure.ts';
import { systemClock } from '#/lib/system-clock.ts';
import { RULES } from './access/endpoints.ts';
import { cookieName } from './access/session-cookie.ts';
import { CertificateAuthority } from './certificate-authority.ts';
import { ROUTES } from './http/routes.ts';
import type { CallerRole, Route } from './http/route.ts';
import { pairSites, TestSite } from './site-fixture.ts';

type Credentials = { cert?: string; key?: string; token?: string; cookie?: string; origin?: string };
type Answer = { status: number; code: string | undefined };

/** Everybody who may come: programs, a person of each role by token or cookie, and those whose session is none. */
const PROGRAMS: readonly CallerRole[] = ['agent', 'replication-server', 'peer-manager'];
const OUTSIDERS = ['nobody', 'a wrong cookie', 'an ended session', 'a cookie from another page'] as const;
const OWN_ONLY = [
  'GET /api/v1/me',
  'POST /api/v1/logout',
  'POST /api/v1/password',
  'GET /api/v1/sessions',
  'DELETE /api/v1/sessions/:id',
];

/** What each role may do, written down a second time: what the roles of a product are is not changed by the way. */
const MAY: Record<Role, readonly string[]> = {
  administrator: [
    'site.view',
    'site.manage',
    'access.manage',
    'protection.manage',
    'plan.manage',
    'recovery.test',
    'recovery.run',
    'console.test',
    'console.run',
  ],
  'plan-administrator': ['site.view', 'plan.manage', 'recovery.test', 'console.test'],
  'recovery-operator': ['site.view', 'recovery.test', 'recovery.run', 'console.test', 'console.run'],
  'test-operator': ['site.view', 'recovery.test', 'console.test'],
  'protection-administrator': ['site.view', 'protection.manage'],
  'read-only': ['site.view'],
};

let east: TestSite;
let west: TestSite;
/** What a caller of each role shows. */
const shown = new Map<string, Credentials>();
/** Connections are kept: of what a caller shows, all is in the request but its certificate. */
const connections = new Map<string, Agent>();

before(async () => {
  east = await TestSite.start('east');
  west = await TestSite.start('west');
  await pairSites(east, west);
  const agent = (await east.agent('host')).client.membership;
  const server = (await east.server('server')).client.membership;
  const manager = await west.manager.context.authority.issueWithKey({
    siteId: west.manager.context.identity.siteId,
    role: 'manager',
    id: west.manager.context.identity.managerId,
  });
  shown.set('nobody', {});
  for (const role of ROLES) {
    const request = { name: role, grants: [{ role }] };
    const { token } = await east.api<{ token: string }>('POST', '/tokens', request);
    shown.set(role, { token });
  }
  await showCookies();
  shown.set('agent', { cert: agent.certificate_pem, key: agent.private_key_pem });
  shown.set('replication-server', { cert: server.certificate_pem, key: server.private_key_pem });
  shown.set('peer-manager', { cert: manager.certificatePem, key: manager.privateKeyPem });
});

after(async () => {
  for (const connection of connections.values()) connection.destroy();
  await west[Symbol.asyncDispose]();
  await east[Symbol.asyncDispose]();
});

for (const route of ROUTES) {
  const what = `${route.method} ${route.path}`;
  const isOpen = route.roles.includes('anonymous');
  for (const role of PROGRAMS) {
    const isAllowed = isOpen || route.roles.includes(role);
    test(`${what} ${isAllowed ? 'admits' : 'refuses'} ${role}`, async () => {
      const answer = await ask(route, shown.get(role)!);
      if (isAllowed) assert(!isRefusal(answer), `${answer.status} ${answer.code}`);
      else assert.equal(answer.code, 'forbidden', `${answer.status}`);
    });
  }
  for (const role of ROLES) {
    const isAllowed = isOpen || (route.roles.includes('person') && mayEver(route, role));
    test(`${what} ${isAllowed ? 'admits' : 'refuses'} a person who is ${role}`, async () => {
      for (const how of [role, `${role} by cookie`]) {
        // Tokens change nobody's access, and first links are root's; each is a test of its own.
        const isNotForTokens = how === role && isAccessChange(route);
        if (isNotForTokens || route.path === '/api/v1/first-links') continue;
        const answer = await ask(route, shown.get(how)!);
        if (isAllowed)
          assert(!isRefusal(answer), `${how}: ${answer.status} ${answer.code} ${answer.message}`);
        else assert.equal(answer.code, 'forbidden', `${how}: ${answer.status}`);
        if (route.path === '/api/v1/logout') await showCookies();
      }
    });
  }
  if (isOpen) continue;
  test(`${what} refuses whoever has no session of this site and its page`, async () => {
    for (const outsider of OUTSIDERS) {
      const answer = await ask(route, shown.get(outsider)!);
      const isReading = route.method === 'GET';
      // What is only read, browsers keep from other pages themselves: they may send the request, and see nothing.
      if (outsider === 'a cookie from another page' && isReading) continue;
      const code = outsider === 'a cookie from another page' ? 'forbidden' : 'unauthenticated';
      assert.equal(answer.code, code, `${outsider}: ${answer.status}`);
    }
  });
}

test('every call of people has its row in the table, and every row is of a call', () => {
  const calls = ROUTES.filter(({ roles }) => roles.includes('person')).map(
    ({ method, path }) => `${method} ${path}`,
  );
  assert.deepEqual(new Set(Object.keys(RULES)), new Set(calls));
  for (const [call, { needs }] of Object.entries(RULES)) {
    const isRead = call.startsWith('GET ') || (call.startsWith('POST ') && call.endsWith('/check'));
    if (needs?.includes('site.view') === true) assert(isRead, `${call} changes something`);
    assert.equal(needs === undefined, OWN_ONLY.includes(call), call);
  }
});

function mayEver(route: Route, role: Role): boolean {
  const { needs } = RULES[`${route.method} ${route.path}`]!;
  return needs === undefined || needs.some((one) => MAY[role].includes(one));
}

function isAccessChange({ method, path }: Route): boolean {
  return method !== 'GET' && RULES[`${method} ${path}`]?.needs?.includes('access.manage') === true;
}

function isRefusal({ code }: Answer): boolean {
  return ['unauthenticated', 'forbidden', 'certificate_invalid', 'token_invalid'].includes(code ?? '');
}

/** Sessions of each role, begun without a password, as a provider of identities does. */
async function showCookies(): Promise<void> {
  const { context, sessions } = east.manager;
  const begin = async (role: Role): Promise<string> => {
    const who = { key: `test:${role}`, name: role, grants: [{ role, group_id: null }] };
    const { secret } = await sessions.begin(who, { address: '127.0.0.1', agent: 'test' });
    return `${cookieName(context.identity.siteId)}=${secret}`;
  };
  const origin = `https://127.0.0.1:${east.address.port}`;
  for (const role of ROLES) shown.set(`${role} by cookie`, { cookie: await begin(role), origin });
  const cookie = await begin('administrator');
  shown.set('a cookie from another page', { cookie, origin: 'https://evil.example' });
  shown.set('a wrong cookie', { cookie: `${cookie.slice(0, -8)}AAAAAAAA`, origin });
  const ended = await begin('administrator');
  await sessions.end((await sessions.person(ended.split('=')[1]!)).session.id);
  shown.set('an ended session', { cookie: ended, origin });
}

/** Certificates that are refused wherever one is asked for, with what is said of each. */
const BAD: Record<string, { make: () => Promise<Credentials>; message: RegExp }> = {
  'an expired certificate': {
    make: () => ownCertificate('agent', { notBeforeMs: 1_000_000, notAfterMs: Date.now() - 1000 }),
    message: /expired/,
  },
  'a certificate that is not valid yet': {
    make: () => ownCertificate('agent', { notBeforeMs: Date.now() + 3_600_000 }),
    message: /not valid before/,
  },
  'an agent of a paired site': {
    make: async () => {
      const { client } = await west.agent('west-host');
      return { cert: client.membership.certificate_pem, key: client.membership.private_key_pem };
    },
    message: /agent of site/,
  },
  'a paired site that speaks for this one': {
    make: async () => {
      const agent = (await east.agent('victim')).client.membership;
      const { siteId } = east.manager.context.identity;
      const forged = { siteId, role: 'agent', id: agent.id } as const;
      const issued = await west.manager.context.authority.issueWithKey(forged);
      return { cert: issued.certificatePem, key: issued.privateKeyPem };
    },
    message: /not issued by that site/,
  },
  'a site that is not paired': {
    make: async () => {
      await using north = await TestSite.start('north');
      const { authority, identity } = north.manager.context;
      const { siteId, managerId: id } = identity;
      const issued = await authority.issueWithKey({ siteId, role: 'manager', id });
      return { cert: issued.certificatePem, key: issued.privateKeyPem };
    },
    message: /not trusted/,
  },
  'a host that was removed': {
    make: async () => {
      const {
        certificate_pem: cert,
        private_key_pem: key,
        id,
      } = (await east.agent('gone')).client.membership;
      await east.api('DELETE', `/hosts/${id}`);
      return { cert, key };
    },
    message: /was removed/,
  },
};

for (const [what, { make, message }] of Object.entries(BAD)) {
  test(`${what} is refused wherever somebody must be known`, async () => {
    const credentials = await make();
    for (const route of ROUTES.filter(({ roles }) => !roles.includes('anonymous'))) {
      const answer = await ask(route, credentials);
      assert.equal(answer.code, 'certificate_invalid', `${route.method} ${route.path}`);
      assert.match(answer.message, message);
    }
  });
}

test('a bearer token that is wrong or revoked is refused', async () => {
  const route = ROUTES.find(({ path }) => path === '/api/v1/status')!;
  const wrong = await ask(route, { token: `apt1.${'A'.repeat(43)}` });
  assert.equal(wrong.code, 'token_invalid');
  const { id, token } = await east.api<{ id: string; token: string }>('POST', '/tokens', { name: 'bob' });
  assert.equal((await ask(route, { token })).status, 200);
  await east.api('DELETE', `/tokens/${id}`);
  assert.equal((await ask(route, { token })).code, 'token_invalid');
});

test('a token that has ended is refused, and its stream of events ends with it', async () => {
  const grants = [{ role: 'read-only' }];
  const made = await east.api<{ id: string; token: string }>('POST', '/tokens', { name: 'carol', grants });
  const client = new ManagerApi({
    kind: 'https',
    url: new URL(`https://localhost:${east.address.port}`),
    token: made.token,
    caPem: east.manager.context.authority.caPem,
  });
  const read = async (): Promise<void> => {
    for await (const message of client.stream(undefined, AbortSignal.timeout(20_000))) {
      if (message.kind === 'change') await east.api('DELETE', `/tokens/${made.id}`);
    }
  };
  await assert.rejects(read(), { code: 'token_invalid' });

  const { token } = await east.api<{ token: string }>('POST', '/tokens', {
    name: 'dave',
    grants,
    expires_ms: Date.now() + 60_000,
  });
  const route = ROUTES.find(({ path }) => path === '/api/v1/status')!;
  assert.equal((await ask(route, { token })).status, 200);
  const { db, clock } = east.manager.context;
  const end = db.updateTable('api_tokens').set({ expires_ms: clock.now() });
  await end.where('name', '=', 'dave').execute();
  const answer = await ask(route, { token });
  assert.equal(answer.code, 'token_invalid');
  assert.match(answer.message, /ended at 20/);
});

test('a token changes no user, session of others, or token, whatever its role', async () => {
  for (const route of ROUTES.filter(isAccessChange)) {
    const answer = await ask(route, shown.get('administrator')!, { name: 'mallory' });
    assert.equal(answer.code, 'forbidden', `${route.method} ${route.path}`);
    assert.match(answer.message, /a token changes no/);
  }
});

test('a stranger has no body read, and an administrator none that is too long', async () => {
  const route = ROUTES.find(({ path, method }) => path === '/api/v1/protections' && method === 'POST')!;
  const body = { vm: 'x'.repeat(300_000), site: 'east', rpo_ms: 1000 };
  assert.equal((await ask(route, {}, body)).code, 'unauthenticated');
  assert.equal((await ask(route, shown.get('administrator')!, body)).code, 'limit_exceeded');
});

test('the OpenAPI document lists every route, and the page of the API every one for people', async () => {
  const document = await east.api<{ openapi: string; paths: Record<string, object> }>('GET', '/openapi.json');
  assert.equal(document.openapi, '3.1.0');
  for (const route of ROUTES.filter(({ isHidden }) => isHidden !== true)) {
    const path = route.path.replaceAll(/:(\w+)/g, '{$1}');
    const operations = document.paths[path] as Record<string, unknown> | undefined;
    assert(operations?.[route.method.toLowerCase()], `${route.method} ${path}`);
  }
  const page = await ask(
    ROUTES.find(({ path }) => path === '/api')!,
    {},
  );
  assert.match(page.message, /\/api\/v1\/protections/);
});

async function ownCertificate(
  role: 'agent',
  validity: { notBeforeMs?: number; notAfterMs?: number },
): Promise<Credentials> {
  const { id } = (await east.agent('expired')).client.membership;
  const { config, identity } = east.manager.context;
  const authority = await CertificateAuthority.open(config.dataDirectory, identity.siteId, systemClock);
  const subject = { siteId: identity.siteId, role, id };
  const issued = await authority.issueWithKey(subject, validity);
  return { cert: issued.certificatePem, key: issued.privateKeyPem };
}

/** One call over HTTPS. A stream is left as soon as it begins, and so is a poll: both were admitted by then. */
function ask(route: Route, shownBy: Credentials, body?: object): Promise<Answer & { message: string }> {
  const sent = Buffer.from(JSON.stringify(body ?? {}));
  const isLong = route.path.endsWith('/orders');
  return new Promise((resolve, reject) => {
    const request = httpsRequest(
      {
        ...east.address,
        method: route.method,
        path: route.path.replaceAll(/:\w+/g, 'nothing') + (isLong ? '?after=0' : ''),
        rejectUnauthorized: false,
        agent: connectionOf(shownBy),
        headers: {
          ...(shownBy.cookie === undefined ? {} : { cookie: shownBy.cookie }),
          ...(shownBy.origin === undefined ? {} : { origin: shownBy.origin }),
          ...(shownBy.token === undefined ? {} : { authorization: `Bearer ${shownBy.token}` }),
          ...(route.method === 'POST'
            ? { 'content-type': 'application/json', 'content-length': sent.length }
            : {}),
        },
      },
      (response) => {
        const isStream = response.headers['content-type'] === 'text/event-stream';
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', reject);
        response.on(isStream ? 'data' : 'end', () => {
          const text = Buffer.concat(chunks).toString();
          if (isStream) request.destroy();
          let problem: { code?: string; message?: string } = {};
          try {
            problem = JSON.parse(text) as typeof problem;
          } catch {
            problem = { message: text };
          }
          const { code, message = '' } = problem;
          resolve({ status: response.statusCode ?? 0, code, message });
        });
      },
    );
    request.on('error', (error) => reject(new Failure('unreachable', route.path, { cause: error })));
    request.end(route.method === 'POST' ? sent : undefined);
  });
}

function connectionOf({ cert, key }: Credentials): Agent {
  const known = connections.get(cert ?? '');
  if (known !== undefined) return known;
  const made = new Agent({
    keepAlive: true,
    rejectUnauthorized: false,
    ...(cert === undefined ? {} : { cert, key }),
  });
  connections.set(cert ?? '', made);
  return made;
}

test('root on the Unix socket is the administrator, and nobody else may connect to it', async () => {
  const { mode } = await stat(east.config.socketPath);
  assert.equal(mode & 0o777, 0o600);
  const status = await new Promise<number>((resolve, reject) => {
    const path = '/api/v1/status';
    const request = httpRequest({ socketPath: east.config.socketPath, path }, (response) => {
      response.resume();
      resolve(response.statusCode ?? 0);
    });
    request.on('error', reject);
    request.end();
  });
  assert.equal(status, 200);
});
