import assert from 'node:assert/strict';
import { test } from 'node:test';
import { contains, formatAddress, formatPrefix, overlap, parseAddress, parsePrefix } from './ip-address.ts';
import { checkRules, checkWanted } from './ip-rules-check.ts';
import { customize, type GuestInterface, type IpRule, type WantedAddresses } from './ip-rules.ts';

test('addresses are read in every way they are written, and written in one', () => {
  for (const [text, canonical] of [
    ['0.0.0.0', '0.0.0.0'],
    ['255.255.255.255', '255.255.255.255'],
    ['::', '::'],
    ['::1', '::1'],
    ['1::', '1::'],
    ['2001:DB8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
    ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
    ['2001:0db8::0001', '2001:db8::1'],
    ['::ffff:10.1.2.3', '::ffff:a01:203'],
    ['1:2:3:4:5:6:7::', '1:2:3:4:5:6:7:0'],
    ['fe80:0:0:0:0:0:0:1', 'fe80::1'],
  ] as const) {
    const address = parseAddress(text);
    assert(address, text);
    assert.equal(formatAddress(address), canonical);
    assert.deepEqual(parseAddress(canonical), address);
  }
});

test('what is no address is none', () => {
  const texts = ['', '1', '1.2.3', '1.2.3.4.5', '256.0.0.1', '01.2.3.4', '1.2.3.4 ', '1.2.3.-4', '0x1.2.3.4'];
  const more = [
    ':',
    ':::',
    '1::2::3',
    '1:2:3:4:5:6:7',
    '1:2:3:4:5:6:7:8:9',
    '1:2:3:4:5:6:7:8::',
    'g::',
    '12345::',
  ];
  const mixed = [
    '1.2.3.4::',
    '::1.2.3',
    '::1.2.3.4:5',
    '1:2:3:4:5:6:7:1.2.3.4',
    ':1:2:3:4:5:6:7',
    '1:2:3:4:5:6:7:',
  ];
  for (const text of [...texts, ...more, ...mixed]) assert.equal(parseAddress(text), undefined, text);
  for (const text of [
    '10.0.0.0',
    '10.0.0.0/',
    '10.0.0.0/33',
    '10.0.0.0/-1',
    '::/129',
    '10.0.0.0/8/8',
    '/8',
    '1/2',
  ]) {
    assert.equal(parsePrefix(text), undefined, text);
  }
});

test('subnets are apart or one lies in the other, to the last bit', () => {
  const [a, b] = [parsePrefix('10.1.0.0/25')!, parsePrefix('10.1.0.128/25')!];
  assert(contains(a, parseAddress('10.1.0.127')!));
  assert(!contains(a, parseAddress('10.1.0.128')!));
  assert(!overlap(a, b));
  assert(overlap(parsePrefix('10.1.0.0/16')!, b));
  assert(overlap(b, parsePrefix('0.0.0.0/0')!));
  assert(!contains(parsePrefix('::/0')!, parseAddress('10.0.0.1')!), 'of the other family');
  assert.equal(formatPrefix(parsePrefix('2001:DB8::5/64')!), '2001:db8::5/64');
});

const nic = (addresses: string[], network = 'lan'): GuestInterface => ({
  mac: '52:54:00:00:00:01',
  network,
  addresses,
});
const wantedOf = (interfaces: GuestInterface[], rules: IpRule[], settings: WantedAddresses[] = []) =>
  customize(interfaces, rules, settings).map(({ wanted }) => wanted);

test('a rule keeps the host part, in subnets of any size', () => {
  for (const [address, from, to, then] of [
    ['10.1.0.77/24', '10.1.0.0/24', '10.2.0.0/24', '10.2.0.77/24'],
    ['10.1.0.77/24', '10.1.0.0/24', '10.2.0.0/16', '10.2.0.77/16'],
    ['10.1.3.77/24', '10.1.0.0/16', '172.16.0.0/12', '172.16.3.77/12'],
    ['10.1.0.77/26', '10.1.0.64/26', '10.2.0.128/26', '10.2.0.141/26'],
    ['10.1.0.77/32', '10.1.0.77/32', '10.9.9.9/32', '10.9.9.9/32'],
    ['2001:db8:1::abcd/64', '2001:db8:1::/64', '2001:db8:2:7::/64', '2001:db8:2:7::abcd/64'],
    ['2001:db8:1::abcd:1/64', '2001:db8:1::/48', 'fd00::/32', 'fd00::abcd:1/32'],
  ]) {
    const [wanted] = wantedOf([nic([address!])], [{ from: from!, to: to! }]);
    assert.deepEqual(
      wanted,
      { nic: 0, [address!.includes(':') ? 'ipv6' : 'ipv4']: [then] },
      `${address} ${from}`,
    );
  }
});

test('the longest prefix counts, then the rule of the own network, and others leave an address as it is', () => {
  const rules: IpRule[] = [
    { from: '10.1.0.0/16', to: '10.2.0.0/16', gateway: '10.2.0.1', dns: ['10.2.0.2'] },
    { from: '10.1.5.0/24', to: '10.3.0.0/24', gateway: null, dns: ['10.3.0.2'], search: ['b.example'] },
    { network: 'dmz', from: '10.1.5.0/24', to: '10.4.0.0/24' },
    { network: 'dmz', from: '192.168.0.0/16', to: '10.5.0.0/16' },
  ];
  const of = (address: string, network?: string) => customize([nic([address], network)], rules, [])[0];
  assert.deepEqual(of('10.1.4.9/16')?.rules, [0]);
  assert.deepEqual(of('10.1.5.9/16')?.wanted, {
    nic: 0,
    ipv4: ['10.3.0.9/24'],
    gateway4: null,
    dns: ['10.3.0.2'],
    search: ['b.example'],
  });
  assert.deepEqual(of('10.1.5.9/16', 'dmz')?.wanted, { nic: 0, ipv4: ['10.4.0.9/24'] });
  assert.deepEqual([of('192.168.1.1/16')?.wanted, of('192.168.1.1/16')?.rules], [null, []]);
  assert.deepEqual(wantedOf([nic(['10.1.4.9/16', '10.1.5.9/24', '172.16.0.1/12'])], rules), [
    {
      nic: 0,
      ipv4: ['10.2.4.9/16', '10.3.0.9/24', '172.16.0.1/12'],
      gateway4: '10.2.0.1',
      dns: ['10.2.0.2', '10.3.0.2'],
      search: ['b.example'],
    },
  ]);
});

test('what a VM says of itself counts more than rules, family by family, by place or by MAC address', () => {
  const rules: IpRule[] = [
    { from: '10.1.0.0/24', to: '10.2.0.0/24', gateway: '10.2.0.1', dns: ['10.2.0.2'] },
    { from: '2001:db8:1::/64', to: '2001:db8:2::/64' },
  ];
  const interfaces = [nic(['10.1.0.5/24', '2001:db8:1::5/64', 'fe80::1/64']), nic([], 'dmz')];
  const own = { nic: '52:54:00:00:00:01', ipv4: ['10.9.0.5/24'], dns: ['10.9.0.2'] };
  assert.deepEqual(wantedOf([interfaces[0]!], rules, [own]), [
    { nic: 0, ipv4: ['10.9.0.5/24'], ipv6: ['2001:db8:2::5/64'], dns: ['10.9.0.2'] },
  ]);
  assert.deepEqual(
    wantedOf(interfaces, rules, [
      { nic: 0, ipv4: 'dhcp', ipv6: 'slaac' },
      { nic: 3, ipv4: [] },
    ]),
    [{ nic: 0, ipv4: 'dhcp', ipv6: 'slaac' }, null, { nic: 3, ipv4: [] }],
  );
});

const BAD_RULES: Record<string, { rules: IpRule[]; message: RegExp; at: string }> = {
  'no subnet': {
    rules: [{ from: '10.1.0.0', to: '10.2.0.0/24' }],
    message: /"10.1.0.0" is no subnet/,
    at: '0/from',
  },
  'no address': {
    rules: [{ from: '10.1.0.0/24', to: '10.2.300.0/24' }],
    message: /is no subnet/,
    at: '0/to',
  },
  'an address within a subnet': {
    rules: [{ from: '10.1.0.0/24', to: '10.2.0.1/24' }],
    message: /10.2.0.1\/24 is an address within a subnet/,
    at: '0/to',
  },
  'families that differ': {
    rules: [{ from: '10.1.0.0/24', to: '2001:db8::/64' }],
    message: /rule 1 moves IPv4 addresses to a subnet of IPv6/,
    at: '0/to',
  },
  'a target that is too small': {
    rules: [{ from: '10.1.0.0/24', to: '10.2.0.0/25' }],
    message: /subnet 10.2.0.0\/25 is too small: it has 128 addresses, and 10.1.0.0\/24 has 256 addresses/,
    at: '0/to',
  },
  'a target of IPv6 that is too small': {
    rules: [{ from: '2001:db8::/48', to: 'fd00::/128' }],
    message: /it has one address, and 2001:db8::\/48 has 2\^80 addresses/,
    at: '0/to',
  },
  'a gateway outside of the subnet': {
    rules: [{ from: '10.1.0.0/24', to: '10.2.0.0/24', gateway: '10.1.0.1' }],
    message: /gateway 10.1.0.1 is outside of 10.2.0.0\/24/,
    at: '0/gateway',
  },
  'a gateway that is none': {
    rules: [{ from: '10.1.0.0/24', to: '10.2.0.0/24', gateway: '10.2.0.1/24' }],
    message: /"10.2.0.1\/24" is no address/,
    at: '0/gateway',
  },
  'a name server that is none': {
    rules: [{ from: '10.1.0.0/24', to: '10.2.0.0/24', dns: ['10.2.0.1', '10.2'] }],
    message: /"10.2" is no address/,
    at: '0/dns/1',
  },
  'two rules for one subnet': {
    rules: [
      { from: '10.1.0.0/24', to: '10.2.0.0/24' },
      { from: '10.1.0.0/24', to: '10.3.0.0/24' },
    ],
    message: /rules 1 and 2 overlap: both move 10.1.0.0\/24/,
    at: '1',
  },
  'two subnets that become one': {
    rules: [
      { from: '10.1.0.0/24', to: '10.2.0.0/24' },
      { from: '10.1.1.0/24', to: '10.2.0.0/24' },
    ],
    message: /rules 1 and 2 overlap: addresses of 10.1.0.0\/24 and 10.1.1.0\/24 become the same/,
    at: '1/to',
  },
  'a part that is moved into the rest': {
    rules: [
      { from: '10.1.0.0/16', to: '10.2.0.0/16' },
      { from: '10.1.5.0/24', to: '10.2.7.0/24' },
    ],
    message: /rules 1 and 2 overlap/,
    at: '1/to',
  },
};

for (const [what, { rules, message, at }] of Object.entries(BAD_RULES)) {
  test(`in a rule ${what} is found`, () => {
    const errors = checkRules(rules).filter(({ severity }) => severity === 'error');
    assert.equal(errors.length, 1, JSON.stringify(errors));
    assert.match(errors[0]!.message, message);
    assert.equal(errors[0]!.at.join('/'), at);
    assert(errors[0]!.hint);
  });
}

test('rules that keep every two addresses apart are good, however they lie in each other', () => {
  for (const rules of [
    [
      { from: '10.1.0.0/16', to: '10.2.0.0/16', gateway: null },
      { from: '10.1.5.0/24', to: '10.3.0.0/24', gateway: null },
      { from: '10.1.6.0/24', to: '10.2.6.0/24', gateway: '10.2.6.1' },
      { from: '2001:db8::/64', to: 'fd00::/64', gateway: 'fe80::1' },
    ],
    [
      { network: 'a', from: '10.1.0.0/24', to: '10.2.0.0/24', gateway: null },
      { network: 'b', from: '10.1.0.0/24', to: '10.2.0.0/24', gateway: null },
    ],
    [
      { from: '10.1.0.0/25', to: '10.2.0.0/24', gateway: null },
      { from: '10.1.0.128/25', to: '10.2.0.128/25', gateway: null },
    ],
  ]) {
    assert.deepEqual(checkRules(rules), []);
  }
  const [silent] = checkRules([{ from: '10.1.0.0/24', to: '10.2.0.0/24' }]);
  assert.match(silent?.message ?? '', /rule 1 names no gateway/);
  assert.equal(silent?.severity, 'warning');
});

test('under good rules no two addresses become one', () => {
  const rules: IpRule[] = [
    { from: '10.1.0.0/16', to: '10.2.0.0/16' },
    { from: '10.1.5.0/24', to: '10.3.0.0/24' },
    { from: '10.1.6.0/25', to: '10.2.6.0/24' },
    { from: '10.9.0.0/24', to: '10.3.1.0/24' },
  ];
  assert(checkRules(rules).every(({ severity }) => severity === 'warning'));
  const addresses = ['10.1', '10.9'].flatMap((head) =>
    Array.from({ length: 9 * 256 }, (_, host) => `${head}.${host >> 8}.${host & 255}/16`),
  );
  const after = addresses.map((address) => {
    const ipv4 = customize([nic([address])], rules, [])[0]?.wanted?.ipv4;
    return Array.isArray(ipv4) ? ipv4[0]!.split('/')[0]! : address.split('/')[0]!;
  });
  assert.equal(new Set(after).size, after.length);
});

const BAD_SETTINGS: Record<string, { wanted: Omit<WantedAddresses, 'nic'>; message: RegExp; at: string }> = {
  'an address without its prefix length': {
    wanted: { ipv4: ['10.2.0.5'] },
    message: /with a prefix length/,
    at: 'ipv4/0',
  },
  'an address of the other family': {
    wanted: { ipv6: ['10.2.0.5/24'] },
    message: /no IPv6 address/,
    at: 'ipv6/0',
  },
  'the address of a subnet': {
    wanted: { ipv4: ['10.2.0.0/24'] },
    message: /of the subnet itself/,
    at: 'ipv4/0',
  },
  'the address of all of a subnet': {
    wanted: { ipv4: ['10.2.0.255/24'] },
    message: /of all of the/,
    at: 'ipv4/0',
  },
  'a gateway out of reach': {
    wanted: { ipv4: ['10.2.0.5/24'], gateway4: '10.2.1.1' },
    message: /web: gateway 10.2.1.1 is outside of the subnet of 10.2.0.5\/24/,
    at: 'gateway4',
  },
  'a gateway of the other family': {
    wanted: { gateway6: '10.2.0.1' },
    message: /no IPv6 address/,
    at: 'gateway6',
  },
};

for (const [what, { wanted, message, at }] of Object.entries(BAD_SETTINGS)) {
  test(`in a VM's settings ${what} is found`, () => {
    const [problem, ...more] = checkWanted({ nic: 0, ...wanted }, 'web');
    assert.deepEqual(more, []);
    assert.match(problem?.message ?? '', message);
    assert.equal(problem?.at.join('/'), at);
  });
}

test('good settings are good', () => {
  for (const wanted of [
    { ipv4: ['10.2.0.5/24', '10.3.0.4/31', '10.4.0.0/32'], gateway4: '10.2.0.1' },
    { ipv6: ['2001:db8::5/64'], gateway6: 'fe80::1' },
    { ipv4: 'dhcp' as const, gateway4: '10.2.0.1', gateway6: null, ipv6: 'slaac' as const },
  ]) {
    assert.deepEqual(checkWanted({ nic: 0, ...wanted }, 'web'), []);
  }
});
