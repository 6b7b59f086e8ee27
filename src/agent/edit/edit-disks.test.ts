/**
 * Edits of real disks in the real appliance: ext4 and xfs, in a partition, on a whole disk and on LVM, one for each way
 * that a guest may configure its network, and two whose content is made to harm. All are in one appliance, since that
 * takes longest where there is no KVM.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, open, readFile, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { hasCode } from '#/lib/failure.ts';
import { makeOverlays } from '#/agent/recover-files.ts';
import { ServedPoint } from '#/agent/recovery-fixture.ts';
import { applianceEnvironment } from '#lab/guest/appliance-kernel.ts';
import { Appliance, quoted } from './appliance.ts';
import { editDisks, editRoot } from './edit-disks.ts';
import { listFileSystems, mountRoot, type FileSystem, type GuestRoot } from './guest-root.ts';
import type { OfflineWish } from './decide-edit.ts';

const run = promisify(execFile);
const forever = new AbortController().signal;
const MIB = 2 ** 20;
const BOOT_MS = 570_000;
const MAC = '52:54:00:aa:00:01';
const WISH: OfflineWish = {
  nics: [
    { place: 0, mac: MAC, macBefore: MAC, ipv4: ['10.2.0.5/24'], gateway4: '10.2.0.1', dns: ['10.2.0.2'] },
  ],
  nicCount: 1,
  hostName: 'books',
};
const COMMON = {
  '/etc/os-release': 'ID=debian\n',
  '/etc/hostname': 'old\n',
  '/etc/hosts': '127.0.1.1 old\n',
};
const NETPLAN = `network:\n  ethernets:\n    eth0: {match: {macaddress: "${MAC}"}, set-name: eth0, dhcp4: true}\n`;
const LAYOUTS = {
  sda: {
    '/usr/sbin/netplan': '',
    '/etc/netplan/50-cloud-init.yaml': NETPLAN,
    '/etc/cloud/cloud.cfg': 'users: [default]\n',
  },
  sdb: {
    '/usr/sbin/NetworkManager': '',
    '/etc/NetworkManager/system-connections/eth0.nmconnection': '[connection]\nid=eth0\n',
  },
  sdc: {
    '/sbin/ifup': '',
    '/etc/network/interfaces': 'auto lo ens3\niface lo inet loopback\niface ens3 inet dhcp\n',
  },
  sdd: { '/etc/cloud/cloud.cfg': 'users: [default]\n' },
  sde: { '/usr/sbin/netplan': '' },
  sdf: { '/usr/sbin/netplan': '', '/etc/netplan/1.yaml': NETPLAN },
} as const;
const WROTE: Record<string, [path: string, content: RegExp]> = {
  netplan: ['/etc/netplan/99-antipode.yaml', /"macaddress": "52:54:00:aa:00:01"[^]*10\.2\.0\.5\/24/],
  NetworkManager: [
    '/etc/NetworkManager/system-connections/antipode-0.nmconnection',
    /mac-address=52:54:00:aa:00:01[^]*address1=10\.2\.0\.5\/24/,
  ],
  ifupdown: ['/etc/network/interfaces', /iface ens3 inet static\n {4}address 10\.2\.0\.5/],
  'cloud-init': ['/etc/cloud/cloud.cfg.d/99-antipode.cfg', /"boot-new-instance"/],
};

let directory: string;
let appliance: Appliance;
/** To ask for them takes many seconds without KVM, and they stay. */
let fileSystems: FileSystem[];

before(
  async () => {
    Object.assign(process.env, await applianceEnvironment());
    directory = await mkdtemp(join(tmpdir(), 'antipode-disks-'));
    for (const [name, files] of Object.entries(LAYOUTS)) await layOut(name, { ...COMMON, ...files });
    // A file without an end in sight, and links that lead out of the guest.
    await truncate(join(directory, 'sde/etc/netplan/huge.yaml'), 40 * MIB);
    await rm(join(directory, 'sdf/etc/hostname'));
    await symlink('../../../../../../../../etc/hostname', join(directory, 'sdf/etc/hostname'));
    await Promise.all([
      inPartition('sda'),
      extended('sdb', 'xfs', 320),
      extended('sdc.part', 'ext4', 32, 'sdc'),
      ...['sdd', 'sde', 'sdf'].map((name) => extended(name, 'ext4', 64)),
    ]);
    await writeFile(image('sdc'), '');
    await truncate(image('sdc'), 64 * MIB);
    const disks = [...Object.keys(LAYOUTS), 'sdc.part'];
    appliance = await Appliance.open(
      disks.map((name) => ({ path: image(name), format: 'raw' })),
      { signal: forever, isEmulated: true },
    );
    await appliance.run('pvcreate', '/dev/sdc');
    await appliance.run('vgcreate', 'vg', '/dev/sdc');
    await appliance.run('lvcreate', 'root', 'vg', '40');
    await appliance.run('copy-device-to-device', '/dev/sdg', '/dev/vg/root');
    fileSystems = await listFileSystems(appliance);
  },
  { timeout: BOOT_MS },
);
after(async () => {
  await appliance?.[Symbol.asyncDispose]();
  if (directory !== undefined) await rm(directory, { recursive: true, force: true });
});

