import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hasCode } from '#/lib/failure.ts';
import { adaptDefinition, type Adaptation, type TargetHost } from './adapt-definition.ts';
import { markIn } from './recovery-mark.ts';

const UUID = '6f0c8f0e-6a77-4a52-9f3e-0d5b6a0c1d2e';
const definition = (devices: string, os = '<type arch="x86_64">hvm</type>', type = 'kvm'): string => `
<domain type="${type}" id="7" xmlns:qemu="http://libvirt.org/schemas/domain/qemu/1.0">
  <name>web</name><uuid>${UUID}</uuid>
  <metadata><app:x xmlns:app="urn:app">kept</app:x></metadata>
  <os>${os}</os>
  <devices>${devices}</devices>
  <seclabel type="dynamic"/>
</domain>`;
const disk = `<disk type="block" device="disk"><driver name="qemu" type="qcow2" cache="none"/>
  <source dev="/dev/vg/web"/><backingStore/><target dev="vda" bus="virtio"/><serial>abc</serial><boot order="1"/></disk>`;
const adaptation: Adaptation = {
  name: 'web',
  mark: { taskId: 't1', replicaId: 'r1', sequence: 12, epoch: 2, purpose: 'recovery' },
  disks: [{ key: 'vda', overlayPath: '/store/vda.qcow2', socketPath: '/run/nbd.sock', exportName: 'vda' }],
  networks: { prod: 'dr' },
  defaultNetwork: null,
};
const host: TargetHost = { hasPath: () => true, domainTypes: ['kvm', 'qemu'], emulators: ['/usr/bin/qemu'] };
const bareHost: TargetHost = { hasPath: () => false, domainTypes: ['qemu'], emulators: [] };

test('a disk becomes an overlay on the served point and keeps all else about itself', () => {
  const { xml, uuid } = adaptDefinition(definition(disk), adaptation, host);
  assert.equal(uuid, UUID);
  assert.match(
    xml,
    /<disk type="file" device="disk"><driver name="qemu" type="qcow2" cache="none" error_policy="stop"/,
  );
  assert.match(xml, /<source file="\/store\/vda.qcow2"\/>/);
  assert.match(
    xml,
    /<source protocol="nbd" name="vda"><host transport="unix" socket="\/run\/nbd.sock"\/><\/source>/,
  );
  assert.match(xml, /<serial>abc<\/serial><boot order="1"\/>/);
  assert.doesNotMatch(xml, /\/dev\/vg|seclabel|id="7"/);
  assert.match(xml, /kept/);
});

test('the mark of the recovery can be read back, and replaces an older one', () => {
  const first = adaptDefinition(definition(disk), adaptation, host).xml;
  const mark = { ...adaptation.mark, taskId: 't2' };
  const second = adaptDefinition(first, { ...adaptation, mark }, host).xml;
  assert.deepEqual(markIn(second), mark);
  assert.equal(second.split('urn:antipode:recovery:1').length, 2);
  assert.equal(markIn(definition(disk)), undefined);
});

test('a disk that is not in the replica goes, with a note; a CD-ROM stays, empty', () => {
  const more = `<disk type="file" device="cdrom"><source file="/iso"/><target dev="sda"/></disk>
    <disk type="file" device="disk"><source file="/scratch"/><target dev="vdb"/></disk>`;
  const { xml, notes } = adaptDefinition(definition(disk + more), adaptation, host);
  assert.match(xml, /device="cdrom"><target dev="sda"\/>/);
  assert.doesNotMatch(xml, /vdb|\/iso/);
  assert.deepEqual(notes, ['Disk vdb is not part of the replica, so the VM starts without it.']);
});

test('a point with a disk that the definition does not name is refused', () => {
  assert.throws(() => adaptDefinition(definition(''), adaptation, host), /names no disk vda/);
});

test('a mapped network is used, an unmapped one refused with the way out, a default taken with a note', () => {
  const nic = (name: string): string =>
    `<interface type="network"><mac address="52:54:00:aa:bb:cc"/><source network="${name}" portgroup="x"/>
     <target dev="vnet3"/></interface>`;
  const { xml, notes } = adaptDefinition(definition(disk + nic('prod')), adaptation, host);
  assert.match(xml, /<mac address="52:54:00:aa:bb:cc"\/>\s*<source network="dr"\/>/);
  assert.deepEqual(notes, []);
  assert.throws(
    () => adaptDefinition(definition(disk + nic('lab')), adaptation, host),
    (error) => hasCode(error, 'vm_unsupported') && /network lab/.test(String(error)),
  );
  const fallback = adaptDefinition(
    definition(disk + nic('lab')),
    { ...adaptation, defaultNetwork: 'default' },
    host,
  );
  assert.deepEqual(fallback.notes, ['Network lab is not mapped; default is used.']);
  // A network called like a member of every object is no mapping.
  assert.throws(
    () => adaptDefinition(definition(disk + nic('constructor')), adaptation, host),
    /network constructor/,
  );
});

