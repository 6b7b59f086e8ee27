import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { TestBrowser } from '#/manager/access/site-browser-fixture.ts';
import { TestSite } from '#/manager/site-fixture.ts';

const MAIN = new URL('main.ts', import.meta.url).pathname;

let site: TestSite;

before(async () => {
  site = await TestSite.start('west');
});

after(() => site[Symbol.asyncDispose]());

function antipode(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const all = [MAIN, ...args, '--manager', `unix:${site.config.socketPath}`];
  const env = { PATH: process.env['PATH'], TZ: 'UTC' };
  return new Promise((resolve) => {
    execFile(process.execPath, all, { env, timeout: 60_000 }, (error, out, err) => {
      resolve({ code: error === null ? 0 : Number(error.code ?? -1), out, err });
    });
  });
}

test('root adds a user, whose password is shown once and lets in, and ends the session', async () => {
  const added = await antipode('user', 'add', 'bob', '--role', 'recovery-operator', '--reason', 'on call');
  assert.equal(added.code, 0, added.err);
  assert.match(added.out, /^[a-z2-9]{6}(-[a-z2-9]{6}){3}\n$/);
  const browser = new TestBrowser(site);
  assert.equal((await browser.login('bob', added.out.trim())).status, 200);
  const listed = await antipode('user', 'list');
  assert.match(listed.out, /bob +recovery-operator +may sign in/);
  const sessions = await antipode('session', 'list');
  const id = /session-[0-9a-f]{12}/.exec(sessions.out)?.[0];
  assert.equal((await antipode('session', 'end', id!)).code, 0);
  assert.equal((await browser.ask('GET', '/me')).code, 'unauthenticated');

  assert.match((await antipode('user', 'role', 'bob', '--role', 'king')).err, /one of administrator/);
  assert.match(
    (await antipode('user', 'role', 'bob', '--role', 'read-only@gone')).err,
    /no protection group/,
  );
  assert.equal((await antipode('user', 'role', 'bob', '--role', 'read-only')).code, 0);
  assert.equal((await antipode('user', 'lock', 'bob')).code, 0);
  assert.match((await antipode('user', 'list')).out, /bob +read-only +locked/);
  assert.equal((await antipode('user', 'unlock', 'bob')).code, 0);
  assert.equal((await antipode('user', 'delete', 'bob')).code, 0);

  const audit = await antipode('audit', '--limit', '20');
  assert.match(audit.out, /root +unix +ok +POST \/api\/v1\/users +name=bob +on call/);
});

test('a token has a role and an end, and the short way to make one still works', async () => {
  const made = await antipode('token', 'create', 'ci', '--role', 'test-operator', '--expires', '90d');
  assert.match(made.out, /^apt1\.[\w-]{43}\n$/);
  assert.match((await antipode('token', 'carol')).out, /^apt1\./);
  const listed = (await antipode('token', 'list')).out;
  assert.match(listed, /ci +test-operator +\S+ \S+ +20/);
  assert.match(listed, /carol +administrator +\S+ \S+ +when revoked/);
  const id = /token-[0-9a-f]{12}/.exec(listed)![0];
  assert.equal((await antipode('token', 'revoke', id)).code, 0);
  assert(!(await antipode('tokens')).out.includes(id));
});

test('an export verifies without a manager, and one that was changed does not', async () => {
  const file = join(site.directory, 'audit.jsonl');
  const exported = await antipode('audit', 'export');
  await writeFile(file, exported.out);
  const whole = await antipode('audit', 'verify');
  const offline = await antipode('audit', 'verify', file);
  assert.equal(offline.code, 0, offline.err);
  const hash = /hash is ([0-9a-f]{64})/.exec(whole.out)?.[1];
  assert.match(offline.out, new RegExp(hash!));
  await writeFile(file, (await readFile(file, 'utf8')).replace('on call', 'off duty'));
  const broken = await antipode('audit', 'verify', file);
  assert.equal(broken.code, 3);
  assert.match(broken.err, /is not what it was when it was written/);
});