function image(name: string): string {
  return join(directory, `${name}.raw`);
}

async function layOut(name: string, files: Record<string, string>): Promise<void> {
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(join(directory, name, path)), { recursive: true });
    await writeFile(join(directory, name, path), content);
  }
  if (name === 'sde') await mkdir(join(directory, name, 'etc/netplan'));
  if (name === 'sde') await writeFile(join(directory, name, 'etc/netplan/huge.yaml'), '');
}

async function extended(name: string, type: 'ext4' | 'xfs', mib: number, tree = name): Promise<void> {
  await writeFile(image(name), '');
  await truncate(image(name), mib * MIB);
  const from = join(directory, tree);
  if (type === 'ext4') await run('mkfs.ext4', ['-q', '-E', 'root_owner=0:0', '-d', from, image(name)]);
  else await run('mkfs.xfs', ['-q', '-p', await protoFile(from), image(name)]);
}

/** What mkfs.xfs takes instead of a directory (mkfs.xfs(8), "proto"). */
async function protoFile(tree: string): Promise<string> {
  const lines = async (path: string): Promise<string[]> => {
    const { stdout } = await run('find', [path, '-mindepth', '1', '-maxdepth', '1', '-printf', '%f %y\n']);
    const entries = stdout.split('\n').filter((line) => line !== '');
    const nested = await Promise.all(
      entries.map(async (entry) => {
        const [name, kind] = entry.split(' ');
        const own = join(path, name!);
        if (kind === 'd') return [`${name} d--755 0 0`, ...(await lines(own)), '$'];
        return [`${name} ---644 0 0 ${own}`];
      }),
    );
    return nested.flat();
  };
  const path = `${tree}.proto`;
  await writeFile(path, ['/dev/null', '0 0', 'd--755 0 0', ...(await lines(tree)), '$', ''].join('\n'));
  return path;
}

/** An MBR with one partition of Linux from 1 MiB on. */
async function inPartition(name: string): Promise<void> {
  const part = `${name}.part`;
  await extended(part, 'ext4', 64, name);
  const bytes = await readFile(image(part));
  const table = Buffer.alloc(MIB);
  table.writeUInt8(0x83, 446 + 4);
  table.writeUInt32LE(2048, 446 + 8);
  table.writeUInt32LE(bytes.length / 512, 446 + 12);
  table.writeUInt16LE(0xaa55, 510);
  await using file = await open(image(name), 'w');
  await file.write(table, 0, table.length, 0);
  await file.write(bytes, 0, bytes.length, MIB);
}

/** Every file of the mounted root with its content, owner, mode and time. */
async function contents(): Promise<Record<string, string>> {
  const copy = await mkdtemp(join(directory, 'copy-'));
  await appliance.run('tar-out', '/', `${copy}.tar`);
  await run('tar', ['-x', '-p', '--numeric-owner', '-C', copy, '-f', `${copy}.tar`]);
  const { stdout } = await run('find', [copy, '-type', 'f', '-printf', '%P %m %U %G %T@\\n']);
  const files = stdout.split('\n').filter((line) => line !== '');
  const texts = files.map(async (line) => {
    const path = line.split(' ')[0]!;
    return [`/${path}`, `${line} ${await readFile(join(copy, path), 'base64')}`] as const;
  });
  return Object.fromEntries(await Promise.all(texts));
}

async function rootAmong(isOurs: (device: string) => boolean): Promise<GuestRoot> {
  return await mountRoot(
    appliance,
    fileSystems.filter(({ device }) => isOurs(device)),
  );
}

const CASES = [
  { disk: 'sda', isOurs: (device: string) => device.startsWith('/dev/sda'), method: 'netplan' },
  { disk: 'sdb', isOurs: (device: string) => device === '/dev/sdb', method: 'NetworkManager' },
  { disk: 'sdc', isOurs: (device: string) => device.startsWith('/dev/vg/'), method: 'ifupdown' },
  { disk: 'sdd', isOurs: (device: string) => device === '/dev/sdd', method: 'cloud-init' },
];

