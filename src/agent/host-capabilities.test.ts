import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseXml } from '#/libvirt/xml.ts';
import { readCapabilities } from './host-capabilities.ts';

const ALL = `<capabilities>
  <guest><os_type>hvm</os_type><arch name='i686'><machine maxCpus='255'>isapc</machine></arch></guest>
  <guest><os_type>hvm</os_type>
    <arch name='x86_64'>
      <machine canonical='pc-q35-7.2' maxCpus='288'>q35</machine>
      <domain type='qemu'/>
      <domain type='kvm'><machine maxCpus='288'>pc-q35-6.0</machine></domain>
    </arch>
  </guest>
</capabilities>`;
const OWN = `<domainCapabilities>
  <arch>x86_64</arch>
  <os supported='yes'>
    <enum name='firmware'><value>efi</value></enum>
    <loader supported='yes'>
      <enum name='type'><value>rom</value><value>pflash</value></enum>
      <enum name='secure'><value>yes</value><value>no</value></enum>
    </loader>
  </os>
  <cpu>
    <mode name='host-model' supported='yes'><model fallback='forbid'>EPYC</model></mode>
    <mode name='custom' supported='yes'>
      <model usable='yes'>qemu64</model><model usable='no'>Haswell</model><model usable='unknown'>core2duo</model>
    </mode>
  </cpu>
  <devices>
    <tpm supported='yes'>
      <enum name='backendModel'><value>passthrough</value><value>emulator</value></enum>
    </tpm>
  </devices>
</domainCapabilities>`;

const read = (own: string) =>
  readCapabilities(parseXml(ALL, 'all', 'capabilities'), parseXml(own, 'own', 'domainCapabilities'));

test('what a host can run is read from both documents of libvirt', () => {
  assert.deepEqual(read(OWN), {
    arch: 'x86_64',
    machines: ['q35', 'pc-q35-7.2', 'pc-q35-6.0'],
    cpu_models: ['qemu64', 'core2duo'],
    has_efi: true,
    has_secure_boot: true,
    has_tpm: true,
  });
});

test('what libvirt does not speak of, a host has not', () => {
  const {
    has_efi: efi,
    has_secure_boot: secure,
    has_tpm: tpm,
  } = read('<domainCapabilities><arch>x86_64</arch></domainCapabilities>');
  assert.deepEqual([efi, secure, tpm], [false, false, false]);
});
