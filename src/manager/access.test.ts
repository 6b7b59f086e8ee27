import assert from 'node:assert/strict';
import { stat } from 'node:fs/promises';
import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { after, before, test } from 'node:test';
import { Failure } from '#/lib/failure.ts';
import { systemClock } from '#/lib/system-clock.ts';
import { CertificateAuthority } from './certificate-authority.ts';
import { ROUTES } from './http/routes.ts';
import type { CallerRole, Route } from './http/route.ts';
import { pairSites, TestSite } from './site-fixture.ts';

type Credentials = { cert?: string; key?: string; token?: string };
type Answer = { status: number; code: string | undefined };

const ROLES: readonly CallerRole[] = [
  'anonymous',
  'administrator',
  'agent',
  'replication-server',
  'peer-manager',
];

let east: TestSite;
let west: TestSite;
/** What a caller of each role shows. */
const shown = new Map<CallerRole, Credentials>();

before(async () => {
  east = await TestSite.start('east');
  west = await TestSite.start('west');
  await pairSites(east, west);
  const agent = (await east.agent('host')).client.membership;
  const server = (await east.server('server')).client.membership;
  const { token } = await east.api<{ token: string }>('POST', '/tokens', { name: 'alice' });
  const manager = await west.manager.context.authority.issueWithKey({
    siteId: west.manager.context.identity.siteId,
    role: 'manager',
    id: west.manager.context.identity.managerId,
  });
  shown.set('anonymous', {});
  shown.set('administrator', { token });
  shown.set('agent', { cert: agent.certificate_pem, key: agent.private_key_pem });
  shown.set('replication-server', { cert: server.certificate_pem, key: server.private_key_pem });
  shown.set('peer-manager', { cert: manager.certificatePem, key: manager.privateKeyPem });
});

after(async () => {
  await west[Symbol.asyncDispose]();
  await east[Symbol.asyncDispose]();
});

for (const route of ROUTES) {
  for (const role of ROLES) {
    const isAllowed = route.roles.includes(role) || route.roles.includes('anonymous');
    test(`${route.method} ${route.path} ${isAllowed ? 'admits' : 'refuses'} ${role}`, async () => {
      const { status, code } = await ask(route, shown.get(role)!);
      const isRefused = ['unauthenticated', 'forbidden', 'certificate_invalid'].includes(code ?? '');
      // Tokens and the first link are made by root only, which are tests of their own.
      const isRootOnly =
        route.method === 'POST' && ['/api/v1/tokens', '/api/v1/first-links'].includes(route.path);
      if (isAllowed && !isRootOnly) assert(!isRefused, `${status} ${code}`);
      else if (!isAllowed) {
        assert.equal(code, role === 'anonymous' ? 'unauthenticated' : 'forbidden', `${status}`);
      }
    });
  }
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

test('a bearer token makes no other token', async () => {
  const route = ROUTES.find(({ path, method }) => path === '/api/v1/tokens' && method === 'POST')!;
  const answer = await ask(route, shown.get('administrator')!, { name: 'mallory' });
  assert.equal(answer.code, 'forbidden');
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
  for (const route of ROUTES) {
    const path = route.path.replaceAll(/:(\w+)/g, '{$1}');
    const operations = document.paths[path] as Record<string, unknown> | undefined;
    assert(operations?.[route.method.toLowerCase()], `${route.method} ${path}`);
  }
  const page = await ask(
    ROUTES.find(({ path }) => path === '/')!,
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
        agent: false,
        ...(shownBy.cert === undefined ? {} : { cert: shownBy.cert, key: shownBy.key }),
        headers: {
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
          request.destroy();
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
