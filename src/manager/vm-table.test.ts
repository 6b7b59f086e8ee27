import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Overview } from '#/api/overview.ts';
import type { VmTable } from '#/api/vm-table.ts';
import { LEDGER_UUID, ledgerVm, TestSite, twoSites } from './site-fixture.ts';
import { agePeaks } from './vm-table.ts';

const table = (site: TestSite, query = ''): Promise<VmTable> => site.api('GET', `/vm-table${query}`);

test('the table has every VM of every host, with how it stands and why it cannot be protected', async () => {
  await using sites = await twoSites();
  const { west, westAgent } = sites;
  const refusals = ['Disk vdb is a pass-through device.'];
  westAgent.report.vms = [
    ledgerVm(),
    ledgerVm({ uuid: '7a2c9a52-6d1e-4a70-9c53-2b8a5e6f1002', name: 'san', refusals }),
  ];
  await westAgent.send();
  const { items, counts } = await table(west);
  assert.deepEqual(
    items.map((row) => [row.vm_name, row.standing, row.reasons]),
    [
      ['ledger', 'unprotected', []],
      ['san', 'refused', refusals],
    ],
  );
  assert.deepEqual([counts.all, counts.unprotected, counts.refused], [2, 1, 1]);
});

test('a protected VM stands alike at both sites, by what each of them was told', async () => {
  await using sites = await twoSites();
  const { east, eastServer, west } = sites;
  const request = { vm: 'ledger', site: 'east', rpo_ms: 60_000 };
  const { replica_id: id } = await west.api<{ replica_id: string }>('POST', '/protections', request);
  assert.equal((await table(west)).items[0]?.standing, 'none');
  const nowMs = Date.now();
  await eastServer.holds(id, [nowMs - 9000, nowMs - 5000, nowMs - 1000]);
  const [row] = (await table(east)).items;
  assert.deepEqual([row?.vm_uuid, row?.standing, row?.state], [LEDGER_UUID, 'met', 'elsewhere']);
  assert.deepEqual(row?.age_peaks_ms, [4100, 4100]);
  assert(row.stored_bytes! > 0 && row.change_bytes_per_s! > 0);
  await eastServer.holds(id, [nowMs - 120_000]);
  assert.equal((await table(east)).items[0]?.standing, 'violated');
  const overview = await east.api<Overview>('GET', '/overview');
  assert.deepEqual([overview.counts.violated, overview.worst[0]?.vm_name], [1, 'ledger']);
  const flow = overview.flows.find((one) => one.from === 'west' && one.to === 'east');
  assert.deepEqual([flow?.vm_count, flow?.violated_count], [1, 1]);
  assert(overview.needs.some((need) => need.subject.kind === 'vm' && need.subject.id === LEDGER_UUID));
});

test('the manager searches, filters, sorts and pages, and counts all whatever was searched for', async () => {
  await using sites = await twoSites();
  const { west, westAgent } = sites;
  const uuid = (index: number): string => `7a2c9a52-6d1e-4a70-9c53-${String(index).padStart(12, '0')}`;
  westAgent.report.vms = Array.from({ length: 30 }, (_, index) =>
    ledgerVm({
      uuid: uuid(index),
      name: `vm-${index}`,
      disks: [{ key: 'vda', bytes: 1000 * (30 - index), format: 'qcow2', path: '/a', refusal: null }],
      refusals: index < 3 ? ['no'] : [],
    }),
  );
  await westAgent.send();
  const names = async (query: string): Promise<string[]> =>
    (await table(west, query)).items.map((row) => row.vm_name);
  // Numbers in names are in the order of numbers.
  assert.deepEqual(await names('?limit=3&offset=9'), ['vm-9', 'vm-10', 'vm-11']);
  assert.deepEqual(await names('?sort=bytes&limit=2'), ['vm-29', 'vm-28']);
  assert.deepEqual(await names('?sort=bytes&order=descending&limit=2'), ['vm-0', 'vm-1']);
  assert.deepEqual(await names('?search=M-12'), ['vm-12']);
  assert.deepEqual(await names(`?search=${uuid(7)}`), ['vm-7']);
  const refused = await table(west, '?standing=refused&limit=1');
  assert.deepEqual([refused.items.length, refused.total, refused.counts.all], [1, 3, 30]);
  await assert.rejects(table(west, '?sort=colour'), /sort/);
});

test('the peaks of an age are what each point had become when the next one was there', () => {
  const point = (moment: number, acknowledged: number) => ({
    moment_ms: moment,
    acknowledged_ms: acknowledged,
    delta_bytes: 0,
  });
  assert.deepEqual(agePeaks([]), []);
  assert.deepEqual(agePeaks([point(0, 10)]), []);
  assert.deepEqual(agePeaks([point(0, 10), point(100, 130), point(200, 250)]), [130, 150]);
  assert.equal(agePeaks(Array.from({ length: 100 }, (_, i) => point(i * 10, i * 10 + 5))).length, 24);
});
