/**
 * What VMs this host can run, as libvirt tells it; asked once for each connection, since the daemon starts a QEMU to
 * find out.
 */
import type { HostCapabilities } from '#/control/hardware.ts';
import type { Libvirt } from '#/libvirt/libvirt.ts';
import { attributeOf, childOf, childrenOf, parseXml, textOf } from '#/libvirt/xml.ts';
import type { XmlElement } from '#/libvirt/xml.ts';

const LIST_MAX = 1000;
const WORD_LENGTH_MAX = 128;

const known = new WeakMap<Libvirt, Promise<HostCapabilities>>();

export function hostCapabilities(libvirt: Libvirt): Promise<HostCapabilities> {
  const before = known.get(libvirt);
  if (before !== undefined) return before;
  const asked = ask(libvirt);
  known.set(libvirt, asked);
  asked.catch(() => known.delete(libvirt));
  return asked;
}

async function ask(libvirt: Libvirt): Promise<HostCapabilities> {
  const all = parseXml(await libvirt.getCapabilities(), 'the capabilities of this host', 'capabilities');
  // Without a question libvirt answers for what a VM of this host would get: its own architecture, KVM if it works.
  const text = await libvirt.getDomainCapabilities();
  return readCapabilities(all, parseXml(text, 'the capabilities for VMs', 'domainCapabilities'));
}

export function readCapabilities(all: XmlElement, own: XmlElement): HostCapabilities {
  const arch = textOf(own, 'arch') ?? 'unknown';
  const loader = childOf(own, 'os', 'loader');
  const firmwares = enumOf(childOf(own, 'os'), 'firmware');
  const tpm = childOf(own, 'devices', 'tpm');
  return {
    arch,
    machines: machinesOf(all, arch),
    cpu_models: cpuModelsOf(own),
    has_efi: firmwares.includes('efi') || enumOf(loader, 'type').includes('pflash'),
    has_secure_boot: enumOf(loader, 'secure').includes('yes'),
    has_tpm: attributeOf(tpm, 'supported') === 'yes' && enumOf(tpm, 'backendModel').includes('emulator'),
  };
}

/** By their own names and by those that stand for the newest of a kind. */
function machinesOf(all: XmlElement, arch: string): string[] {
  const machines = childrenOf(all, 'guest')
    .map((guest) => childOf(guest, 'arch'))
    .filter((element) => attributeOf(element, 'name') === arch)
    .flatMap((element) => {
      const kinds = [element!, ...childrenOf(element!, 'domain')];
      return kinds.flatMap((kind) => childrenOf(kind, 'machine'));
    })
    .flatMap((machine) => [textOf(machine), attributeOf(machine, 'canonical')]);
  return words(machines);
}

/** Models that libvirt has found this processor, or its emulation, to have all features of. */
function cpuModelsOf(own: XmlElement): string[] {
  const custom = childrenOf(childOf(own, 'cpu') ?? own, 'mode').find(
    (mode) => attributeOf(mode, 'name') === 'custom',
  );
  const models = custom === undefined ? [] : childrenOf(custom, 'model');
  return words(models.filter((model) => attributeOf(model, 'usable') !== 'no').map((model) => textOf(model)));
}

function enumOf(parent: XmlElement | undefined, name: string): string[] {
  const found = parent === undefined ? [] : childrenOf(parent, 'enum');
  const own = found.find((element) => attributeOf(element, 'name') === name);
  return own === undefined ? [] : words(childrenOf(own, 'value').map((value) => textOf(value)));
}

function words(all: readonly (string | undefined)[]): string[] {
  const fitting = all.filter((word) => word !== undefined && word !== '' && word.length <= WORD_LENGTH_MAX);
  return [...new Set(fitting as string[])].slice(0, LIST_MAX);
}
