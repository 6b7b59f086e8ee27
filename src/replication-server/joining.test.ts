import assert from 'node:assert/strict';
import { readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { TestSite } from '#/manager/site-fixture.ts';
import { RealServer } from './real-server-fixture.ts';

type Listed = { items: { id: string; endpoint: string | null }[] };

test('a server joins its manager by a token, once, reports where it listens, and outlives the manager', async () => {
  await using site = await TestSite.start('east');
  await using server = await RealServer.joining(site.address, await site.joinToken('replication-server'));
  await server.start();
  const joined = await server.said('joined');
  const path = join(server.directory, 'data/membership.json');
  assert.equal((await stat(path)).mode & 0o777, 0o600);
  await server.said('orders.taken');
  const listed = await reported(site, server.port);
  assert.equal(listed.id, joined['id']);

  // What it has joined it does not join again, with or without a manager.
  await server.stop('SIGKILL');
  await server.start();
  await site.restart();
  await reported(site, server.port);
  assert.equal(
    server.lines.some((line) => line['event'] === 'joined'),
    false,
  );
  assert.equal(await server.stop('SIGTERM'), 0);

  // The token was used up by joining.
  await rm(path);
  await assert.rejects(server.start(), /token_invalid/);
  assert.equal(await server.stop('SIGKILL'), 5);
});

test('a token of another kind, and the address of another manager, are refused before the token is told', async () => {
  await using site = await TestSite.start('east');
  await using other = await TestSite.start('north');
  const token = await site.joinToken('agent');
  await using wrongKind = await RealServer.joining(site.address, token);
  await assert.rejects(wrongKind.start(), /the token admits a agent|token_invalid/);
  const own = await site.joinToken('replication-server');
  await using wrongPlace = await RealServer.joining(other.address, own);
  await assert.rejects(wrongPlace.start(), /certificate_invalid/);
  // Nobody has seen the secret: it still admits.
  await using right = await RealServer.joining(site.address, own);
  await right.start();
  assert.match(await readFile(join(right.directory, 'data/membership.json'), 'utf8'), /private_key_pem/);
});

/** Waits until the manager shows the server at this port. */
async function reported(site: TestSite, port: number): Promise<Listed['items'][number]> {
  for (let tries = 0; tries < 200; tries++) {
    const { items } = await site.api<Listed>('GET', '/replication-servers');
    const found = items.find(({ endpoint }) => endpoint === `127.0.0.1:${port}`);
    if (found !== undefined) return found;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert.fail(`the manager never showed port ${port}`);
}