test('a test gets its own name, UUID, network and MAC addresses', () => {
  const nic = '<interface type="bridge"><mac address="52:54:00:aa:bb:cc"/><source bridge="br0"/></interface>';
  const isolated = {
    ...adaptation,
    name: 'web-test',
    uuid: UUID.replace('6f', '7f'),
    isolated: { kind: 'one', network: 'antipode-t' } as const,
  };
  const { xml, uuid } = adaptDefinition(definition(disk + nic), isolated, host);
  assert.equal(uuid, UUID.replace('6f', '7f'));
  assert.match(xml, /<name>web-test<\/name>/);
  assert.match(xml, /<interface type="network"><source network="antipode-t"\/>/);
  assert.doesNotMatch(xml, /52:54:00:aa:bb:cc/);
});

test('what the host lacks is left to libvirt or refused: emulator, firmware, kernel, KVM', () => {
  const { xml, notes } = adaptDefinition(
    definition(`<emulator>/opt/qemu</emulator>${disk}`),
    adaptation,
    bareHost,
  );
  assert.match(xml, /<domain type="qemu"/);
  assert.doesNotMatch(xml, /emulator/);
  assert.equal(notes.length, 2);
  const kernel = '<type>hvm</type><kernel>/boot/k</kernel>';
  assert.throws(() => adaptDefinition(definition(disk, kernel), adaptation, bareHost), /kernel \/boot\/k/);
  const loader = '<type>hvm</type><loader>/fw.fd</loader>';
  assert.throws(() => adaptDefinition(definition(disk, loader), adaptation, bareHost), /firmware \/fw.fd/);
  assert.throws(() => adaptDefinition(definition(disk, '', 'xen'), adaptation, host), /type 'xen'/);
});

test('firmware variables are taken from where they were restored', () => {
  const os = '<type>hvm</type><nvram template="/t.fd">/var/old.fd</nvram>';
  const { xml } = adaptDefinition(definition(disk, os), { ...adaptation, nvramPath: '/store/nvram' }, host);
  assert.match(xml, /<nvram template="\/t.fd">\/store\/nvram<\/nvram>/);
});

test('a console that writes to a file of the host becomes a terminal', () => {
  const serial = '<serial type="file"><source path="/gone/serial.log"/><target port="0"/></serial>';
  const { xml, notes } = adaptDefinition(definition(disk + serial), adaptation, host);
  assert.match(xml, /<serial type="pty"><target port="0"\/>/);
  assert.equal(notes.length, 1);
});

test('nothing of a definition reaches into this host: programs, files, devices, ports', () => {
  const devices = `<emulator>/tmp/evil</emulator>${disk}
    <filesystem type="mount"><source dir="/"/><target dir="all"/></filesystem>
    <hostdev mode="subsystem" type="pci"/><redirdev bus="usb" type="tcp"/>
    <channel type="unix"><source mode="bind" path="/etc/x"/><target type="virtio" name="a"/></channel>
    <channel type="pipe"><source path="/etc/y"/><target type="virtio" name="b"/></channel>
    <console type="tcp"><source mode="bind" host="0.0.0.0" service="22"/><protocol type="raw"/></console>
    <parallel type="dev"><source path="/dev/mem"/></parallel>
    <serial type="pty"><log file="/etc/cron.d/x"/></serial>
    <tpm model="tpm-tis"><backend type="passthrough"><device path="/dev/tpm0"/></backend></tpm>
    <interface type="user"><script path="/tmp/evil"/><backend logFile="/etc/z"/></interface>
    <graphics type="vnc" port="5900" autoport="no" listen="192.0.2.1"><listen type="address"/></graphics>`;
  const hostile = definition(devices).replace(
    '</domain>',
    '<q:commandline xmlns:q="http://libvirt.org/schemas/domain/qemu/1.0"><q:arg value="-x"/></q:commandline></domain>',
  );
  const { xml, notes } = adaptDefinition(hostile, adaptation, host);
  assert.doesNotMatch(
    xml,
    /evil|filesystem|hostdev|redirdev|\/etc|\/dev\/(mem|tpm)|tcp|commandline|5900|192/,
  );
  assert.match(xml, /<graphics type="vnc"><listen type="socket"\/><\/graphics>/);
  assert.equal(notes.length, 10, notes.join('\n'));
});

