/** Health, as a load balancer sees it. */
import assert from 'node:assert/strict';
import { request } from 'node:https';
import { test } from 'node:test';
import { sql } from 'kysely';
import { TestSite } from './site-fixture.ts';

type Answer = { status: number; text: string; body: { status: string; checks: Record<string, string> } };

/** As anybody: no certificate, no token. */
function ask(site: TestSite, path: string): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const asked = request({ ...site.address, path, rejectUnauthorized: false, agent: false }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (part: string) => (text += part));
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, text, body: JSON.parse(text) as Answer['body'] }),
      );
    });
    asked.on('error', reject);
    asked.end();
  });
}

const GOOD = { certificate: 'ok', database: 'ok', rebuild: 'ok', schema: 'ok' };

test('a manager that runs is alive and ready, and says nothing more', async () => {
  await using site = await TestSite.start('east');
  assert.deepEqual((await ask(site, '/healthz')).body, { status: 'alive' });
  const { body, status, text } = await ask(site, '/readyz');
  assert.equal(status, 200);
  assert.deepEqual(body, { status: 'ready', checks: GOOD });
  assert(!text.includes('east'), 'not even its name');
});

test('tables of another version and a lost database make it not ready, each by its name, while it stays alive', async () => {
  await using site = await TestSite.start('east');
  const { db } = site.manager.context;
  await sql`insert into kysely_migration (name, timestamp) values ('9999-later', '')`.execute(db);
  const newer = await ask(site, '/readyz');
  assert.equal(newer.status, 503);
  assert.deepEqual(newer.body, { status: 'not_ready', checks: { ...GOOD, schema: 'failing' } });
  await db.destroy();
  // What was seen is kept for a second, so that nobody can keep the database busy by asking.
  assert.equal((await ask(site, '/readyz')).body.checks['database'], 'ok');
  await site.manager.context.clock.sleep(1050);
  const lost = await ask(site, '/readyz');
  assert.deepEqual(lost.body.checks, { ...GOOD, database: 'failing', schema: 'unknown', rebuild: 'unknown' });
  assert(!/sqlite|driver|destroy|Error/i.test(lost.text), 'no reasons for strangers');
  assert.equal((await ask(site, '/healthz')).status, 200);
});

test('who asks far too often is refused for the rest of the second', async () => {
  await using site = await TestSite.start('east');
  const { health } = site.manager;
  let refused = 0;
  for (let i = 0; i < 200; i++) {
    try {
      health.count('192.0.2.7');
    } catch {
      refused++;
    }
  }
  assert(refused >= 100, `${refused}`);
  health.count('192.0.2.8');
});
