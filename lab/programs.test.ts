import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { get } from 'node:https';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { after, before, test } from 'node:test';
import type { Page } from '#/api/common.ts';
import type { Host, ReplicationServer, Site as SiteView } from '#/api/inventory.ts';
import { systemClock } from '#/lib/system-clock.ts';
import { run } from './command.ts';
import { labStatus } from './lab-status.ts';
import { Lab } from './lab.ts';

let directory: string;
let lab: Lab;

before(async () => {
  directory = await mkdtemp('/tmp/antipode-lab-');
  await rm(directory, { recursive: true });
  lab = await Lab.up({ directory, sites: ['west', 'east'] });
});

after(async () => {
  await Lab.down(directory);
});

test('both sites have one host and one replication server that report, and know each other', async () => {
  for (const site of lab.sites) {
    const hosts = (await site.api.get<Page<Host>>('/api/v1/hosts')).items;
    const servers = (await site.api.get<Page<ReplicationServer>>('/api/v1/replication-servers')).items;
    assert.deepEqual(
      [hosts.map((host) => host.is_alive), servers.map((server) => server.is_alive)],
      [[true], [true]],
    );
    assert.equal(servers[0]!.endpoint, `${site.address}:7481`);
    const sites = (await site.api.get<Page<SiteView>>('/api/v1/sites')).items;
    assert.deepEqual(sites.map((each) => each.name).toSorted(), ['east', 'west']);
  }
});

test('the web page and the API of each site are reachable from this machine', async () => {
  for (const { name, url } of (await labStatus(lab)).sites) {
    assert.match(await pageAt(url!), /<title>Antipode/);
    const health = JSON.parse(await pageAt(new URL('/api/v1/health', url!).href)) as { site_name: string };
    assert.equal(health.site_name, name);
  }
});

/** A browser would ask whether to trust the site's authority; whom it talks to is not the question here. */
function pageAt(url: string): Promise<string> {
  return new Promise((resolve, reject) => {
    get(url, { rejectUnauthorized: false }, (response) => resolve(text(response))).on('error', reject);
  });
}

test('a program that was killed starts again as the member it was', async () => {
  const west = lab.site('west');
  const ids = async () => (await west.api.get<Page<Host>>('/api/v1/hosts')).items.map((host) => host.id);
  const before = await ids();
  await lab.kill('west', 'agent');
  await lab.kill('west', 'manager');
  await lab.start('west', 'manager');
  await lab.start('west', 'agent');
  assert.deepEqual(await ids(), before);
});

test('a killed site starts again, and nobody has to join or pair anew', async () => {
  const east = lab.site('east');
  const paths = ['/api/v1/hosts', '/api/v1/replication-servers', '/api/v1/sites'];
  const ids = async () => {
    const pages = await Promise.all(paths.map((path) => east.api.get<Page<{ id: string }>>(path)));
    return pages.map((page) => page.items.map((item) => item.id));
  };
  const before = await ids();
  await lab.killSite('east');
  await lab.start('east');
  assert.deepEqual(await ids(), before);
  const missing = (await labStatus(lab)).sites[1]!.processes.filter((each) => !each.running);
  assert.deepEqual(missing, []);
});

test('up on a lab that is up changes nothing and is quick', async () => {
  const pids = async () =>
    (await labStatus(lab)).sites.flatMap((site) => site.processes.map((each) => each.pid));
  const before = await pids();
  const startMs = systemClock.monotonicMs();
  await Lab.up({ directory, sites: ['west', 'east'] });
  assert.deepEqual(await pids(), before);
  assert(systemClock.monotonicMs() - startMs < 10_000);
});

test('the command line prints the same state as one JSON object', async () => {
  const env = { ANTIPODE_LAB: directory };
  const { stdout } = await run([process.execPath, join(import.meta.dirname, 'main.ts'), 'status', '--json'], {
    env,
  });
  assert.deepEqual(JSON.parse(stdout), JSON.parse(JSON.stringify(await labStatus(lab))));
  const refused = await run(
    [process.execPath, join(import.meta.dirname, 'main.ts'), 'kill', 'north', '--json'],
    {
      env,
      allowFailure: true,
    },
  );
  assert.equal(refused.code, 4);
  assert.equal((JSON.parse(refused.stderr) as { code: string }).code, 'not_found');
});
