/** The script itself, with a directory for the guest's files and programs that write down how they were called. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { hasCode } from '#/lib/failure.ts';
import { customizeScript, restoreScript, type Customization } from './customize-script.ts';
import { customizationOf } from './customize-task.ts';
import { ifupdownStanzas } from './network-files.ts';

const WANTED: Customization = {
  nics: [
    {
      name: 'eth0',
      macs: ['52:54:00:00:00:01', '52:54:00:00:00:02'],
      ipv4: ['10.2.0.5/24', '10.2.0.6/24'],
      ipv6: ['fd00::5/64'],
      gateway4: '10.2.0.1',
      dns: ['10.2.0.2', 'fd00::2'],
      search: ['example.org'],
    },
  ],
  others: ['eth1'],
  hostName: null,
};

let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'antipode-customize-'));
  await mkdir(join(root, 'bin'));
  await program('ip', 'case "$*" in *"address show"*) cat "$ROOT/seen" 2>/dev/null ;; esac');
  await write('seen', '2: eth0 inet 10.2.0.5/24 x\n2: eth0 inet 10.2.0.6/24 x\n2: eth0 inet6 fd00::5/64 x\n');
  await program('hostname', 'echo old');
});
afterEach(async () => {
  await rm(root, { recursive: true, force: true });
});

async function write(path: string, text: string): Promise<void> {
  await mkdir(dirname(join(root, path)), { recursive: true });
  await writeFile(join(root, path), text);
}

async function program(name: string, body = ''): Promise<void> {
  const path = join(root, 'bin', name);
  await writeFile(path, `#!/bin/sh\necho "${name} $*" >>"$ROOT/calls"\n${body}\n`);
  await chmod(path, 0o755);
}

async function run(script: string): Promise<{ code: number; said: string }> {
  const env = { ROOT: root, PATH: `${join(root, 'bin')}:/usr/bin:/bin` };
  const fast = script.replace('WAIT_S=15', 'WAIT_S=0');
  return new Promise((resolve) => {
    execFile('sh', ['-c', fast], { env }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code), said: stdout + stderr });
    });
  });
}

/** Every file of the guest, without what belongs to the test. */
async function files(): Promise<Record<string, string>> {
  const names = await readdir(root, { recursive: true, withFileTypes: true });
  const own = names.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  const texts: Record<string, string> = {};
  for (const path of own.toSorted()) {
    const name = path.slice(root.length);
    if (!/^\/(bin|calls|seen)/.test(name)) texts[name] = await readFile(path, 'utf8');
  }
  return texts;
}

async function calls(): Promise<string[]> {
  const text = await readFile(join(root, 'calls'), 'utf8').catch(() => '');
  return text.split('\n').filter((line) => /^(netplan|nmcli|ifup|ifdown)/.test(line));
}

const NETPLAN = 'network:\n  version: 2\n  ethernets:\n    eth0:\n      dhcp4: true\n';
const INTERFACES = `auto lo eth0
iface lo inet loopback

allow-hotplug eth1
iface eth0 inet static
    address 10.1.0.5/24
    gateway 10.1.0.1
iface eth1 inet dhcp
source /etc/network/interfaces.d/*
`;

const guests: Record<
  string,
  { files: Record<string, string>; programs: string[]; wrote: RegExp; path: string }
> = {
  netplan: {
    files: { 'etc/netplan/50-cloud-init.yaml': NETPLAN, 'etc/cloud/cloud.cfg': '' },
    programs: ['netplan'],
    path: '/etc/netplan/99-antipode.yaml',
    wrote: /"dhcp4": false[^]*"10\.2\.0\.6\/24"[^]*"via": "10\.2\.0\.1"/,
  },
  NetworkManager: {
    files: { 'etc/NetworkManager/system-connections/wired': 'a' },
    programs: ['nmcli'],
    path: '/etc/NetworkManager/system-connections/antipode-eth0.nmconnection',
    wrote: /address2=10\.2\.0\.6\/24\ngateway=10\.2\.0\.1\ndns=10\.2\.0\.2;\ndns-search=example\.org;/,
  },
  ifupdown: {
    files: { 'etc/network/interfaces': INTERFACES, 'etc/network/interfaces.d/more': 'auto eth0\n' },
    programs: ['ifup', 'ifdown'],
    path: '/etc/network/interfaces',
    wrote:
      /^auto lo\niface lo inet loopback\n\nallow-hotplug eth1\niface eth1 inet dhcp\nsource .*\n\nauto eth0\niface/,
  },
  ip: {
    files: { 'etc/resolv.conf': 'nameserver 10.1.0.2\n' },
    programs: [],
    path: '/etc/resolv.conf',
    wrote: /10\.2\.0\.2/,
  },
};

