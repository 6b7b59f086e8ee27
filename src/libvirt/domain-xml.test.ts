/** Definitions as libvirt writes them, and as nobody should. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Failure } from '#/lib/failure.ts';
import { integerBelow, SeededRandom } from '#/lib/random.ts';
import { readDomainXml } from './domain-xml.ts';

const FULL = `<domain type='kvm' id='3'>
  <name>web</name>
  <uuid>6695EB01-F6A4-8304-79AA-97F2502E193F</uuid>
  <title>The web server</title>
  <memory unit='GiB'>2</memory>
  <currentMemory unit='KiB'>1048576</currentMemory>
  <vcpu placement='static'>4</vcpu>
  <os firmware='efi'>
    <type arch='x86_64' machine='pc-q35-7.2'>hvm</type>
    <loader readonly='yes' secure='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE_4M.ms.fd</loader>
    <nvram template='/usr/share/OVMF/OVMF_VARS_4M.ms.fd'>/var/lib/libvirt/qemu/nvram/web_VARS.fd</nvram>
  </os>
  <cpu mode='custom' match='exact'><model fallback='forbid'>Skylake-Server</model></cpu>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/>
      <source file='/images/web.qcow2' index='2'/>
      <backingStore type='file' index='3'>
        <format type='qcow2'/>
        <source file='/images/middle.qcow2'/>
        <backingStore type='network'>
          <format type='raw'/>
          <source protocol='nbd' name='base'><host transport='unix' socket='/run/nbd'/></source>
          <backingStore/>
        </backingStore>
      </backingStore>
      <target dev='vda' bus='virtio'/>
      <serial>S1</serial>
      <alias name='virtio-disk0'/>
    </disk>
    <disk type='block' device='lun'>
      <driver name='qemu' type='raw'/>
      <source dev='/dev/sdb'/>
      <target dev='sda' bus='scsi'/>
      <shareable/>
    </disk>
    <disk type='network' device='disk'>
      <driver name='qemu' type='raw'/>
      <source protocol='rbd' name='pool/image'>
        <host name='ceph1' port='6789'/><host name='ceph2'/>
        <encryption format='luks'/>
      </source>
      <target dev='vdb' bus='virtio'/>
      <transient/>
    </disk>
    <disk type='volume' device='disk'>
      <source pool='p' volume='v'/><target dev='vdc' bus='virtio'/>
    </disk>
    <disk type='nvme' device='disk'>
      <source type='pci' managed='yes' namespace='1'/><target dev='vdd' bus='virtio'/>
    </disk>
    <disk type='file' device='cdrom'><target dev='sdb' bus='sata'/><readonly/></disk>
    <interface type='network'>
      <mac address='52:54:00:AA:BB:CC'/><source network='default'/><target dev='vnet0'/><model type='virtio'/>
    </interface>
    <interface type='bridge'><source bridge='br0'/></interface>
    <serial type='pty'/><serial type='file'><source path='/tmp/x'/></serial>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <hostdev mode='subsystem' type='pci'/>
    <tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>
  </devices>
</domain>`;

test('a definition is read with all that recovery needs', () => {
  const { disks, ...domain } = readDomainXml(FULL);
  assert.deepEqual(domain, {
    virtType: 'kvm',
    uuid: '6695eb01-f6a4-8304-79aa-97f2502e193f',
    name: 'web',
    title: 'The web server',
    memoryBytes: 2 * 2 ** 30,
    vcpus: 4,
    arch: 'x86_64',
    machine: 'pc-q35-7.2',
    osType: 'hvm',
    firmware: {
      kind: 'efi',
      loaderPath: '/usr/share/OVMF/OVMF_CODE_4M.ms.fd',
      isSecureBoot: true,
      nvramPath: '/var/lib/libvirt/qemu/nvram/web_VARS.fd',
      nvramTemplate: '/usr/share/OVMF/OVMF_VARS_4M.ms.fd',
    },
    cpuMode: 'custom',
    cpuModel: 'Skylake-Server',
    isCpuChecked: true,
    interfaces: [
      { kind: 'network', mac: '52:54:00:aa:bb:cc', model: 'virtio', source: 'default', target: 'vnet0' },
      { kind: 'bridge', mac: undefined, model: undefined, source: 'br0', target: undefined },
    ],
    hostDevices: [{ mode: 'subsystem', kind: 'pci' }],
    tpm: { model: 'tpm-crb', backend: 'emulator', version: '2.0' },
    channels: [{ kind: 'unix', name: 'org.qemu.guest_agent.0' }],
    serialPorts: 2,
    hasGuestAgent: true,
  });
  assert.deepEqual(disks[0], {
    target: 'vda',
    bus: 'virtio',
    device: 'disk',
    source: { kind: 'file', path: '/images/web.qcow2' },
    format: 'qcow2',
    isReadOnly: false,
    isShareable: false,
    isTransient: false,
    isEncrypted: false,
    hasDataStore: false,
    serial: 'S1',
    alias: 'virtio-disk0',
    backingChain: [
      { source: { kind: 'file', path: '/images/middle.qcow2' }, format: 'qcow2' },
      {
        source: {
          kind: 'network',
          protocol: 'nbd',
          name: 'base',
          hosts: [{ transport: 'unix', name: undefined, port: undefined, socketPath: '/run/nbd' }],
        },
        format: 'raw',
      },
    ],
  });
});

test('every kind of disk is told apart', () => {
  const disks = readDomainXml(FULL).disks.slice(1);
  assert.deepEqual(
    disks.map((disk) => [disk.target, disk.device, disk.source.kind, disk.format]),
    [
      ['sda', 'lun', 'block', 'raw'],
      ['vdb', 'disk', 'network', 'raw'],
      ['vdc', 'disk', 'volume', undefined],
      ['vdd', 'disk', 'other', undefined],
      ['sdb', 'cdrom', 'none', undefined],
    ],
  );
  assert.deepEqual(
    disks.map((disk) => [disk.isReadOnly, disk.isShareable, disk.isTransient, disk.isEncrypted]),
    [
      [false, true, false, false],
      [false, false, true, true],
      [false, false, false, false],
      [false, false, false, false],
      [true, false, false, false],
    ],
  );
});

test('a definition with bits flipped is read or refused, never anything else', () => {
  const bytes = Buffer.from(FULL);
  const seed = Number(process.env['SEED'] ?? Date.now() % 1e9);
  const random = new SeededRandom(seed);
  const tally = { read: 0, refused: 0 };
  for (let round = 0; round < 400; round++) {
    const damaged = Buffer.from(bytes);
    for (let flips = 0; flips <= round % 3; flips++) {
      const bit = integerBelow(random, bytes.length * 8);
      damaged[bit >> 3] = (damaged[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    }
    try {
      assert.equal(typeof readDomainXml(damaged.toString('latin1')).memoryBytes, 'number');
      tally.read++;
    } catch (error) {
      assert(error instanceof Failure && error.code === 'usage_invalid', `SEED=${seed}: ${String(error)}`);
      tally.refused++;
    }
  }
  assert(tally.read > 0 && tally.refused > 0, `SEED=${seed}: ${JSON.stringify(tally)}`);
});

const MINIMAL = `<domain type='qemu'><name>n</name><uuid>u</uuid><memory>1024</memory></domain>`;

test('a definition with nothing but its essentials is read', () => {
  const domain = readDomainXml(MINIMAL);
  assert.deepEqual(
    [domain.memoryBytes, domain.vcpus, domain.firmware.kind, domain.disks],
    [1_048_576, 1, 'bios', []],
  );
});

const REFUSED: readonly [name: string, xml: string][] = [
  ['another document', '<network/>'],
  ['no name', MINIMAL.replace('<name>n</name>', '')],
  ['no UUID', MINIMAL.replace('<uuid>u</uuid>', '')],
  ['no type', MINIMAL.replace(" type='qemu'", '')],
  ['no memory', MINIMAL.replace('<memory>1024</memory>', '')],
  ['memory that is no number', MINIMAL.replace('1024', '1e9')],
  ['memory in a unit of its own', MINIMAL.replace('<memory>', "<memory unit='toString'>")],
  ['more memory than there can be', MINIMAL.replace('<memory>1024', "<memory unit='TiB'>999999999999999")],
  ['a disk without a target', MINIMAL.replace('</domain>', '<devices><disk/></devices></domain>')],
  [
    'a disk that is no disk',
    MINIMAL.replace('</domain>', `<devices><disk device='x'><target dev='vda'/></disk></devices></domain>`),
  ],
];

for (const [name, xml] of REFUSED) {
  test(`a definition with ${name} is refused`, () => {
    assert.throws(
      () => readDomainXml(xml),
      (error) => error instanceof Failure && error.code === 'usage_invalid',
    );
  });
}