test('a display listens on a socket only, has no password of the other site, and SPICE gets one for consoles', () => {
  const displays = `${disk}<graphics type="spice" port="5901" defaultMode="secure" passwd="x" connected="keep">
    <listen type="network" network="default"/><channel name="main" mode="secure"/><image compression="off"/></graphics>`;
  const { notes, xml } = adaptDefinition(definition(displays), adaptation, host);
  const graphics = xml.slice(xml.indexOf('<graphics'), xml.lastIndexOf('</graphics>'));
  assert.match(graphics, /^<graphics type="spice">\s*<image compression="off"\/><listen type="socket"\/>/);
  assert.match(graphics, /<graphics type="vnc"><listen type="socket"\/>$/);
  assert.deepEqual(notes, ["The spice display listens on a Unix socket of libvirt's here, on no port."]);
  const own = `${disk}<graphics type="vnc" socket="/var/lib/libvirt/qemu/a.vnc" keymap="de"/>`;
  const kept = adaptDefinition(definition(own), adaptation, host);
  assert.match(kept.xml, /<graphics type="vnc" keymap="de"><listen type="socket"\/><\/graphics>/);
  assert.deepEqual(kept.notes, []);
  assert.doesNotMatch(adaptDefinition(definition(disk), adaptation, host).xml, /graphics/);
});

test('a VM is not pinned to processors of another host, and identity in firmware follows the UUID', () => {
  const more = `<vcpu cpuset="4-7">2</vcpu><numatune><memory nodeset="1"/></numatune><genid>${UUID}</genid>
    <cputune><shares>9</shares><vcpupin vcpu="0" cpuset="4"/></cputune>
    <sysinfo type="smbios"><system><entry name="uuid">${UUID}</entry></system></sysinfo>`;
  const uuid = UUID.replace('6f', '7f');
  const text = definition(disk).replace('<os>', `${more}<os>`);
  const { xml, notes } = adaptDefinition(text, { ...adaptation, uuid }, host);
  assert.match(xml, /<vcpu>2<\/vcpu><genid\/>/);
  assert.match(xml, /<cputune><shares>9<\/shares><\/cputune>/);
  assert.match(xml, new RegExp(`<entry name="uuid">${uuid}`));
  assert.doesNotMatch(xml, new RegExp(UUID));
  assert.equal(notes.length, 1);
});

test('what is no definition of a VM that can be told apart is refused', () => {
  const refused = (text: string, change: Partial<Adaptation> = {}): void =>
    assert.throws(
      () => adaptDefinition(text, { ...adaptation, ...change }, host),
      (error) => hasCode(error, 'usage_invalid'),
    );
  refused('<domain');
  refused('<network/>');
  refused('<!DOCTYPE domain [<!ENTITY a "b">]><domain>&a;</domain>');
  refused(definition(disk).replace(UUID, '../../etc'));
  refused(definition(disk), { disks: [...adaptation.disks, ...adaptation.disks] });
});

test('a VM that comes home is on its own networks again, wherever it was meanwhile', () => {
  const nic = (mac: string, parts: string, type = 'network'): string =>
    `<interface type="${type}"><mac address="${mac}"/>${parts}<model type="virtio"/></interface>`;
  const nics =
    nic('52:54:00:00:00:01', '<source network="prod" portgroup="blue"/><target dev="vnet3"/>') +
    nic('52:54:00:00:00:02', '<source bridge="br7"/><vlan><tag id="7"/></vlan><script path="/x"/>', 'bridge');
  const out = { fromSiteId: 'site-west', toSiteId: 'site-east' };
  const away = adaptDefinition(
    definition(disk + nics),
    { ...adaptation, defaultNetwork: 'lan', journey: out },
    host,
  );
  assert.deepEqual(away.networks, ['dr', 'lan']);
  const back = { ...adaptation, networks: {}, journey: { fromSiteId: 'site-east', toSiteId: 'site-west' } };
  const home = adaptDefinition(away.xml, back, host);
  assert.match(home.xml, /01"\/><model type="virtio"\/><source network="prod" portgroup="blue"\/>/);
  assert.match(home.xml, /type="bridge".*02"\/><model type="virtio"\/><source bridge="br7"\/><vlan>/);
  assert.doesNotMatch(home.xml, /vnet3|script/);
  const again = adaptDefinition(home.xml, { ...adaptation, networks: {}, journey: out }, host);
  assert.deepEqual(again.networks, ['dr', 'lan'], 'what it was on there is known by now');
  const told = { ...back, networks: { dr: 'other', lan: 'other' } };
  assert.deepEqual(
    adaptDefinition(away.xml, told, host).networks,
    ['other'],
    'what a person says counts more',
  );
});
