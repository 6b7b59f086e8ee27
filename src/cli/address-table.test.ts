import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { PlanAddresses } from '#/api/plan-files.ts';
import type { PlanDocument } from '#/api/plans.ts';
import { addressTable, COLUMNS, takeAddressTable } from './address-table.ts';
import { csvText, parseCsv } from './csv.ts';

const MAC = '52:54:00:00:00:01';
const nic = (place: number, mac: string, before: string[] = []) => ({
  nic: place,
  mac,
  network: 'lan',
  network_here: 'lan',
  before,
  after: null,
  rules: [],
});
const vm = (name: string, interfaces: ReturnType<typeof nic>[]): PlanAddresses['vms'][number] => ({
  vm_uuid: `uuid-${name}`,
  vm_name: name,
  source_site_name: 'west',
  host_name: null,
  customize_by: 'agent',
  interfaces,
});
const FOUND: PlanAddresses = {
  vms: [
    vm('web', [nic(0, MAC, ['10.1.0.5/24', '2001:db8:1::5/64']), nic(1, '52:54:00:00:00:02')]),
    vm('a, "b"', [nic(0, '52:54:00:00:00:03')]),
  ],
  problems: [],
};
const PLAN: PlanDocument = { name: 'all', groups: ['shop'] };
const HEAD = COLUMNS.join(',');
const take = (rows: string[], plan = PLAN, head = HEAD) =>
  takeAddressTable([head, ...rows].join('\n'), 'a.csv', { found: FOUND, plan, site: 'east' });

test('cells hold whatever they hold', () => {
  const rows = [
    ['a', 'b,c', 'd"e', 'f\r\ng', ''],
    ['', '', '', '', '"'],
  ];
  const text = csvText(rows);
  assert.deepEqual(parseCsv(text, 'a.csv', 10), [
    { line: 1, cells: rows[0] },
    { line: 3, cells: rows[1] },
  ]);
  assert.deepEqual(parseCsv('\uFEFFa,b\n\n,\nc', 'a.csv', 10), [
    { line: 1, cells: ['a', 'b'] },
    { line: 4, cells: ['c'] },
  ]);
  for (const [bad, message] of [
    ['a\n"b\nc', /a\.csv:2: a quote begins here and does not end/],
    ['"a"b', /something follows a quoted cell/],
    ['a\nb\nc\nd', /more than 3 rows/],
  ] as const) {
    assert.throws(() => parseCsv(bad, 'a.csv', 3), { code: 'usage_invalid', message });
  }
});

test('what a plan says of addresses goes out and comes back as it was', () => {
  const plan: PlanDocument = {
    ...PLAN,
    vms: {
      web: {
        priority: 1,
        addresses: [
          {
            nic: 0,
            ipv4: ['10.2.0.5/24', '10.3.0.5/20'],
            ipv6: ['2001:db8:2::5/64'],
            gateway4: '10.2.0.1',
            gateway6: null,
            dns: ['10.2.0.2', '2001:db8::2'],
            search: [],
          },
          { nic: 1, ipv4: 'dhcp', ipv6: 'slaac' },
        ],
      },
      'uuid-a, "b"': { addresses: [{ nic: 0, ipv4: [], dns: [] }] },
    },
  };
  const text = addressTable(FOUND, plan, 'east');
  const { document, ignored } = takeAddressTable(text, 'a.csv', { found: FOUND, plan, site: 'east' });
  assert.deepEqual(document, plan);
  assert.deepEqual(ignored, ['rows of site west: ignored, 2 times']);
  assert.deepEqual(takeAddressTable(text, 'a.csv', { found: FOUND, plan: PLAN, site: 'east' }).document.vms, {
    web: { addresses: plan.vms!['web']!.addresses },
    'a, "b"': plan.vms!['uuid-a, "b"'],
  });
  const blank = addressTable(FOUND, PLAN, 'east');
  assert.match(blank, /^uuid-web,web,west,1,,,,,10\.1\.0\.5,255\.255\.255\.0,/m);
  assert.match(blank, /^uuid-web,web,east,2,,,,,,,,,,,,\r$/m);
  assert.deepEqual(
    takeAddressTable(blank, 'a.csv', { found: FOUND, plan: PLAN, site: 'east' }).document,
    PLAN,
  );
});

