/** Signing in by a real provider of identities, in a process of its own. */
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { request as httpsRequest } from 'node:https';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';
import type { AuditRow } from '#/api/audit.ts';
import { parseConfig } from '#/lib/config.ts';
import { judgeAlarms } from '#/manager/alarms/judge-alarms.ts';
import { siteFacts } from '#/manager/alarms/site-facts.ts';
import { TestSite } from '#/manager/site-fixture.ts';
import { OPENID_CONNECT } from './oidc-config.ts';
import { firstAdministrator, PASSWORD, TestBrowser } from './site-browser-fixture.ts';

const FIXTURE = new URL('oidc-provider-fixture.ts', import.meta.url).pathname;
const CALLBACK = '/api/v1/sign-in/callback';

let site: TestSite;
let provider: ChildProcess;
let issuer: string;
let alice: TestBrowser;

before(async () => {
  site = await TestSite.start('west');
  alice = await firstAdministrator(site);
  const { authority, identity } = site.manager.context;
  const issued = await authority.issueWithKey(
    { siteId: identity.siteId, role: 'manager', id: identity.managerId },
    { hosts: ['localhost'] },
  );
  const path = (name: string): string => join(site.directory, name);
  await writeFile(path('provider.key'), issued.privateKeyPem);
  await writeFile(path('provider.pem'), issued.certificatePem);
  await writeFile(path('ca.pem'), authority.caPem);
  await writeFile(path('secret'), 'a secret of the test only\n');
  const given = {
    keyFile: path('provider.key'),
    certificateFile: path('provider.pem'),
    redirectUri: `${site.manager.url}${CALLBACK}`,
    groups: { dora: ['dr-team', 'staff'], eve: ['staff'], mona: ['monitoring'] },
  };
  provider = spawn(process.execPath, [FIXTURE, JSON.stringify(given)], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  for await (const line of createInterface({ input: provider.stdout! })) {
    issuer = line;
    break;
  }
  provider.stdout!.resume();
  const configured = {
    issuer,
    client_id: 'antipode',
    client_secret_file: path('secret'),
    ca_file: path('ca.pem'),
    roles: { 'dr-team': ['recovery-operator', 'administrator@gone'], monitoring: ['read-only'] },
  };
  const openidConnect = parseConfig(configured, OPENID_CONNECT, 'test');
  await site.restart({ openidConnect });
});

after(async () => {
  await endProvider();
  await site[Symbol.asyncDispose]();
});

async function endProvider(): Promise<void> {
  if (provider.exitCode !== null || provider.signalCode !== null) return;
  const exited = once(provider, 'exit');
  provider.kill('SIGKILL');
  await exited;
}

/** A browser that follows links of both, keeps the cookies of each, and fills in the provider's forms. */
class Traveller {
  readonly #cookies = new Map<string, Map<string, string>>();

  async go(
    url: string,
    form?: Record<string, string>,
  ): Promise<{ status: number; text: string; to?: string }> {
    const { origin } = new URL(url);
    const jar = this.#cookies.get(origin) ?? new Map<string, string>();
    this.#cookies.set(origin, jar);
    const body = form === undefined ? undefined : new URLSearchParams(form).toString();
    return new Promise((resolve, reject) => {
      const request = httpsRequest(
        url,
        {
          method: body === undefined ? 'GET' : 'POST',
          rejectUnauthorized: false,
          agent: false,
          headers: {
            cookie: [...jar].map(([name, value]) => `${name}=${value}`).join('; '),
            ...(body === undefined ? {} : { 'content-type': 'application/x-www-form-urlencoded' }),
          },
        },
        (response) => {
          for (const line of response.headers['set-cookie'] ?? []) {
            const [, name, value] = /^([^=]+)=([^;]*)/.exec(line)!;
            if (value === '') jar.delete(name!);
            else jar.set(name!, value!);
          }
          const chunks: Buffer[] = [];
          response.on('data', (chunk: Buffer) => chunks.push(chunk));
          response.on('error', reject);
          response.on('end', () => {
            const { location } = response.headers;
            const text = Buffer.concat(chunks).toString();
            const to = location === undefined ? {} : { to: new URL(location, url).href };
            resolve({ status: response.statusCode ?? 0, text, ...to });
          });
        },
      );
      request.on('error', reject);
      request.end(body);
    });
  }

  /** From the manager to the provider, through its forms, up to the address back. */
  async toCallback(name: string): Promise<string> {
    let { to } = await this.go(`${site.manager.url}/api/v1/sign-in/start`);
    for (let step = 0; step < 12; step++) {
      assert(to !== undefined, 'the provider sends the browser on');
      if (to.includes(CALLBACK)) return to;
      const page = await this.go(to);
      const action = /action="([^"]+)"/.exec(page.text)?.[1];
      const isLogin = page.text.includes('name="login"');
      const answer = isLogin ? { prompt: 'login', login: name, password: 'any' } : { prompt: 'consent' };
      ({ to } = action === undefined ? page : await this.go(new URL(action, to).href, answer));
    }
    throw new Error('the provider never sends the browser back');
  }

  cookieOf(origin: string): string {
    return [...(this.#cookies.get(origin) ?? [])].map(([name, value]) => `${name}=${value}`).join('; ');
  }
}

async function signIn(name: string): Promise<{ status: number; text: string; browser: TestBrowser }> {
  const traveller = new Traveller();
  const arrived = await traveller.go(await traveller.toCallback(name));
  const browser = new TestBrowser(site);
  browser.cookie = traveller.cookieOf(site.manager.url);
  return { ...arrived, browser };
}

test('who is in a group with a role signs in with it, and is on record', async () => {
  const stranger = new TestBrowser(site);
  const { body } = await stranger.ask('GET', '/sign-in');
  assert.deepEqual(body['single_sign_on'], { label: 'single sign-on', path: '/api/v1/sign-in/start' });
  const { browser, status } = await signIn('dora');
  assert.equal(status, 302);
  const me = await browser.ask('GET', '/me');
  assert.match(String(me.body['name']), /^dora \(localhost:\d+\)$/);
  // A role on a group that this site has not is on nothing.
  assert.deepEqual(me.body['grants'], [{ role: 'recovery-operator', group_id: null }]);
  assert.equal((await browser.ask('POST', '/join-tokens', { body: { kind: 'agent' } })).code, 'forbidden');
  const { items } = await site.api<{ items: AuditRow[] }>('GET', '/audit');
  const [refused, signedIn] = items;
  assert.match(refused!.actor, /^dora \(/);
  assert.deepEqual([signedIn!.by, signedIn!.outcome], ['openid-connect', 'ok']);
  const { provider: view } = (await alice.ask('GET', '/identity-provider')).body as {
    provider: Record<string, unknown>;
  };
  assert.deepEqual([view['issuer'], view['is_reachable'], view['can_end_sessions']], [issuer, true, true]);
  assert(!JSON.stringify(view).includes('a secret of the test only'));
  // The session at the provider ends there: the browser is sent to where it is asked for.
  const out = await browser.ask('POST', '/logout');
  const end = new URL(String(out.body['provider_url']));
  assert.equal(end.origin, issuer);
  assert.equal(end.searchParams.get('post_logout_redirect_uri'), `${site.manager.url}/`);
  assert.equal((await new Traveller().go(end.href)).status, 200);
  assert.equal((await browser.ask('GET', '/me')).code, 'unauthenticated');
});

test('who is in no group with a role is not let in', async () => {
  const { browser, status, text } = await signIn('eve');
  assert.equal(status, 403);
  assert.match(text, /no group that has a role here/);
  assert.equal((await browser.ask('GET', '/me')).code, 'unauthenticated');
});

test('a way back that another browser set out for, that was changed, or that is used twice leads nowhere', async () => {
  const traveller = new Traveller();
  const back = await traveller.toCallback('dora');
  const other = await new Traveller().go(back);
  assert.match(other.text, /nobody set out to sign in from this browser/);
  const changed = new URL(back);
  changed.searchParams.set('state', 'another');
  assert.equal((await traveller.go(changed.href)).status, 401);
  const foreign = new URL(back);
  foreign.searchParams.set('iss', 'https://evil.example');
  assert.equal((await traveller.go(foreign.href)).status, 401);
  const second = new Traveller();
  const backOfSecond = new URL(await second.toCallback('mona'));
  const swapped = new URL(back);
  swapped.searchParams.set('code', backOfSecond.searchParams.get('code')!);
  assert.equal((await traveller.go(swapped.href)).status, 401, 'a code of another (PKCE, nonce)');
  assert.equal((await traveller.go(back)).status, 302);
  assert.equal((await traveller.go(back)).status, 401);
});

test('without the provider a break-glass user comes in, and everybody hears of it', async () => {
  const made = {
    name: 'glass',
    password: PASSWORD,
    grants: [{ role: 'administrator' }],
    is_break_glass: true,
  };
  assert.equal((await alice.ask('POST', '/users', { body: made })).status, 200);
  await endProvider();
  await site.restart({ openidConnect: site.manager.context.config.openidConnect });
  const refused = await new Traveller().go(`${site.manager.url}/api/v1/sign-in/start`);
  assert.equal(refused.status, 503);
  assert.match(refused.text, /break-glass/);
  const browser = new TestBrowser(site);
  assert.equal((await browser.login('glass')).status, 200);
  assert.equal((await browser.ask('POST', '/join-tokens', { body: { kind: 'agent' } })).status, 200);
  const { items } = await site.api<{ items: { kind: string; severity: string }[] }>('GET', '/events');
  const told = items.filter(({ kind }) => kind === 'access.break_glass');
  assert.deepEqual(
    told.map(({ severity }) => severity),
    ['error'],
  );
  const { context, peers, readiness, status } = site.manager;
  const alarmed = async (): Promise<string[]> => {
    const { conditions } = judgeAlarms(await siteFacts(context, { peers, readiness, status }));
    return conditions.map(({ kind, subject }) => `${kind} ${subject.name}`);
  };
  assert.deepEqual(await alarmed(), ['break_glass_used glass']);
  await alice.ask('POST', '/users/glass/password', { body: {} });
  assert.deepEqual(await alarmed(), [], 'whoever used it knows the password no more');
});
