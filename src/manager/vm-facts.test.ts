import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { VmFacts } from '#/api/peer.ts';
import type { ProtectionView } from '#/api/protections.ts';
import { GIB, ledgerVm, twoSites } from './site-fixture.ts';
import { listVmFacts } from './store/vm-facts-store.ts';

test('the recovery site knows a VM as it last was, also when the protected site is gone', async () => {
  await using sites = await twoSites();
  const { east, west, westAgent } = sites;
  const [peer] = await west.manager.peers.list();
  const { replica_id: replicaId } = await west.api<ProtectionView>('POST', '/protections', {
    vm: 'ledger',
    site: 'east',
    rpo_ms: 60_000,
  });
  const known = async (): Promise<VmFacts | undefined> =>
    (await listVmFacts(east.manager.context.db)).get(replicaId ?? '');
  await west.manager.protections.reconcile(peer!);
  const facts = {
    host_name: 'west-host',
    memory_bytes: GIB,
    vcpu_count: 1,
    networks: ['default'],
    disk_directories: ['/'],
    copy_site_ids: [peer!.site_id],
    interfaces: [],
  };
  assert.deepEqual(await known(), facts);
  const interfaces = [{ mac: '52:54:00:00:00:01', network: 'lan', addresses: ['10.1.0.5/24'] }];
  westAgent.report.vms = [ledgerVm({ networks: ['lan'], interfaces })];
  await westAgent.send();
  await west.manager.protections.reconcile(peer!);
  assert.deepEqual(await known(), { ...facts, networks: ['lan'], interfaces });
  const silent = [{ ...interfaces[0]!, network: 'lan-2', addresses: [] }];
  westAgent.report.vms = [ledgerVm({ networks: ['lan-2'], interfaces: silent })];
  await westAgent.send();
  await west.manager.protections.reconcile(peer!);
  const moved = [{ ...interfaces[0]!, network: 'lan-2' }];
  assert.deepEqual((await known())?.interfaces, moved, 'a guest that tells nothing keeps what it told');
  await east.restart();
  await west.stop();
  assert.deepEqual((await known())?.interfaces, moved);
});