test('a table of the old kind is taken: what all adapters share, further rows, and what has no meaning here', () => {
  const { document, ignored } = take([
    'protected-vm-101,web,EAST,0,b.example,WEBNB,10.2.0.9,,,,,,,,10.2.0.2;10.2.0.3,b.example;c.example',
    'protected-vm-101,web,east,1,,,,,10.2.0.5,255.255.255.128,10.2.0.1;10.2.0.2,,,,,',
    'protected-vm-101,web,east,1,,,,,10.2.0.6,25,,2001:db8:2::5,64,fe80::1,,',
    'protected-vm-101,web,east,2,,,,,dhcp,,,,,,10.9.9.9,',
    'protected-vm-101,web,west,1,,,,,10.1.0.5,255.255.255.0,10.1.0.1,,,,,',
  ]);
  assert.deepEqual(document.vms?.['web']?.addresses, [
    {
      nic: 0,
      dns: ['10.2.0.2', '10.2.0.3'],
      search: ['b.example', 'c.example'],
      ipv4: ['10.2.0.5/25', '10.2.0.6/25'],
      gateway4: '10.2.0.1',
      ipv6: ['2001:db8:2::5/64'],
      gateway6: 'fe80::1',
    },
    { nic: 1, dns: ['10.9.9.9'], search: ['b.example', 'c.example'], ipv4: 'dhcp' },
  ]);
  assert.deepEqual(ignored, [
    'DNS Domain: ignored, 1 times',
    'Net BIOS: ignored, 1 times',
    'Primary WINS: ignored, 1 times',
    'gateways after the first: ignored, 1 times',
    'rows of site west: ignored, 1 times',
  ]);
});

test('adapters that a table does not name keep what the plan says of them, also by their MAC addresses', () => {
  const plan: PlanDocument = {
    ...PLAN,
    vms: {
      web: {
        addresses: [
          { nic: MAC, ipv4: 'dhcp' },
          { nic: 1, ipv4: ['10.2.0.9/24'] },
        ],
      },
    },
  };
  const { document } = take(['web,1,10.2.0.5,24'], plan, 'VM Name,Adapter ID,IP Address,Subnet Mask');
  assert.deepEqual(document.vms?.['web']?.addresses, [
    { nic: 1, ipv4: ['10.2.0.9/24'] },
    { nic: 0, ipv4: ['10.2.0.5/24'] },
  ]);
  const { document: cleared } = take(
    ['web,1,,', 'web,2,,'],
    plan,
    'VM Name,Adapter ID,IP Address,Subnet Mask',
  );
  assert.deepEqual(cleared.vms, { web: {} });
});

for (const [what, row, message] of [
  ['a VM that is not in the plan', 'x,ghost,east,1,,,,,dhcp,,,,,,,', /a\.csv:2: the plan has no VM "ghost"/],
  ['an adapter that is no number', 'x,web,east,one,,,,,dhcp,,,,,,,', /a\.csv:2: Adapter ID is no number/],
  ['no adapter', 'x,web,east,,,,,,dhcp,,,,,,,', /a\.csv:2: Adapter ID is no number/],
  ['an address without a mask', 'x,web,east,1,,,,,10.2.0.5,,,,,,,', /a\.csv:2: "" is no Subnet Mask/],
  ['a mask with a hole', 'x,web,east,1,,,,,10.2.0.5,255.0.255.0,,,,,,', /"255\.0\.255\.0" is no Subnet Mask/],
  ['a prefix that is missing', 'x,web,east,1,,,,,,,,2001:db8::5,,,,', /needs an IPv6 Subnet Prefix length/],
] as const) {
  test(`${what} is refused with its line`, () => {
    assert.throws(() => take([row]), { code: 'usage_invalid', message });
  });
}

test('a table without its first line is refused', () => {
  assert.throws(() => take([], PLAN, 'web,1'), {
    message: /a\.csv:1: there is no column "VM Name"/,
    hint: /VM ID/,
  });
  assert.throws(() => take([], PLAN, ''), { code: 'usage_invalid' });
});
