/**
 * What a domain's definition says, as far as protecting and recovering it needs to know.
 *
 * Source of the format: libvirt's documentation of the domain XML. Only what is understood is told; a definition
 * whose essentials are missing or unreadable is refused with `usage_invalid`, never guessed at.
 */
import { Failure } from '#/lib/failure.ts';
import { readDisk } from './domain-disk-xml.ts';
import type { DiskDefinition } from './domain-disk-xml.ts';
import { attributeOf, childOf, childrenOf, parseXml, textOf } from './xml.ts';
import type { XmlElement } from './xml.ts';

export type InterfaceDefinition = {
  /** `network`, `bridge`, `direct`, `user`, ... */
  kind: string;
  mac: string | undefined;
  model: string | undefined;
  /** The network, bridge or host interface it is joined to. */
  source: string | undefined;
  /** The host's end, such as `vnet0`. */
  target: string | undefined;
};

/** A device of the host that is passed through, or a virtual function in its place. */
export type HostDeviceDefinition = { mode: string; kind: string };

export type FirmwareDefinition = {
  kind: 'bios' | 'efi';
  loaderPath: string | undefined;
  isSecureBoot: boolean;
  /** The file with the guest's firmware variables. */
  nvramPath: string | undefined;
  nvramTemplate: string | undefined;
};

/** A channel between guest and host, such as the guest agent's. */
export type ChannelDefinition = { kind: string; name: string | undefined };

export type TpmDefinition = {
  model: string | undefined;
  backend: string | undefined;
  version: string | undefined;
};

export type DomainDefinition = {
  /** `kvm`, `qemu`, `test`, ... */
  virtType: string;
  uuid: string;
  name: string;
  title: string | undefined;
  memoryBytes: number;
  vcpus: number;
  arch: string | undefined;
  machine: string | undefined;
  osType: string | undefined;
  firmware: FirmwareDefinition;
  /** `host-passthrough`, `host-model`, `custom`, ... */
  cpuMode: string | undefined;
  cpuModel: string | undefined;
  /** False when the VM starts also where the model is not to be had in full (`check='none'`). */
  isCpuChecked: boolean;
  disks: DiskDefinition[];
  interfaces: InterfaceDefinition[];
  hostDevices: HostDeviceDefinition[];
  tpm: TpmDefinition | undefined;
  channels: ChannelDefinition[];
  serialPorts: number;
  hasGuestAgent: boolean;
};

const AGENT_CHANNEL = 'org.qemu.guest_agent.0';

/** Throws `usage_invalid`; the message names the domain as far as it is known. */
export function readDomainXml(xml: string): DomainDefinition {
  return readDomain(parseXml(xml, 'the definition of a domain', 'domain'));
}

/** The same of an element that is parsed already. */
export function readDomain(domain: XmlElement): DomainDefinition {
  const name = required(textOf(domain, 'name'), 'a domain', 'name');
  const what = `domain ${name}`;
  const devices = childOf(domain, 'devices');
  const channels = devicesOf(devices, 'channel').map(readChannel);
  return {
    virtType: required(attributeOf(domain, 'type'), what, 'type'),
    uuid: required(textOf(domain, 'uuid'), what, 'UUID').toLowerCase(),
    name,
    title: textOf(domain, 'title'),
    memoryBytes: readMemory(domain, what),
    vcpus: wholeNumber(textOf(domain, 'vcpu') ?? '1', what, 'number of vCPUs'),
    arch: attributeOf(childOf(domain, 'os', 'type'), 'arch'),
    machine: attributeOf(childOf(domain, 'os', 'type'), 'machine'),
    osType: textOf(domain, 'os', 'type'),
    firmware: readFirmware(childOf(domain, 'os')),
    cpuMode: attributeOf(childOf(domain, 'cpu'), 'mode'),
    cpuModel: textOf(domain, 'cpu', 'model'),
    isCpuChecked: attributeOf(childOf(domain, 'cpu'), 'check') !== 'none',
    disks: devicesOf(devices, 'disk').map((disk) => readDisk(disk, what)),
    interfaces: devicesOf(devices, 'interface').map(readInterface),
    hostDevices: devicesOf(devices, 'hostdev').map(readHostDevice),
    tpm: readTpm(devices),
    channels,
    serialPorts: devicesOf(devices, 'serial').length,
    hasGuestAgent: channels.some((channel) => channel.name === AGENT_CHANNEL),
  };
}

