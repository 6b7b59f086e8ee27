/** What Prometheus reads of a site: made from facts, and asked from real managers. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { request } from 'node:https';
import { test } from 'node:test';
import { ledgerVm, twoSites } from '#/manager/site-fixture.ts';
import { metricsText, type MetricFacts } from './metrics.ts';

const FACTS: MetricFacts = {
  nowMs: 0,
  siteName: 'a "site"\\',
  vms: [],
  cycleMs: new Map(),
  programs: [],
  sites: [
    { id: '1', name: 'west', isReachable: false },
    { id: '2', name: 'north', isReachable: null },
  ],
  plans: [],
  brokenGlass: [],
  replicas: [],
  cycles: [],
  alarms: { critical: 2, warning: 0 },
};

test('names are quoted, and what is not known has no sample', async () => {
  const lines = (await metricsText(FACTS)).split('\n');
  assert(lines.includes(String.raw`antipode_site_info{site="a \"site\"\\"} 1`));
  assert.deepEqual(
    lines.filter((line) => line.startsWith('antipode_site_reachable')),
    ['antipode_site_reachable{site="west"} 0'],
  );
  assert(lines.includes('antipode_alarms{severity="critical"} 2'));
});

test('every metric that the dashboard and the documentation name is there', async () => {
  const named = new Set<string>();
  const directory = new URL('../../../docs/operate/', import.meta.url);
  for (const file of ['grafana-dashboard.json', 'metrics.md']) {
    const text = await readFile(new URL(file, directory), 'utf8');
    for (const [name] of text.matchAll(/antipode_[a-z_]+/g)) named.add(name);
  }
  const known = new Set(
    Array.from((await metricsText(FACTS)).matchAll(/^# TYPE (\S+) gauge$/gm), ([, name]) => name!),
  );
  assert.deepEqual(
    [...named].filter((name) => !known.has(name)),
    [],
  );
});

test('age, RPO and what keeps it are told of a replica, to whoever has a token', async () => {
  await using sites = await twoSites();
  const { east, eastServer, west, westAgent } = sites;
  westAgent.report.vms = [ledgerVm()];
  await westAgent.send();
  const protection = { vm: 'ledger', site: 'east', rpo_ms: 60_000 };
  const { replica_id: replicaId } = await west.api<{ replica_id: string }>(
    'POST',
    '/protections',
    protection,
  );
  await eastServer.holds(replicaId, [Date.now() - 3000, Date.now() - 2000]);
  const { token } = await east.api<{ token: string }>('POST', '/tokens', { name: 'prometheus' });
  const text = await read(east.address.port, token);
  const value = (name: string): number =>
    Number(new RegExp(`^${name}\\{[^}]*vm="ledger"[^}]*\\} (\\S+)$`, 'm').exec(text)?.[1]);
  assert(value('antipode_replica_age_seconds') >= 2);
  assert.equal(value('antipode_replica_rpo_seconds'), 60);
  assert.equal(value('antipode_replica_rpo_met'), 1);
  assert.equal(value('antipode_replica_known'), 1);
  assert.equal(value('antipode_replica_points'), 2);
  assert.match(text, /^antipode_program_up\{kind="replication-server",name="[^"]+"\} 1$/m);
});

function read(port: number, token: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const headers = { authorization: `Bearer ${token}` };
    request({ host: '127.0.0.1', port, path: '/metrics', headers, rejectUnauthorized: false }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', () => {
        assert.match(String(response.headers['content-type']), /^text\/plain; version=0\.0\.4/);
        resolve(Buffer.concat(chunks).toString());
      });
    })
      .on('error', reject)
      .end();
  });
}
