/** Signing in with a browser, against a real manager. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { TestSite } from '#/manager/site-fixture.ts';
import { SESSION_IDLE_MS, SESSION_LIFE_MS } from '#/manager/limits.ts';
import { waitAfter } from './users.ts';
import { firstAdministrator, PASSWORD, TestBrowser } from './site-browser-fixture.ts';

let site: TestSite;
let alice: TestBrowser;

before(async () => {
  site = await TestSite.start('west');
});

after(() => site[Symbol.asyncDispose]());

test('a new site has no user, and its first link makes one administrator, once', async () => {
  const stranger = new TestBrowser(site);
  const before = await stranger.ask('GET', '/sign-in');
  assert.equal(before.body['needs_first_administrator'], true);
  assert.equal((await stranger.login('admin', 'admin')).code, 'unauthenticated');

  const { token, url } = await site.api<{ token: string; url: string }>('POST', '/first-links');
  assert.match(url, /^https:\/\/127\.0\.0\.1:\d+\/first#apf1\./);
  const weak = { token, name: 'alice', password: 'short' };
  const refused = await stranger.ask('POST', '/first-administrator', { body: weak });
  assert.match(refused.message, /fewer than 12/);
  const guessed = { token: `apf1.${'A'.repeat(43)}`, name: 'alice', password: PASSWORD };
  assert.equal((await stranger.ask('POST', '/first-administrator', { body: guessed })).code, 'token_invalid');

  const body = { token, name: 'alice', password: PASSWORD };
  const made = await stranger.ask('POST', '/first-administrator', { body });
  assert.equal(made.status, 200, made.message);
  const again = await new TestBrowser(site).ask('POST', '/first-administrator', {
    body: { ...body, name: 'mallory' },
  });
  assert.equal(again.code, 'token_invalid');
  await assert.rejects(site.api('POST', '/first-links'), { code: 'conflict' });
  assert.equal((await stranger.ask('GET', '/sign-in')).body['needs_first_administrator'], false);
  alice = stranger;
});

test('two uses of two first links at the same time make one administrator', async () => {
  await using other = await TestSite.start('east');
  const tokens = await Promise.all([1, 2].map(() => other.api<{ token: string }>('POST', '/first-links')));
  const made = await Promise.all(
    tokens.map(({ token }, index) =>
      new TestBrowser(other).ask('POST', '/first-administrator', {
        body: { token, name: `user${index}`, password: PASSWORD },
      }),
    ),
  );
  assert.deepEqual(new Set(made.map(({ status }) => status)), new Set([200, 409]));
});

test('a session is a cookie that scripts and other sites cannot have', async () => {
  const browser = new TestBrowser(site);
  const { headers, body, status } = await browser.login('Alice');
  assert.equal(status, 200);
  const [cookie] = headers['set-cookie'] ?? [];
  const { siteId } = site.manager.context.identity;
  assert.match(cookie!, new RegExp(`^__Host-antipode-${siteId}=[\\w-]{43}; `));
  for (const part of ['Path=/', 'Secure', 'HttpOnly', 'SameSite=Strict']) {
    assert(cookie!.split('; ').includes(part), part);
  }
  assert.equal(body['name'], 'alice');
  assert.equal(body['by'], 'session');
  const secret = browser.cookie!.split('=')[1]!;
  const rows = await site.manager.context.db.selectFrom('sessions').selectAll().execute();
  assert(rows.length > 0 && !JSON.stringify(rows).includes(secret), 'the secret is kept nowhere');

  const me = await browser.ask('GET', '/me');
  assert.deepEqual(me.body['grants'], [{ role: 'administrator', group_id: null }]);
  assert((me.body['permissions'] as string[]).includes('recovery.run'));
});

test('a wrong password, an unknown name and a cookie of nothing are refused alike', async () => {
  const browser = new TestBrowser(site);
  const wrong = await browser.login('alice', 'not the right words');
  const unknown = await browser.login('nobody', 'not the right words');
  assert.equal(wrong.code, 'unauthenticated');
  assert.deepEqual(unknown.body, wrong.body);
  const { siteId } = site.manager.context.identity;
  for (const value of ['', 'A'.repeat(43), 'A'.repeat(9000)]) {
    const cookie = `__Host-antipode-${siteId}=${value}`;
    assert.equal((await browser.ask('GET', '/me', { cookie })).code, 'unauthenticated', value.slice(0, 50));
  }
  const twice = `${alice.cookie}; ${alice.cookie}`;
  assert.equal((await browser.ask('GET', '/me', { cookie: twice })).code, 'unauthenticated');
});

test('wrong passwords make their name wait, whether a user has it or not, and the right one has to wait too', async () => {
  await using other = await TestSite.start('east');
  const browser = await firstAdministrator(other);
  const failures = () => other.manager.context.db.updateTable('sign_in_failures');
  for (const name of ['alice', 'nobody']) {
    for (let i = 0; i < 5; i++) {
      assert.equal((await browser.login(name, `wrong words ${i}`)).code, 'unauthenticated', name);
    }
    // As long a wait as there is, so that a slow machine is not through with it.
    const { numUpdatedRows } = await failures().set({ count: 30 }).where('count', '=', 5).executeTakeFirst();
    assert.equal(numUpdatedRows, 1n, `five were counted for ${name}`);
    const refused = await browser.login(name);
    assert.equal(refused.code, 'limit_exceeded', name);
    assert.match(String(refused.body['hint']), /Try again in (900|8\d\d) s/);
    // Forgets what came from which address, which has a bound of its own, and not what was tried for which name.
    await other.restart();
    assert.equal((await browser.login(name)).code, 'limit_exceeded', name);
  }
  const longAgoMs = Date.now() - waitAfter(30);
  await failures().set({ last_ms: longAgoMs }).execute();
  assert.equal((await browser.login('alice')).status, 200);
  const left = await other.manager.context.db.selectFrom('sign_in_failures').selectAll().execute();
  assert.equal(left.length, 1, 'the right password forgives the wrong ones of its name only');
});

test('the wait doubles from a second to a quarter of an hour', () => {
  const waits = [0, 4, 5, 6, 7, 14, 15, 1_000_000].map(waitAfter);
  assert.deepEqual(waits, [0, 0, 1000, 2000, 4000, 512_000, 900_000, 900_000]);
});

test('many guesses at the same time are counted as many', async () => {
  await using other = await TestSite.start('east');
  await firstAdministrator(other);
  const guesses = Array.from({ length: 9 }, (_, i) =>
    new TestBrowser(other).login('alice', `guess number ${i}`),
  );
  const codes = (await Promise.all(guesses)).map(({ code }) => code);
  const judged = codes.filter((code) => code === 'unauthenticated').length;
  assert(judged <= 5, `${judged} of 9 were judged`);
});

test('a request that changes something is taken from the own page only', async () => {
  const browser = new TestBrowser(site);
  await browser.login('alice');
  const send = (headers: Record<string, string | undefined>) =>
    browser.ask('POST', '/join-tokens', { body: { kind: 'agent' }, headers });
  const other = `https://127.0.0.1:${site.address.port + 1}`;
  for (const headers of [
    { origin: 'https://evil.example', 'sec-fetch-site': 'cross-site' },
    { origin: other, 'sec-fetch-site': 'same-site' },
    { origin: other, 'sec-fetch-site': undefined },
    { origin: browser.origin.replace('https', 'http'), 'sec-fetch-site': undefined },
    { origin: 'null', 'sec-fetch-site': undefined },
    { origin: undefined, 'sec-fetch-site': undefined },
    { origin: browser.origin, 'sec-fetch-site': 'same-site' },
    // The header is for clients that send no origin; it does not excuse a wrong one.
    { origin: other, 'sec-fetch-site': undefined, 'antipode-request': '1' },
  ]) {
    const answer = await send(headers);
    assert.equal(answer.code, 'forbidden', JSON.stringify(headers));
  }
  assert.equal((await send({})).status, 200);
  const bare = { origin: undefined, 'sec-fetch-site': undefined, 'antipode-request': '1' };
  assert.equal((await send(bare)).status, 200);
  const login = { body: { name: 'alice', password: PASSWORD }, headers: { origin: 'https://evil.example' } };
  assert.equal((await browser.ask('POST', '/login', login)).code, 'forbidden');
});

test('a session ends by signing out, by another session, and with a manager of before none is lost', async () => {
  const [first, second] = [new TestBrowser(site), new TestBrowser(site)];
  await first.login('alice');
  await second.login('alice');
  const cookie = first.cookie!;
  await site.restart();
  const { body } = await second.ask('GET', '/sessions');
  const items = body['items'] as { id: string; is_own: boolean; name: string; address: string }[];
  assert.equal(items.filter(({ is_own }) => is_own).length, 1);
  const own = (await first.ask('GET', '/me')).body['session'] as { id: string };
  assert(items.some(({ id, address }) => id === own.id && address.includes('127.0.0.1')));
  assert.equal((await second.ask('DELETE', `/sessions/${own.id}`)).status, 200);
  assert.equal((await first.ask('GET', '/me', { cookie })).code, 'unauthenticated');

  const left = second.cookie!;
  assert.equal((await second.ask('POST', '/logout')).status, 200);
  assert.equal(second.cookie, undefined);
  assert.equal((await second.ask('GET', '/me', { cookie: left })).code, 'unauthenticated');
});

for (const [what, column, ageMs] of [
  ['nobody uses for an hour', 'seen_ms', SESSION_IDLE_MS],
  ['is half a day old', 'ends_ms', SESSION_LIFE_MS],
] as const) {
  test(`a session that ${what} has ended`, async () => {
    const browser = new TestBrowser(site);
    await browser.login('alice');
    const { db, clock } = site.manager.context;
    const { session } = (await browser.ask('GET', '/me')).body as { session: { id: string } };
    const change = column === 'seen_ms' ? { seen_ms: clock.now() - ageMs } : { ends_ms: clock.now() };
    await db.updateTable('sessions').set(change).where('id', '=', session.id).execute();
    assert.equal((await browser.ask('GET', '/me')).code, 'unauthenticated');
    // And its row goes with the next that begins.
    await browser.login('alice');
    const row = await db.selectFrom('sessions').select('id').where('id', '=', session.id).executeTakeFirst();
    assert.equal(row, undefined);
  });
}

test('a cookie of another site is worth nothing', async () => {
  await using other = await TestSite.start('east');
  const stranger = await firstAdministrator(other);
  const value = stranger.cookie!.split('=')[1]!;
  const { siteId } = site.manager.context.identity;
  const browser = new TestBrowser(site);
  for (const cookie of [stranger.cookie, `__Host-antipode-${siteId}=${value}`]) {
    assert.equal((await browser.ask('GET', '/me', { cookie })).code, 'unauthenticated');
  }
});

test('every answer tells browsers to run no foreign script and to show it in no frame', async () => {
  const browser = new TestBrowser(site);
  for (const path of ['/health', '/me', '/nothing']) {
    const { headers } = await browser.ask('GET', path);
    const policy = headers['content-security-policy'] as string;
    assert.match(policy, /script-src 'self';/);
    assert.match(policy, /frame-ancestors 'none'/);
    assert(!policy.includes('unsafe'), policy);
    assert.equal(headers['x-content-type-options'], 'nosniff');
    assert.equal(headers['referrer-policy'], 'no-referrer');
    assert.equal(headers['cache-control'], 'no-store');
  }
});
