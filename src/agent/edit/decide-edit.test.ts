/** What is written for each kind of guest, and that all of it is taken back, with the guest's files in memory. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hasCode } from '#/lib/failure.ts';
import type { OfflineWish } from './decide-edit.ts';
import { editRoot } from './edit-disks.ts';
import { KEEP } from './edit-record.ts';
import { MemoryTree } from './memory-tree.ts';

const MAC = '52:54:00:aa:00:01';
const BEFORE = '52:54:00:aa:00:02';
const WISH: OfflineWish = {
  nics: [
    {
      place: 0,
      mac: MAC,
      macBefore: BEFORE,
      ipv4: ['10.2.0.5/24'],
      gateway4: '10.2.0.1',
      dns: ['10.2.0.2'],
      search: ['b.example'],
    },
  ],
  nicCount: 1,
  hostName: 'books',
};
const COMMON = { '/etc/hostname': 'old\n', '/etc/hosts': '127.0.0.1 localhost\n127.0.1.1 old\n' };
const NETPLAN = `network:\n  version: 2\n  ethernets:\n    eth0:\n      match: {macaddress: "${BEFORE}"}\n      set-name: eth0\n      dhcp4: true\n`;
const INTERFACES = `auto lo ens3\niface lo inet loopback\niface ens3 inet static\n    address 10.1.0.5/24\n    gateway 10.1.0.1\niface ens3 inet6 auto\nsource /etc/network/interfaces.d/*\n`;
const GUESTS: Record<string, { files: Record<string, string>; path: string; wrote: RegExp }> = {
  netplan: {
    files: {
      '/usr/sbin/netplan': '',
      '/etc/netplan/50-cloud-init.yaml': NETPLAN,
      '/etc/cloud/cloud.cfg': '',
    },
    path: '/etc/netplan/99-antipode.yaml',
    wrote: /"macaddress": "52:54:00:aa:00:01"[^]*"set-name": "eth0"[^]*"10\.2\.0\.5\/24"/,
  },
  ifupdown: {
    files: { '/sbin/ifup': '', '/etc/network/interfaces': INTERFACES },
    path: '/etc/network/interfaces',
    wrote:
      /^auto lo\niface lo inet loopback\niface ens3 inet6 auto\nsource [^]*iface ens3 inet static\n {4}address 10\.2\.0\.5\n[^]*gateway 10\.2\.0\.1\n[^]*dns-nameservers 10\.2\.0\.2/,
  },
  NetworkManager: {
    files: {
      '/usr/sbin/NetworkManager': '',
      '/etc/NetworkManager/system-connections/eth0.nmconnection': '[connection]\n',
    },
    path: '/etc/NetworkManager/system-connections/antipode-0.nmconnection',
    wrote:
      /^\[connection\]\nid=antipode-antipode0[^]*\[ethernet\]\nmac-address=52:54:00:aa:00:01\n[^]*address1=10\.2\.0\.5\/24/,
  },
  'cloud-init': {
    files: { '/etc/cloud/cloud.cfg': 'users: [default]\n' },
    path: '/etc/cloud/cloud.cfg.d/99-antipode.cfg',
    wrote:
      /"macaddress": "52:54:00:aa:00:01"[^]*"10\.2\.0\.5\/24"[^]*"when": \[\s*"boot-new-instance",\s*"boot"/,
  },
};

const root = (tree: MemoryTree) => ({ device: '/dev/sda1', type: 'ext4', tree });

for (const [method, { files, path, wrote }] of Object.entries(GUESTS)) {
  test(`A guest with ${method} gets its addresses by MAC address or its own name, and all of it is taken back`, async () => {
    const tree = new MemoryTree({ ...COMMON, ...files });
    const before = tree.texts;
    const edited = await editRoot(root(tree), WISH);
    assert.equal(edited.method, method);
    assert.match(tree.texts[path] ?? '', wrote);
    assert.equal(tree.texts['/etc/hostname'], 'books\n');
    assert.match(tree.texts['/etc/hosts'] ?? '', /^127\.0\.1\.1\tbooks$/m);
    const applied = tree.texts;

    assert.equal((await editRoot(root(tree), WISH)).isRestored, true);
    assert.deepEqual(tree.texts, applied, 'a second edit changes nothing more');

    assert.equal((await editRoot(root(tree), null)).isRestored, true);
    assert.deepEqual(tree.texts, before);
    assert.equal((await editRoot(root(tree), null)).isRestored, false);
  });

  test(`An edit of a guest with ${method} that is cut anywhere leaves what puts it back, or no change at all`, async () => {
    for (let cut = 0; ; cut++) {
      const tree = new MemoryTree({ ...COMMON, ...files });
      const before = tree.texts;
      let changes = 0;
      tree.beforeChange = () => {
        if (changes++ === cut) throw new Error('cut');
      };
      const isCut = await editRoot(root(tree), WISH).then(
        () => false,
        () => true,
      );
      tree.beforeChange = () => undefined;
      await editRoot(root(tree), null);
      const after = Object.entries(tree.texts).filter(([name]) => !name.startsWith(`${KEEP}.new`));
      assert.deepEqual(Object.fromEntries(after), before, `cut before change ${cut}`);
      if (!isCut) break;
    }
  });
}

test('What the agent had changed in a guest is put back by its disk as well', async () => {
  const kept = '/var/lib/antipode/network';
  const tree = new MemoryTree({
    '/etc/network/interfaces': 'changed',
    '/etc/resolv.conf': 'changed',
    [`${kept}/files/etc/network/interfaces`]: INTERFACES,
    [`${kept}/absent`]: '/etc/resolv.conf\n',
    [`${kept}/method`]: 'ifupdown\n',
  });
  assert.equal((await editRoot(root(tree), null)).isRestored, true);
  assert.deepEqual(tree.texts, { '/etc/network/interfaces': INTERFACES });
});

test('What a guest has put into the record of an edit reaches no file but those that an edit changes', async () => {
  const tree = new MemoryTree({
    '/usr/bin/tool': 'whole',
    [`${KEEP}/files/usr/bin/tool`]: 'other',
    [`${KEEP}/absent`]: '/usr/bin/tool\n/etc/../usr/bin/tool\n\n/\n',
  });
  await editRoot(root(tree), null);
  assert.equal(tree.texts['/usr/bin/tool'], 'whole');
});

test('A name by MAC address is kept for an interface that has another one here', async () => {
  const rule = `SUBSYSTEM=="net", ATTR{address}=="${BEFORE}", NAME="lan0"\n`;
  const tree = new MemoryTree({
    '/sbin/ifup': '',
    '/etc/network/interfaces': 'iface lan0 inet dhcp\niface lan1 inet dhcp\n',
    '/etc/udev/rules.d/70-persistent-net.rules': rule,
  });
  const before = tree.texts;
  await editRoot(root(tree), { ...WISH, nicCount: 2 });
  assert.match(
    tree.texts['/etc/network/interfaces'] ?? '',
    /iface lan1 inet dhcp\n[^]*iface lan0 inet static/,
  );
  assert.match(tree.texts['/etc/udev/rules.d/70-persistent-net.rules'] ?? '', new RegExp(MAC));
  await editRoot(root(tree), null);
  assert.deepEqual(tree.texts, before);
});

const REFUSED: Record<
  string,
  { files: Record<string, string>; links?: string[]; why: RegExp; count?: number }
> = {
  'no configuration that is known': {
    files: { '/etc/systemd/network/eth0.network': '[Match]' },
    why: /no network configuration that is known/,
  },
  'a bridge in netplan': {
    files: { '/usr/sbin/netplan': '', '/etc/netplan/1.yaml': 'network: {bridges: {br0: {}}, ethernets: {}}' },
    why: /more than plain interfaces \(bridges\)/,
  },
  'netplan about more interfaces than are given addresses': {
    files: { '/usr/sbin/netplan': '', '/etc/netplan/1.yaml': NETPLAN },
    count: 2,
    why: /1 of 2 interfaces/,
  },
  'interfaces of ifupdown that nothing tells apart': {
    files: { '/sbin/ifup': '', '/etc/network/interfaces': 'iface a inet dhcp\niface b inet dhcp\n' },
    why: /no file of the guest says what its interface 0/,
  },
  'a configuration that is a link': {
    files: { '/usr/sbin/netplan': '', '/etc/netplan/2.yaml': NETPLAN },
    links: ['/etc/netplan/1.yaml'],
    why: /1\.yaml is a link/,
  },
  'a host name that is a link': {
    files: { '/etc/cloud/cloud.cfg': '' },
    links: ['/etc/hostname'],
    why: /hostname is no plain file/,
  },
};

for (const [what, { files, links = [], why, count = 1 }] of Object.entries(REFUSED)) {
  test(`A guest with ${what} is refused by name, and nothing in it is changed`, async () => {
    const tree = new MemoryTree(files);
    for (const link of links) tree.links.add(link);
    const before = tree.texts;
    await assert.rejects(editRoot(root(tree), { ...WISH, nicCount: count }), (error: Error) => {
      assert.ok(hasCode(error, 'vm_unsupported'), String(error));
      assert.match(error.message, why);
      return true;
    });
    const after = Object.entries(tree.texts).filter(([name]) => !name.startsWith(`${KEEP}.new`));
    assert.deepEqual(Object.fromEntries(after), before);
  });
}
