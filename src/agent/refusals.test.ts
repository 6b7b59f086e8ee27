/** What is refused, each with its sentence, from definitions as libvirt gives them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readDomainXml } from '#/libvirt/domain-xml.ts';
import { diskRefusal, isSkipped, vmRefusals } from './refusals.ts';

const GOOD = { version: 3, diskBytes: 2 ** 30 };

function domainXml(devices: string, after = ''): string {
  return `<domain type="kvm" xmlns:qemu="http://libvirt.org/schemas/domain/qemu/1.0"><name>web</name>
    <uuid>6f1d1f9e-7d1c-4c59-9d0b-0a0b0c0d0e0f</uuid><memory>131072</memory>
    <devices>${devices}</devices>${after}</domain>`;
}

function disk(inside: string, attributes = 'type="file" device="disk"', format = 'qcow2'): string {
  return `<disk ${attributes}><driver name="qemu" type="${format}"/>${inside}<target dev="vda"/></disk>`;
}

const FILE = '<source file="/images/web.qcow2"/>';

function refusalOf(xml: string, header = GOOD as typeof GOOD | undefined): string | undefined {
  const [first] = readDomainXml(domainXml(xml)).disks;
  return diskRefusal(first!, header);
}

test('a qcow2 file of compat 1.1 is not refused', () => {
  assert.equal(refusalOf(disk(FILE)), undefined);
  assert.equal(refusalOf(disk('<source dev="/dev/vg/web"/>', 'type="block" device="disk"')), undefined);
});

const REFUSED: [string, string, RegExp][] = [
  [
    'a raw disk',
    disk(FILE, 'type="file" device="disk"', 'raw'),
    /raw, which cannot track changes.*qemu-img convert/,
  ],
  ['a shared disk', disk(`${FILE}<shareable/>`), /shared with other VMs/],
  [
    'a passed-through LUN',
    disk('<source dev="/dev/sda"/>', 'type="block" device="lun"', 'raw'),
    /passes a LUN/,
  ],
  ['a transient disk', disk(`${FILE}<transient/>`), /transient/],
  ['an encrypted disk', disk(`${FILE}<encryption format="luks"/>`), /encrypted/],
  [
    'a network disk',
    disk('<source protocol="rbd" name="pool/web"><host name="mon"/></source>', 'type="network"', 'raw'),
    /network disk \(rbd\)/,
  ],
  [
    'a vhost-user disk',
    disk('<source type="unix" path="/run/v.sock"/>', 'type="vhostuser" device="disk"', 'raw'),
    /vhostuser, past QEMU's block layer/,
  ],
  ['a volume of a pool', disk('<source pool="default" volume="web"/>', 'type="volume"'), /pool default/],
];

for (const [what, xml, sentence] of REFUSED) {
  test(`${what} is refused in a sentence that says why`, () => {
    assert.match(refusalOf(xml) ?? 'not refused', sentence);
  });
}

test('an image that cannot track changes, or cannot be read, is refused', () => {
  assert.match(refusalOf(disk(FILE), { version: 2, diskBytes: 1 }) ?? '', /compat 0.10.*qemu-img amend/);
  assert.match(
    diskRefusal(readDomainXml(domainXml(disk(FILE))).disks[0]!, undefined) ?? '',
    /cannot be read/,
  );
});

test('drives without data of the VM are skipped', () => {
  const xml = domainXml(
    `${disk(FILE, 'type="file" device="cdrom"', 'raw')}${disk(`${FILE}<readonly/>`)}${disk('')}${disk(FILE)}`,
  );
  assert.deepEqual(readDomainXml(xml).disks.map(isSkipped), [true, true, true, false]);
});

function vmRefusal(xml: string, isPersistent = true): string[] {
  return vmRefusals(readDomainXml(xml), xml, isPersistent);
}

test('a VM with a disk of its own and nothing of its host is not refused', () => {
  assert.deepEqual(vmRefusal(domainXml(disk(FILE))), []);
});

test('a transient VM, one with a host device, one without disks and a COLO pair are refused', () => {
  assert.match(vmRefusal(domainXml(disk(FILE)), false).join(), /transient/);
  const device = '<hostdev mode="subsystem" type="pci"><source/></hostdev>';
  assert.match(vmRefusal(domainXml(disk(FILE) + device)).join(), /host device \(subsystem, pci\)/);
  assert.match(vmRefusal(domainXml('')).join(), /no disk to replicate/);
  const colo = '<qemu:commandline><qemu:arg value="colo-compare,id=c0"/></qemu:commandline>';
  assert.match(vmRefusal(domainXml(disk(FILE), colo)).join(), /COLO/);
});
