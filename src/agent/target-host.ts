/** What this host can run, as libvirt tells it. Asked once for each connection: it takes the daemon long to say. */
import { existsSync } from 'node:fs';
import type { Libvirt } from '#/libvirt/libvirt.ts';
import { attributeOf, childOf, childrenOf, parseXml, textOf } from '#/libvirt/xml.ts';
import type { TargetHost } from '#/recovery/adapt-definition.ts';

const known = new WeakMap<Libvirt, Promise<TargetHost>>();

export function targetHost(libvirt: Libvirt): Promise<TargetHost> {
  const before = known.get(libvirt);
  if (before !== undefined) return before;
  const asked = askTargetHost(libvirt);
  known.set(libvirt, asked);
  asked.catch(() => known.delete(libvirt));
  return asked;
}

async function askTargetHost(libvirt: Libvirt): Promise<TargetHost> {
  const capabilities = parseXml(
    await libvirt.getCapabilities(),
    'the capabilities of this host',
    'capabilities',
  );
  const domainTypes = new Set<string>();
  const emulators = new Set<string>();
  for (const guest of childrenOf(capabilities, 'guest')) {
    const arch = childOf(guest, 'arch');
    if (arch === undefined || attributeOf(arch, 'name') !== hostArch()) continue;
    for (const domain of childrenOf(arch, 'domain')) {
      domainTypes.add(attributeOf(domain, 'type') ?? '');
      const own = textOf(domain, 'emulator');
      if (own !== undefined) emulators.add(own);
    }
    const emulator = textOf(arch, 'emulator');
    if (emulator !== undefined) emulators.add(emulator);
  }
  return {
    domainTypes: [...domainTypes],
    emulators: [...emulators],
    hasPath: (path) => path.startsWith('/') && existsSync(path),
  };
}

function hostArch(): string {
  return process.arch === 'arm64' ? 'aarch64' : 'x86_64';
}