for (const [method, guest] of Object.entries(guests)) {
  const setUp = async (): Promise<Record<string, string>> => {
    for (const [path, text] of Object.entries(guest.files)) await write(path, text);
    for (const name of guest.programs) {
      await program(
        name,
        name === 'nmcli' ? 'case "$*" in *RUNNING*) echo running ;; *UUID*) echo u-1 ;; esac' : '',
      );
    }
    await write('etc/hosts', '127.0.0.1 localhost\n127.0.1.1 old\n');
    return files();
  };

  test(`${method}: what a preview shows is written, twice the same, and restored to what was there`, async () => {
    const before = await setUp();
    const wanted = { ...WANTED, hostName: 'web-b' };
    const preview = await run(customizeScript('preview', wanted));
    assert.equal(preview.code, 0, preview.said);
    assert.match(preview.said, new RegExp(`^method: ${method}`));
    assert.deepEqual(await files(), before);
    assert.deepEqual(
      (await calls()).filter((line) => !/RUNNING|device show/.test(line)),
      [],
    );
    const applied = await run(customizeScript('apply', wanted));
    assert.equal(applied.code, 0, applied.said);
    const first = await files();
    assert.match(first[guest.path] ?? '', guest.wrote);
    assert.match(preview.said, guest.wrote.source.startsWith('^') ? /iface eth0 inet static/ : guest.wrote);
    assert.equal(first['/etc/hostname'], 'web-b\n');
    assert.match(first['/etc/hosts']!, /127\.0\.1\.1\tweb-b/);
    assert.equal((await run(customizeScript('apply', wanted))).code, 0);
    assert.deepEqual(await files(), first);
    const restored = await run(restoreScript());
    assert.equal(restored.code, 0, restored.said);
    assert.deepEqual(await files(), before);
    assert.equal((await run(restoreScript())).said, 'nothing was changed\n');
  });

  test(`${method}: what does not come true is put back`, async () => {
    const before = await setUp();
    await write('seen', '');
    const { code, said } = await run(customizeScript('apply', WANTED));
    assert.equal(code, 4, said);
    assert.match(said, /the addresses do not show/);
    assert.deepEqual(await files(), before);
  });
}

test('a file of netplan that is about other interfaces too is not replaced', async () => {
  await program('netplan');
  await write('etc/netplan/50.yaml', `${NETPLAN}    eth1:\n      dhcp4: true\n`);
  const before = await files();
  const { code, said } = await run(customizeScript('apply', WANTED));
  assert.equal(code, 3);
  assert.match(said, /refused: \/etc\/netplan\/50\.yaml is about eth1 as well/);
  assert.deepEqual(await files(), before);
});

test('interfaces are found by place and by their MAC address at the protected site, or refused', () => {
  const told = [
    { name: 'lo', mac: '00:00:00:00:00:00', addresses: [] },
    { name: 'ens4', mac: 'b2', addresses: [] },
    { name: 'ens3', mac: 'b1', addresses: [] },
  ];
  const known = { told, macs: ['b1', 'b2'], before: ['52:54:00:00:00:01', '52:54:00:00:00:02'] };
  const of = (...addresses: Parameters<typeof customizationOf>[1]['addresses']): Customization =>
    customizationOf('web', { host_name: null, addresses }, known);
  const { nics, others } = of({ nic: '52:54:00:00:00:02', ipv4: 'dhcp' });
  assert.deepEqual([nics[0]!.name, nics[0]!.macs, others], ['ens4', ['b2', '52:54:00:00:00:02'], ['ens3']]);
  assert.equal(of({ nic: 0 }).nics[0]!.name, 'ens3');
  assert.throws(
    () => of({ nic: 2 }),
    (error) => hasCode(error, 'not_found'),
  );
  assert.throws(
    () => of({ nic: 0 }, { nic: '52:54:00:00:00:01' }),
    (error) => hasCode(error, 'usage_invalid'),
  );
  assert.throws(
    () => of({ nic: 0, ipv4: ['10.0.0.1'] }),
    (error) => hasCode(error, 'usage_invalid'),
  );
});

test('the netmask of ifupdown is in dots for IPv4 and a number for IPv6', () => {
  const of = (ipv4: string): string => ifupdownStanzas([{ name: 'eth0', macs: [], ipv4: [ipv4] }]);
  const masks = {
    0: '0.0.0.0',
    9: '255.128.0.0',
    20: '255.255.240.0',
    24: '255.255.255.0',
    32: '255.255.255.255',
  };
  for (const [prefix, mask] of Object.entries(masks)) {
    assert.match(of(`10.0.0.1/${prefix}`), new RegExp(`address 10.0.0.1\n    netmask ${mask}\n`));
  }
  const six = ifupdownStanzas([{ name: 'eth0', macs: [], ipv6: ['fd00::5/64'] }]);
  assert.match(six, /iface eth0 inet6 static\n    address fd00::5\n    netmask 64\n/);
});
