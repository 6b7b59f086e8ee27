import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { test } from 'node:test';
import { call } from '#/control/https-client.ts';
import { join } from '#/control/manager-client.ts';
import { createKeyPair, createRequest } from '#/control/key-pair.ts';
import { formatToken, parseToken } from '#/control/join-token.ts';
import { certificateIdentity } from '#/lib/peer-identity.ts';
import { pairSites, TestSite } from './site-fixture.ts';

const AGENT = { kind: 'agent', name: 'host' } as const;

test('a program that joins gets a certificate of its own, and may renew it for the same key', async () => {
  await using site = await TestSite.start('east');
  const agent = await site.agent('host');
  const { certificate_pem: before, id, site_id: siteId } = agent.client.membership;
  assert.deepEqual(certificateIdentity(new X509Certificate(before)), { siteId, role: 'agent', id });
  const after = await agent.client.renew(AbortSignal.timeout(5000));
  assert.notEqual(after.certificate_pem, before);
  assert.deepEqual(
    new X509Certificate(after.certificate_pem).publicKey.export({ format: 'jwk' }),
    new X509Certificate(before).publicKey.export({ format: 'jwk' }),
  );
  await agent.send();
  const hosts = await site.api<{ items: { name: string; is_alive: boolean }[] }>('GET', '/hosts');
  assert.deepEqual(
    hosts.items.map(({ name, is_alive: isAlive }) => [name, isAlive]),
    [['host', true]],
  );
});

test('reports that follow each other share a connection', async () => {
  await using site = await TestSite.start('east');
  const agent = await site.agent('host');
  await agent.send();
  let count = 0;
  const connected = (): void => void count++;
  subscribe('net.client.socket', connected);
  try {
    for (let reports = 0; reports < 5; reports++) await agent.send();
  } finally {
    unsubscribe('net.client.socket', connected);
  }
  assert.equal(count, 0);
});

test('of many programs that join with one token at the same time, one is let in', async () => {
  await using site = await TestSite.start('east');
  const token = await site.joinToken('agent');
  const tries = await Promise.allSettled(Array.from({ length: 5 }, () => join(site.address, token, AGENT)));
  const refused = tries.filter((result) => result.status === 'rejected');
  assert.equal(refused.length, 4);
  for (const { reason } of refused) {
    assert.equal((reason as { code: string }).code, 'token_invalid');
    assert.match(String(reason), /was used already, by host-/);
  }
  const hosts = await site.api<{ total: number }>('GET', '/hosts');
  assert.equal(hosts.total, 1);
});

test('a token is refused when it is expired, for another kind, unknown, or cut while copying', async () => {
  await using site = await TestSite.start('east');
  const expired = await site.joinToken('agent');
  const { db } = site.manager.context;
  await db
    .updateTable('admission_tokens')
    .set({ expires_ms: Date.now() - 1 })
    .execute();
  await assert.rejects(join(site.address, expired, AGENT), { code: 'token_invalid', message: /expired at/ });
  const forServer = await site.joinToken('replication-server');
  await assert.rejects(join(site.address, forServer, AGENT), {
    code: 'token_invalid',
    hint: 'Make one with: antipode join-token agent',
  });
  const unknown = formatToken({ ...parseToken(expired), secret: 'A'.repeat(43) });
  await assert.rejects(join(site.address, unknown, AGENT), { code: 'token_invalid', message: /not known/ });
  await assert.rejects(join(site.address, expired.slice(0, -3), AGENT), {
    code: 'token_invalid',
    message: /cut while copying/,
  });
});

test('a request that is broken uses no token up', async () => {
  await using site = await TestSite.start('east');
  const token = await site.joinToken('agent');
  const { authority, identity } = site.manager.context;
  const target = { address: site.address, siteId: identity.siteId, caPem: authority.caPem };
  const body = { token, ...AGENT, csr_pem: '-----BEGIN CERTIFICATE REQUEST-----' };
  const options = { method: 'POST', path: '/control/v1/join', body } as const;
  await assert.rejects(call(target, options), { code: 'usage_invalid', message: /csr_pem/ });
  await join(site.address, token, AGENT);
});

test('guessing tokens is slowed down by address', async () => {
  await using site = await TestSite.start('east');
  const { authority, identity } = site.manager.context;
  const target = { address: site.address, siteId: identity.siteId, caPem: authority.caPem };
  const pair = await createKeyPair();
  const csr = await createRequest(pair.keys, 'host');
  const guess = { kind: 'agent', secret: 'B'.repeat(43), caSha256: authority.sha256 } as const;
  const body = { token: formatToken(guess), ...AGENT, csr_pem: csr };
  const options = { method: 'POST', path: '/control/v1/join', body } as const;
  for (let count = 0; count < 10; count++) {
    await assert.rejects(call(target, options), { code: 'token_invalid' });
  }
  await assert.rejects(call(target, options), { code: 'limit_exceeded', hint: /Try again in \d+ s/ });
});

test('the secret of a token is not sent to a manager that did not make it', async () => {
  await using east = await TestSite.start('east');
  await using west = await TestSite.start('west');
  const token = await east.joinToken('agent');
  await assert.rejects(join(west.address, token, AGENT), {
    code: 'certificate_invalid',
    message: /is not the one of this token/,
  });
  await join(east.address, token, AGENT);
});

test('a site that pairs is known at both, trusted by the programs of both, and its token is worth nothing more', async () => {
  await using east = await TestSite.start('east');
  await using west = await TestSite.start('west');
  const agent = await west.agent('host');
  assert.equal((await agent.now()).trust.length, 1);
  const { token } = await east.api<{ token: string }>('POST', '/pairing-tokens');
  await west.api('POST', '/pairings', { token });
  assert.deepEqual(
    (await agent.poll()).trust.map((site) => site.site_name),
    ['west', 'east'],
  );
  const sites = await east.api<{ items: { name: string }[] }>('GET', '/sites');
  assert.deepEqual(
    sites.items.map((site) => site.name),
    ['east', 'west'],
  );
  await assert.rejects(west.api('POST', '/pairings', { token }), {
    code: 'token_invalid',
    message: /used already, by site west/,
  });
  await pairSites(west, east);
});

test('a site pairs neither with itself nor with a second site of the same name', async () => {
  await using east = await TestSite.start('east');
  await using first = await TestSite.start('west');
  await using second = await TestSite.start('west');
  const { token } = await east.api<{ token: string }>('POST', '/pairing-tokens');
  await assert.rejects(east.api('POST', '/pairings', { token }), {
    code: 'usage_invalid',
    message: /this very site/,
  });
  await pairSites(east, first);
  await assert.rejects(pairSites(east, second), { code: 'already_exists', message: /named west/ });
  const agentToken = await east.joinToken('agent');
  await assert.rejects(first.api('POST', '/pairings', { token: agentToken }), { code: 'token_invalid' });
});

test('a manager that is down is named with the way out', async () => {
  const site = await TestSite.start('east');
  const { address } = site;
  const token = await site.joinToken('agent');
  await site[Symbol.asyncDispose]();
  await assert.rejects(join(address, token, AGENT), {
    code: 'unreachable',
    hint: new RegExp(`127.0.0.1:${address.port}`),
  });
});