function devicesOf(devices: XmlElement | undefined, name: string): XmlElement[] {
  return devices === undefined ? [] : childrenOf(devices, name);
}

function readFirmware(os: XmlElement | undefined): FirmwareDefinition {
  const loader = os === undefined ? undefined : childOf(os, 'loader');
  const nvram = os === undefined ? undefined : childOf(os, 'nvram');
  const isEfi = attributeOf(os, 'firmware') === 'efi' || attributeOf(loader, 'type') === 'pflash';
  return {
    kind: isEfi ? 'efi' : 'bios',
    loaderPath: textFrom(loader),
    isSecureBoot: attributeOf(loader, 'secure') === 'yes',
    nvramPath: textFrom(nvram),
    nvramTemplate: attributeOf(nvram, 'template'),
  };
}

function readInterface(element: XmlElement): InterfaceDefinition {
  const kind = attributeOf(element, 'type') ?? 'unknown';
  const source = childOf(element, 'source');
  return {
    kind,
    mac: attributeOf(childOf(element, 'mac'), 'address')?.toLowerCase(),
    model: attributeOf(childOf(element, 'model'), 'type'),
    source: attributeOf(source, 'network') ?? attributeOf(source, 'bridge') ?? attributeOf(source, 'dev'),
    target: attributeOf(childOf(element, 'target'), 'dev'),
  };
}

function readHostDevice(element: XmlElement): HostDeviceDefinition {
  return {
    mode: attributeOf(element, 'mode') ?? 'subsystem',
    kind: attributeOf(element, 'type') ?? 'unknown',
  };
}

function readChannel(element: XmlElement): ChannelDefinition {
  return {
    kind: attributeOf(element, 'type') ?? 'unknown',
    name: attributeOf(childOf(element, 'target'), 'name'),
  };
}

function readTpm(devices: XmlElement | undefined): TpmDefinition | undefined {
  const tpm = devicesOf(devices, 'tpm')[0];
  if (tpm === undefined) return undefined;
  const backend = childOf(tpm, 'backend');
  return {
    model: attributeOf(tpm, 'model'),
    backend: attributeOf(backend, 'type'),
    version: attributeOf(backend, 'version'),
  };
}

/** libvirt's units: KiB when none is named; `KB` is 1000 and `K` or `KiB` is 1024. */
const UNIT_BYTES: Readonly<Record<string, number>> = {
  b: 1,
  bytes: 1,
  KB: 1e3,
  k: 2 ** 10,
  KiB: 2 ** 10,
  MB: 1e6,
  M: 2 ** 20,
  MiB: 2 ** 20,
  GB: 1e9,
  G: 2 ** 30,
  GiB: 2 ** 30,
  TB: 1e12,
  T: 2 ** 40,
  TiB: 2 ** 40,
};

function readMemory(domain: XmlElement, what: string): number {
  const element = childOf(domain, 'memory');
  const count = wholeNumber(required(textFrom(element), what, 'memory'), what, 'memory');
  const unit = attributeOf(element, 'unit') ?? 'KiB';
  const unitBytes = Object.hasOwn(UNIT_BYTES, unit) ? UNIT_BYTES[unit] : undefined;
  const bytes = count * (unitBytes ?? Number.NaN);
  if (Number.isSafeInteger(bytes)) return bytes;
  throw new Failure('usage_invalid', `read the definition of ${what}: its memory is ${count} ${unit}`);
}

function wholeNumber(text: string, what: string, field: string): number {
  const number = /^[0-9]{1,15}$/.test(text) ? Number(text) : Number.NaN;
  if (Number.isSafeInteger(number)) return number;
  throw new Failure(
    'usage_invalid',
    `read the definition of ${what}: its ${field} is ${JSON.stringify(text)}`,
  );
}

function textFrom(element: XmlElement | undefined): string | undefined {
  const text = element === undefined ? undefined : textOf(element);
  return text === '' ? undefined : text;
}

function required(value: string | undefined, what: string, field: string): string {
  if (value !== undefined && value !== '') return value;
  throw new Failure('usage_invalid', `read the definition of ${what}: it has no ${field}`);
}