for (const { disk, isOurs, method } of CASES) {
  test(
    `A disk with ${method} is edited, read back, and put back byte for byte`,
    { timeout: BOOT_MS },
    async () => {
      const root = await rootAmong(isOurs);
      const original = await contents();
      assert.ok(Object.keys(original).length >= 3 + Object.keys(LAYOUTS[disk as 'sda']).length);
      const edited = await editRoot(root, WISH);
      assert.equal(edited.method, method);
      await appliance.run('umount-all');

      const again = await rootAmong(isOurs);
      const [path, content] = WROTE[method]!;
      assert.match(await again.tree.read(path), content);
      assert.equal(await again.tree.read('/etc/hostname'), 'books\n');
      const back = await editRoot(again, null);
      assert.deepEqual(back, { root: root.device, method: null, changed: [], isRestored: true });
      await appliance.run('umount-all');

      await rootAmong(isOurs);
      assert.deepEqual(await contents(), original);
      await appliance.run('umount-all');
    },
  );
}

const HARMFUL = [
  { disk: '/dev/sde', what: 'a file of any size', why: /huge\.yaml has 41943040 bytes, more than 262144/ },
  { disk: '/dev/sdf', what: 'a link out of the guest', why: /\/etc\/hostname is no plain file/ },
];

for (const { disk, what, why } of HARMFUL) {
  test(`A guest that has ${what} in the way is refused`, { timeout: BOOT_MS }, async () => {
    const root = await rootAmong((device) => device === disk);
    await assert.rejects(editRoot(root, WISH), (error: Error) => {
      assert.ok(hasCode(error, 'vm_unsupported'));
      assert.match(error.message, why);
      return true;
    });
    await appliance.run('umount-all');
  });
}

test('Names that mean something to a shell are names', { timeout: BOOT_MS }, async () => {
  const { tree } = await rootAmong((device) => device === '/dev/sdd');
  const names = ['a b"\'|$(id)`id`', '~', 'a\\b', 'a\nb', 'ü*'];
  for (const name of names) {
    await tree.write(`/etc/${name}`, name, { mode: 0o644, like: '/etc' });
    assert.equal(await tree.read(`/etc/${name}`), name, quoted(name));
  }
  await assert.rejects(tree.list('/etc'), /has a file of the name/);
  for (const name of names) await tree.remove(`/etc/${name}`);
  await appliance.run('umount-all');
});

test('Several roots, none, and what is not opened are named', { timeout: BOOT_MS }, async () => {
  await assert.rejects(
    rootAmong((device) => /sda|sdb/.test(device)),
    /more than one Linux: on \/dev\/sda1, \/dev\/sdb/,
  );
  await assert.rejects(
    rootAmong(() => false),
    /no Linux was found/,
  );
  await appliance.run('mkfs', 'btrfs', '/dev/sdg').catch(() => appliance.run('mkfs', 'vfat', '/dev/sdg'));
  fileSystems = await listFileSystems(appliance);
  await assert.rejects(
    rootAmong((device) => device === '/dev/sdg'),
    (error: Error & { hint?: string }) => /\/dev\/sdg: (btrfs|vfat)/.test(error.hint ?? ''),
  );
});

test(
  'An edit is on the overlay when it is done and never on what is below; a cut one ends',
  { timeout: BOOT_MS },
  async () => {
    await appliance.close();
    await mkdir(join(directory, 'point'));
    await using point = new ServedPoint(join(directory, 'point'), { vda: await readFile(image('sdd')) });
    await point.start();
    const task = point.task({ id: 'job-1-recover' });
    const disk = { path: join(directory, 'vda.qcow2'), format: 'qcow2' } as const;

    await makeOverlays(task, directory);
    const stop = new AbortController();
    const limits = { timeoutMs: BOOT_MS, isEmulated: true };
    const cut = editDisks([disk], WISH, { ...limits, signal: stop.signal });
    const rejected = assert.rejects(cut, /stopped by the test/);
    setImmediate(() => stop.abort(new Error('stopped by the test')));
    await rejected;
    const late = editDisks([disk], WISH, { ...limits, signal: forever, timeoutMs: 200 });
    await assert.rejects(late, (error: Error) => hasCode(error, 'timeout'));

    await makeOverlays(task, directory);
    const edited = await editDisks([disk], WISH, { signal: forever, timeoutMs: BOOT_MS, isEmulated: true });
    assert.equal(edited.method, 'cloud-init');
    const raw = join(directory, 'whole.raw');
    await run('qemu-img', ['convert', '-O', 'raw', disk.path, raw]);
    const nameIn = async (path: string) => (await run('debugfs', ['-R', 'cat /etc/hostname', path])).stdout;
    assert.equal(await nameIn(raw), 'books\n');

    // What is below was not touched: new overlays show the guest as it was.
    await makeOverlays(task, directory);
    await run('qemu-img', ['convert', '-O', 'raw', disk.path, raw]);
    assert.equal(await nameIn(raw), 'old\n');
  },
);
