/** Users, their roles, and roles on protection groups, against real managers. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { requestJson } from '#/cli/http-json.ts';
import type { ProtectionView } from '#/api/protections.ts';
import type { UserReply } from '#/api/access.ts';
import { listClaims, putClaim } from '#/manager/store/claim-store.ts';
import { ledgerVm, TestSite, twoSites } from '#/manager/site-fixture.ts';
import { firstAdministrator, PASSWORD, TestBrowser } from './site-browser-fixture.ts';

let site: TestSite;
let alice: TestBrowser;

before(async () => {
  site = await TestSite.start('west');
  alice = await firstAdministrator(site);
});

after(() => site[Symbol.asyncDispose]());

async function bob(role = 'read-only'): Promise<TestBrowser> {
  const body = { name: 'bob', password: PASSWORD, grants: [{ role }] };
  assert.equal((await alice.ask('POST', '/users', { body })).status, 200);
  const browser = new TestBrowser(site);
  assert.equal((await browser.login('bob')).status, 200);
  return browser;
}

async function withoutBob(): Promise<void> {
  assert.equal((await alice.ask('DELETE', '/users/bob')).status, 200);
}

test('a role that is given or taken away counts from the next request on', async () => {
  const browser = await bob();
  const join = { body: { kind: 'agent' } };
  assert.equal((await browser.ask('POST', '/join-tokens', join)).code, 'forbidden');
  const give = (role: string) => alice.ask('POST', '/users/bob/grants', { body: { grants: [{ role }] } });
  await give('administrator');
  assert.equal((await browser.ask('POST', '/join-tokens', join)).status, 200);
  await give('read-only');
  assert.equal((await browser.ask('POST', '/join-tokens', join)).code, 'forbidden');
  assert.equal((await browser.ask('GET', '/status')).status, 200);
  assert.equal((await browser.ask('GET', '/users')).code, 'forbidden');
  await withoutBob();
});

test('a user who is locked or deleted is out at once, and out stays out', async () => {
  const browser = await bob();
  assert.equal((await alice.ask('POST', '/users/bob/lock')).status, 200);
  assert.equal((await browser.ask('GET', '/status')).code, 'unauthenticated');
  assert.equal((await new TestBrowser(site).login('bob')).code, 'unauthenticated');
  assert.equal((await alice.ask('POST', '/users/bob/unlock')).status, 200);
  assert.equal((await browser.ask('GET', '/status')).code, 'unauthenticated');
  assert.equal((await browser.login('bob')).status, 200);
  await withoutBob();
  assert.equal((await browser.ask('GET', '/status')).code, 'unauthenticated');
});

test('people change their own password with the old one, and their other sessions end', async () => {
  const browser = await bob();
  const other = new TestBrowser(site);
  await other.login('bob');
  const change = (old: string, password: string) =>
    browser.ask('POST', '/password', { body: { old, password } });
  assert.equal((await change('not the old one', 'another four plain words')).code, 'unauthenticated');
  assert.match((await change(PASSWORD, 'bobbobbobbob')).message, /easily guessed/);
  assert.equal((await change(PASSWORD, 'another four plain words')).status, 200);
  assert.equal((await other.ask('GET', '/me')).code, 'unauthenticated');
  assert.equal((await browser.ask('GET', '/me')).status, 200);
  assert.equal((await other.login('bob')).code, 'unauthenticated');
  assert.equal((await other.login('bob', 'another four plain words')).status, 200);
  await withoutBob();
});

test('an administrator gives a password that is made up, and shown once', async () => {
  const body = { name: 'bob', grants: [{ role: 'read-only' }] };
  const made = (await alice.ask('POST', '/users', { body })).body as unknown as UserReply;
  const browser = new TestBrowser(site);
  assert.equal((await browser.login('bob', made.password!)).status, 200);
  const reset = (await alice.ask('POST', '/users/bob/password', { body: {} })).body as unknown as UserReply;
  assert.notEqual(reset.password, made.password);
  assert.equal((await browser.ask('GET', '/me')).code, 'unauthenticated');
  assert.equal((await browser.login('bob', reset.password!)).status, 200);
  const users = await site.api('GET', '/users');
  assert(!JSON.stringify(users).includes('argon2'), 'lists have no password');
  await withoutBob();
});

test('a user chooses a password by a link that is good once, and for nothing after another password', async () => {
  await bob();
  const link = async (): Promise<string> =>
    String((await alice.ask('POST', '/users/bob/reset-link')).body['token']);
  const choose = (token: string, password: string) =>
    new TestBrowser(site).ask('POST', '/password-reset', { body: { token, password } });
  const [first, second] = [await link(), await link()];
  assert.equal((await new TestBrowser(site).login('bob')).status, 200, 'the old one is good until then');
  assert.equal((await choose(first, 'short')).code, 'usage_invalid');
  assert.equal((await choose(`${first}x`, 'four other plain words')).code, 'token_invalid');
  assert.equal((await choose(first, 'four other plain words')).status, 200);
  for (const used of [first, second])
    assert.equal((await choose(used, 'yet another four words')).code, 'token_invalid');
  assert.equal((await new TestBrowser(site).login('bob')).code, 'unauthenticated');
  assert.equal((await new TestBrowser(site).login('bob', 'four other plain words')).status, 200);
  const third = await link();
  await alice.ask('POST', '/users/bob/lock');
  assert.equal(
    (await choose(third, 'yet another four words')).code,
    'token_invalid',
    'a locked user stays out',
  );
  await withoutBob();
});

test('the last administrator can be taken away by root alone', async () => {
  const grants = [{ role: 'read-only' }];
  assert.equal((await alice.ask('POST', '/users/alice/lock')).code, 'conflict');
  assert.equal((await alice.ask('DELETE', '/users/alice')).code, 'conflict');
  assert.equal((await alice.ask('POST', '/users/alice/grants', { body: { grants } })).code, 'conflict');
  assert.equal((await alice.ask('GET', '/me')).status, 200, 'nothing was changed');
  await site.api('POST', '/users/alice/lock');
  assert.equal((await alice.ask('GET', '/me')).code, 'unauthenticated');
  await site.api('POST', '/users/alice/unlock');
  await alice.login('alice');
});

test('people see and end their own sessions, and nobody else’s but as an administrator', async () => {
  const browser = await bob('recovery-operator');
  const listed = (await browser.ask('GET', '/sessions')).body['items'] as { name: string; id: string }[];
  assert.deepEqual([...new Set(listed.map(({ name }) => name))], ['bob']);
  const all = (await alice.ask('GET', '/sessions')).body['items'] as { name: string; id: string }[];
  const foreign = all.find(({ name }) => name === 'alice')!;
  assert.equal((await browser.ask('DELETE', `/sessions/${foreign.id}`)).code, 'not_found');
  assert.equal((await alice.ask('GET', '/me')).status, 200);
  assert.equal((await browser.ask('DELETE', `/sessions/${listed[0]!.id}`)).status, 200);
  assert.equal((await browser.ask('GET', '/me')).code, 'unauthenticated');
  await withoutBob();
});

test('a role on a protection group is for what concerns its VMs alone', async () => {
  await using sites = await twoSites();
  const { east, eastServer, west, westAgent } = sites;
  const OTHER = '7a2c9a52-6d1e-4a70-9c53-2b8a5e6f1002';
  westAgent.report.vms = [ledgerVm(), ledgerVm({ uuid: OTHER, name: 'payroll' })];
  await westAgent.send();
  for (const vm of ['ledger', 'payroll']) {
    const request = { vm, site: 'east', rpo_ms: 5000 };
    const { replica_id: id } = await west.api<ProtectionView>('POST', '/protections', request);
    const of = vm === 'ledger' ? {} : { vm_uuid: OTHER, vm_name: vm };
    await eastServer.holds(id!, [Date.now() - 2000, Date.now() - 1000], of);
  }
  for (const [name, vm] of [
    ['shop', 'ledger'],
    ['hr', 'payroll'],
  ]) {
    await east.api('POST', '/groups', { name, site: 'west', vms: [vm] });
  }
  await east.api('POST', '/plans', { name: 'shop-plan', groups: ['shop'] });
  await east.api('POST', '/plans', { name: 'all-plan', groups: ['shop', 'hr'] });

  const url = new URL(`https://localhost:${east.address.port}`);
  const { caPem } = east.manager.context.authority;
  const tokens = new Map<string, string>();
  const reply = (role: string, path: string): Promise<unknown> =>
    requestJson(
      { kind: 'https', url, token: tokens.get(role)!, caPem },
      { method: 'GET', path: `/api/v1${path}`, body: undefined },
    );
  const as = async (role: string) => {
    const grants = [{ role, group: 'shop' }];
    const { token } = await east.api<{ token: string }>('POST', '/tokens', { name: role, grants });
    tokens.set(role, token);
    return async (method: 'GET' | 'POST' | 'DELETE', path: string, body?: unknown): Promise<string> => {
      const call = { method, path: `/api/v1${path}`, body };
      try {
        await requestJson({ kind: 'https', url, token, caPem }, call);
        return 'done';
      } catch (error) {
        return (error as { code: string }).code;
      }
    };
  };

  const tester = await as('test-operator');
  assert.equal(await tester('GET', '/status'), 'done', 'everything is seen');
  assert.equal(await tester('POST', '/recoveries', { vm: 'payroll', purpose: 'test' }), 'forbidden');
  assert.equal(await tester('POST', '/recoveries', { vm: 'ledger' }), 'forbidden', 'a test alone');
  assert.equal(await tester('POST', '/runs', { plan: 'all-plan', kind: 'test' }), 'forbidden');
  assert.equal(await tester('POST', '/runs', { plan: 'shop-plan', kind: 'disaster' }), 'forbidden');
  assert.equal(await tester('POST', '/recoveries', { vm: 'ledger', purpose: 'test' }), 'done');
  const run = await tester('POST', '/runs', { plan: 'shop-plan', kind: 'test' });
  assert.equal(run, 'already_exists', 'let in, and refused: the VM has a test already');
  assert.equal(await tester('DELETE', '/groups/hr'), 'forbidden');

  // Of plans, groups and fences those are seen that are about the group's VMs alone.
  const names = async (path: string): Promise<string[]> => {
    type Item = { plan?: string; vm_name?: string; document?: { name: string } };
    const { items } = (await reply('test-operator', path)) as { items: Item[] };
    return items.map((item) => item.plan ?? item.vm_name ?? item.document!.name);
  };
  assert.deepEqual(await names('/plans'), ['shop-plan']);
  assert.deepEqual(await names('/groups'), ['shop']);
  assert.deepEqual(await names('/readiness'), ['shop-plan']);
  for (const path of ['', '/file', '/details', '/addresses', '/readiness']) {
    assert.equal(await tester('GET', `/plans/all-plan${path}`), 'forbidden', path);
    assert.equal(await tester('GET', `/plans/shop-plan${path}`), 'done', path);
  }
  assert.equal(await tester('GET', '/groups/hr'), 'forbidden');
  assert.equal(await tester('POST', '/runs/check', { plan: 'all-plan', kind: 'test' }), 'forbidden');
  assert.equal(await tester('POST', '/runs/check', { plan: 'shop-plan', kind: 'test' }), 'done');

  // Who may edit the group's plans reaches no other VM by them, and no program of the manager.
  const editor = await as('plan-administrator');
  const plan = (change: object) => ({ name: 'shop-plan', groups: ['shop'], ...change });
  const put = async (change: object) => {
    const { revision } = await east.api<{ revision: number }>('GET', '/plans/shop-plan');
    return editor('POST', '/plans/shop-plan', { revision, document: plan(change) });
  };
  assert.equal(await put({ description: 'as it should be' }), 'done');
  assert.equal(await put({ groups: ['shop', 'hr'] }), 'forbidden');
  assert.equal(await put({ suspend: ['idle'] }), 'forbidden');
  const http = { kind: 'http', name: 'tell', url: 'http://10.0.0.1/' };
  assert.equal(await put({ before: [http] }), 'forbidden');
  assert.equal(await put({ vms: { ledger: { after: [http] } } }), 'forbidden');
  assert.equal(await editor('POST', '/plans', plan({ name: 'mine' })), 'done');
  assert.equal(await editor('POST', '/plans', plan({ name: 'theirs', groups: ['hr'] })), 'forbidden');
  assert.equal(await editor('DELETE', '/plans/all-plan'), 'forbidden');
  assert.equal(await editor('DELETE', '/plans/mine'), 'done');
  const file = await reply('plan-administrator', '/plans/shop-plan/file');
  const bring = (more: object) =>
    editor('POST', '/plan-files', { file: { ...(file as object), ...more }, apply: false });
  assert.equal(await bring({}), 'done', 'its groups and mappings as they are');
  assert.equal(await bring({ groups: [{ name: 'hr', site: 'west', vms: ['ledger'] }] }), 'forbidden');
  const group = (vms: string[]) => ({ name: 'shop', site: 'west', vms });
  assert.equal(await editor('POST', '/groups/shop', group(['ledger'])), 'done');
  assert.equal(await editor('POST', '/groups/shop', group(['ledger', 'payroll'])), 'forbidden');
  assert.equal(await editor('POST', '/groups/shop/vms', { add: ['payroll'] }), 'forbidden');
  assert.equal(await editor('POST', '/groups/hr/vms', { remove: ['payroll'] }), 'forbidden');
  assert.equal(await editor('POST', '/groups', { name: 'new', site: 'west', vms: ['ledger'] }), 'forbidden');
  const mapping = { site: 'west', kind: 'network', there: 'lan', here: 'default' };
  assert.equal(await editor('POST', '/mappings', mapping), 'forbidden', 'of the whole site');

  // A test of everything, begun by root, holds a VM that is not in the group.
  await east.api('POST', '/recoveries', { vm: 'payroll', purpose: 'test' });
  assert.equal(await tester('POST', '/recoveries/payroll-test/cleanup'), 'forbidden');
  assert.equal(await tester('POST', '/recoveries/ledger-test/cleanup'), 'done');

  const operator = await as('recovery-operator');
  const failback = { plan: 'shop-plan', kind: 'failback' };
  assert.equal(await operator('POST', '/runs', failback), 'forbidden', 'the plan is of another site');
  // What the sites tell each other of who runs what.
  const claims = await listClaims(west.manager.context.db);
  for (const claim of claims) await putClaim(east.manager.context.db, claim);
  assert.equal((await east.api<{ total: number }>('GET', '/fences')).total, 2);
  assert.deepEqual(await names('/fences'), ['ledger']);
  assert.equal(await operator('POST', '/fences/payroll/release', {}), 'forbidden');
  assert.equal(
    await operator('POST', '/fences/ledger/release', {}),
    'not_found',
    'let in: no host has a copy',
  );

  const keeper = await as('protection-administrator');
  const id = async (vm: string) =>
    (await east.manager.replicas.list()).find((replica) => replica.vm_name === vm)!.id;
  assert.equal(await keeper('DELETE', `/replicas/${await id('payroll')}?force=true`), 'forbidden');
  assert.equal(await keeper('DELETE', `/replicas/${await id('ledger')}`), 'conflict', 'let in, and refused');

  const administrator = await as('administrator');
  assert.equal(await administrator('GET', '/users'), 'forbidden', 'of the group, not of the site');
  assert.equal(await administrator('POST', '/join-tokens', { kind: 'agent' }), 'forbidden');

  // A group that is made anew under the same name is another group.
  await east.api('DELETE', '/plans/shop-plan');
  await east.api('DELETE', '/plans/all-plan');
  await east.api('DELETE', '/groups/shop');
  await east.api('POST', '/groups', { name: 'shop', site: 'west', vms: ['ledger'] });
  assert.equal(await tester('POST', '/recoveries', { vm: 'ledger', purpose: 'test' }), 'forbidden');
});
