/**
 * What cannot be protected, all the way: defined at a real libvirtd, read by the agent's inventory, reported to a
 * manager, and refused when somebody asks for it, with nothing changed at either site.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { readInventory } from '#/agent/inventory.ts';
import { Libvirt } from '#/libvirt/libvirt.ts';
import { twoSites } from '#/manager/site-fixture.ts';
import { startPrivateLibvirtd, type PrivateLibvirtd } from './private-libvirtd.ts';

const QCOW2 = 'IMAGES/good.qcow2';

/** A disk; `IMAGES` stands for the directory that the daemon sees. */
function disk(
  target: string,
  parts: { attributes?: string; format?: string; source?: string; more?: string },
) {
  const { attributes = 'type="file" device="disk"', format = 'qcow2', more = '' } = parts;
  const source = parts.source ?? `<source file="${QCOW2}"/>`;
  return `<disk ${attributes}><driver name="qemu" type="${format}"/>${source}
    <target dev="${target}" bus="${target.startsWith('sd') ? 'scsi' : 'virtio'}"/>${more}</disk>`;
}

const GOOD = disk('vda', {});
const LUN = { attributes: 'type="block" device="lun"', format: 'raw', source: '<source dev="/dev/loop7"/>' };
const OLD = { source: '<source file="IMAGES/old.qcow2"/>' };
const RBD = {
  attributes: 'type="network" device="disk"',
  format: 'raw',
  source: '<source protocol="rbd" name="pool/web"><host name="192.0.2.1"/></source>',
};
const PCI =
  '<hostdev mode="subsystem" type="pci" managed="yes"><source><address domain="0" bus="3" slot="0" function="0"/></source></hostdev>';
const COLO = `<qemu:commandline xmlns:qemu="http://libvirt.org/schemas/domain/qemu/1.0">
  <qemu:arg value="-object"/><qemu:arg value="colo-compare,id=c0,primary_in=a,secondary_in=b,outdev=o"/>
</qemu:commandline>`;

/** Each VM, with what is said of it and the way out. */
const REFUSED: Record<
  string,
  { devices: string; after?: string; message: RegExp; hint: RegExp; disks?: string[] }
> = {
  'a-lun': {
    devices: GOOD + disk('sda', LUN),
    message: /disk sda of VM a-lun: .*LUN of the host/,
    hint: /--disk vda$/,
  },
  'a-host-device': {
    devices: GOOD + PCI,
    message: /VM a-host-device cannot be protected: .*host device \(subsystem, pci\)/,
    hint: /Take .* out of its definition/,
  },
  'a-shared-disk': {
    devices: GOOD + disk('vdb', { format: 'raw', more: '<shareable/>' }),
    message: /disk vdb of VM a-shared-disk: .*shared with other VMs/,
    hint: /--disk vda$/,
  },
  'a-raw-disk': {
    devices: GOOD + disk('vdb', { format: 'raw' }),
    message: /disk vdb of VM a-raw-disk: .*raw, which cannot track changes.*qemu-img convert/,
    hint: /--disk vda$/,
  },
  'only-a-raw-disk': {
    devices: disk('vda', { format: 'raw' }),
    message: /disk vda of VM only-a-raw-disk: .*qemu-img convert/,
    hint: /no other disk/,
  },
  'an-old-image': {
    devices: GOOD + disk('vdb', OLD),
    message: /disk vdb of VM an-old-image: .*compat 0\.10.*qemu-img amend/,
    hint: /--disk vda$/,
  },
  'a-missing-image': {
    devices: disk('vda', { source: '<source file="IMAGES/gone.qcow2"/>' }),
    message: /disk vda of VM a-missing-image: .*gone\.qcow2 cannot be read/,
    hint: /no other disk/,
  },
  'a-network-disk': {
    devices: GOOD + disk('vdb', RBD),
    message: /disk vdb of VM a-network-disk: .*network disk \(rbd\)/,
    hint: /--disk vda$/,
  },
  'asked-for-the-raw-one': {
    devices: GOOD + disk('vdb', { format: 'raw' }),
    disks: ['vda', 'vdb'],
    message: /disk vdb of VM asked-for-the-raw-one/,
    hint: /--disk vda$/,
  },
  'a-colo-pair': {
    devices: GOOD,
    after: COLO,
    message: /VM a-colo-pair cannot be protected: .*COLO pair/,
    hint: /Take .* out of its definition/,
  },
  'no-disk': { devices: '', message: /VM no-disk cannot be protected: .*no disk/, hint: /./ },
};

let daemon: PrivateLibvirtd;
let libvirt: Libvirt;
let sites: Awaited<ReturnType<typeof twoSites>>;

before(async () => {
  daemon = await startPrivateLibvirtd();
  libvirt = await Libvirt.connect({ socketPath: daemon.socketPath });
  for (const [name, compat] of [
    ['good', '1.1'],
    ['old', '0.10'],
  ]) {
    const image = `${daemon.directory}/${name}.qcow2`;
    await daemon.run('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', `compat=${compat}`, image, '1M']);
  }
  sites = await twoSites();
});

after(async () => {
  await sites[Symbol.asyncDispose]();
  await libvirt[Symbol.asyncDispose]();
  await daemon[Symbol.asyncDispose]();
});

function definition(name: string, devices: string, more = ''): string {
  const xml = `<domain type="qemu"><name>${name}</name><memory unit="MiB">64</memory><vcpu>1</vcpu>
    <os><type arch="x86_64" machine="q35">hvm</type></os>
    <devices>${devices}<controller type="scsi" model="virtio-scsi"/></devices>${more}</domain>`;
  return xml.replaceAll('IMAGES', daemon.directory);
}

test('what libvirt says of a VM reaches whoever asks to protect it, by name and with the way out', async (t) => {
  const { west, east, westAgent } = sites;
  for (const [name, { devices, after: more }] of Object.entries(REFUSED)) {
    await libvirt.defineDomain(definition(name, devices, more));
  }
  await libvirt.defineDomain(definition('sound', GOOD));
  westAgent.report.vms = await readInventory(libvirt);
  await westAgent.send();
  for (const [name, { message, hint, disks }] of Object.entries(REFUSED)) {
    await t.test(name, async () => {
      const request = { vm: name, site: 'east', rpo_ms: 5000, ...(disks === undefined ? {} : { disks }) };
      await assert.rejects(west.api('POST', '/protections', request), {
        code: 'vm_unsupported',
        message,
        hint,
      });
    });
  }
  const held = async (site: typeof west, what: string): Promise<unknown[]> =>
    (await site.api<{ items: unknown[] }>('GET', what)).items;
  assert.deepEqual([await held(west, '/protections'), await held(east, '/replicas')], [[], []]);
  await t.test('and the way out leads out: the other disk, and the VM beside them, are taken', async () => {
    for (const request of [{ vm: 'a-raw-disk', disks: ['vda'] }, { vm: 'sound' }]) {
      await west.api('POST', '/protections', { site: 'east', rpo_ms: 5000, ...request });
    }
    assert.equal((await held(east, '/replicas')).length, 2);
  });
});
