import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { SiteStatus } from '#/api/status.ts';
import { twoSites } from './site-fixture.ts';

test('a VM that is protected is ordered at its host, kept at the other site, and shown at both', async () => {
  await using sites = await twoSites();
  const { west, east, westAgent, eastServer } = sites;
  await west.api('POST', '/protections', { vm: 'ledger', site: 'east', rpo_ms: 5000 });
  const [order] = (await westAgent.poll()).protections;
  assert.equal(order?.vm_name, 'ledger');
  assert.equal(order.server.host, '192.0.2.10');
  const orders = await eastServer.poll();
  assert.equal(orders.replicas[0]?.replica_id, order.replica_id);
  assert.equal(orders.trust.length, 2);
  await eastServer.holds(order.replica_id, [Date.now() - 1000, Date.now() - 500]);
  const status = await east.api<SiteStatus>('GET', '/status');
  assert.equal(status.vms[0]?.rpo, 'met');
  assert.equal(status.vms[0].role, 'recovery');
  assert.equal((await west.api<SiteStatus>('GET', '/status')).vms[0]?.role, 'protected');
});
