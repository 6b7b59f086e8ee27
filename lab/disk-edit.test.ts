/** Addresses by disk on real sites: a plan's test edits the overlay of a VM that has no agent, and nothing else. */
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import type { RecoveryView } from '#/api/recoveries.ts';
import type { RunView } from '#/api/runs.ts';
import { run } from './command.ts';
import { applianceEnvironment } from './guest/appliance-kernel.ts';
import { createLedger, ledgerDiskPaths } from './ledger-vm.ts';
import { TwoSites } from './two-sites.ts';

const CLI = join(import.meta.dirname, '..', 'src', 'cli', 'main.ts');
const VM = 'mute';
const MIB = 2 ** 20;
/** Booting the appliance under emulation, and building it when nothing of it is in the cache. */
const RUN_MS = 570_000;
const GUEST = {
  'etc/os-release': 'ID=debian\n',
  'etc/hostname': 'old\n',
  'sbin/ifup': '',
  'etc/network/interfaces': 'auto lo eth0\niface lo inet loopback\niface eth0 inet dhcp\n',
};

let sites: TwoSites;
let directory: string;
before(
  async () => {
    Object.assign(process.env, await applianceEnvironment());
    sites = await TwoSites.up(() => undefined);
    directory = await mkdtemp(join(tmpdir(), 'antipode-disk-edit-'));
    await createLedger(sites.west, { name: VM, diskBytes: [MIB, MIB, 32 * MIB], start: false });
    for (const [path, text] of Object.entries(GUEST)) {
      await mkdir(dirname(join(directory, 'root', path)), { recursive: true });
      await writeFile(join(directory, 'root', path), text);
    }
    const raw = join(directory, 'root.raw');
    const made = ['mkfs.ext4', '-q', '-E', 'root_owner=0:0', '-d', join(directory, 'root'), raw, '32M'];
    await run(made);
    await run(['qemu-img', 'convert', '-O', 'qcow2', raw, ledgerDiskPaths(sites.west, VM, 3)[2]!]);
    await sites.protect(VM, 60_000);
    await sites.pointAfter(VM, 0);
    await sites.api(sites.east, 'POST', '/groups', { name: 'mutes', site: 'west', vms: [VM] });
    const own = { start: 'off', customize_by: 'disk', host_name: 'books', addresses: [ADDRESS] };
    await sites.api(sites.east, 'POST', '/plans', { name: 'all', groups: ['mutes'], vms: { [VM]: own } });
  },
  { timeout: RUN_MS },
);
after(async () => {
  await sites?.[Symbol.asyncDispose]();
  if (directory !== undefined) await rm(directory, { recursive: true, force: true });
});

const ADDRESS = { nic: 0, ipv4: ['10.2.0.80/24'], gateway4: '10.2.0.1' };

async function plan(...args: string[]): Promise<RunView> {
  const manager = ['--manager', `unix:${sites.east.managerSocket}`, '--json'];
  const { stdout } = await run([process.execPath, CLI, 'plan', ...args, ...manager], { timeoutMs: RUN_MS });
  return JSON.parse(stdout) as RunView;
}

/** A file of the third disk of the test's VM, read through its overlay. */
async function fileOf(image: string, path: string): Promise<string> {
  const raw = join(directory, 'read.raw');
  await sites.east.exec(['qemu-img', 'convert', '-O', 'raw', image, raw], { timeoutMs: 60_000 });
  return (await run(['debugfs', '-R', `cat ${path}`, raw])).stdout;
}

test(
  'a test gives a VM without an agent its addresses before it starts, and takes them along when it goes',
  { timeout: RUN_MS },
  async () => {
    const ready = await plan('test', 'all');
    assert.equal(ready.state, 'ready');
    const { items } = await sites.api<{ items: RecoveryView[] }>(sites.east, 'GET', '/recoveries');
    const [job] = items;
    const details = job!.steps.flatMap((step) => step.details);
    assert.match(
      details.find(({ name }) => name === 'edit the disks')?.note ?? '',
      /^by ifupdown, on \/dev\/sdc: /,
    );
    const image = `${String(job!.result!['directory'])}/vdc.qcow2`;
    assert.match(
      await fileOf(image, '/etc/network/interfaces'),
      /iface eth0 inet static\n {4}address 10\.2\.0\.80/,
    );
    assert.equal(await fileOf(image, '/etc/hostname'), 'books\n');
    assert.equal(ready.vms[0]?.state, 'off');
    assert.equal((await plan('cleanup', 'all')).state, 'cleaned');
  },
);
