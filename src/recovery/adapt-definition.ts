/**
 * Makes a VM's definition fit the host that it is recovered on.
 *
 * The definition is a guest's and a peer's bytes: it is parsed through the XML gate, and nothing of it is executed or
 * opened here. What we do not know about stays as it is, in its place. What cannot work at the target is taken out and
 * said (a note), or refused when the VM could not run without it. Pure.
 */
import type { EpochClaim } from '#/lib/epoch-claim.ts';
import { Failure } from '#/lib/failure.ts';
import {
  appendCopy,
  appendElement,
  attributeOf,
  childOf,
  childrenOf,
  ensureElement,
  parseXml,
  removeElement,
  serializeXml,
  setAttributes,
  setText,
  textOf,
} from '#/libvirt/xml.ts';
import type { XmlElement } from '#/libvirt/xml.ts';
import { adaptHostParts, adaptIdentity } from './adapt-host-parts.ts';
import { adaptInterfaces, macsIn, networksIn } from './adapt-interfaces.ts';
import { EPOCH_NAMESPACE, epochMark } from './epoch-mark.ts';
import { HOME_NAMESPACE, HomeNetworks, type Journey } from './home-networks.ts';
import { RECOVERY_NAMESPACE, recoveryMark, type RecoveryMark } from './recovery-mark.ts';

export type AdaptedDisk = {
  key: string;
  overlayPath: string;
  /** NBD export of the recovery point on a Unix socket. */
  socketPath: string;
  exportName: string;
};

export type TargetHost = {
  /** Whether this host has a file or directory at the path. */
  hasPath(path: string): boolean;
  /** Domain types that libvirt offers for the guest's architecture, such as `kvm` and `qemu`. */
  domainTypes: readonly string[];
  /** The emulators that libvirt knows for it. */
  emulators: readonly string[];
};

/** What a disk does on errors; `undefined` is libvirt's own choice. */
export type ErrorPolicies = { error_policy: string | undefined; rerror_policy: string | undefined };

/** `one` network for all interfaces, or for `each` network of this host its counterpart. */
export type Isolation =
  | { kind: 'one'; network: string }
  | { kind: 'each'; counterpart: (network: string) => string };

export type Adaptation = {
  name: string;
  /** Absent: the VM keeps its own. */
  uuid?: string;
  mark: RecoveryMark;
  /** By which the VM runs here; a test has none. */
  claim?: EpochClaim;
  disks: readonly AdaptedDisk[];
  /** Protected site's network to this site's; `defaultNetwork` takes what is not named. */
  networks: Readonly<Record<string, string>>;
  defaultNetwork: string | null;
  /** Of a recovery for production: what its interfaces were on is remembered by site, and used when it comes back. */
  journey?: Journey;
  /** Of a test, which must not meet production: interfaces go there only, with a new MAC address each. */
  isolated?: Isolation;
  /** Where the carried firmware variables lie on this host, when the VM has any. */
  nvramPath?: string;
  /** libvirt writes there what the guest says on its first serial port. */
  consoleLogPath?: string;
};

export type Adapted = {
  xml: string;
  uuid: string;
  /** The names of this host's networks that it is connected to. */
  networks: string[];
  /** The MAC addresses that its interfaces had at the protected site, in their order. */
  macs: string[];
  /** What its disks did on errors on the protected site, and do again once they stand alone, by their keys. */
  policies: Map<string, ErrorPolicies>;
  /** What was taken out or changed beyond disks, networks and names, in whole sentences. */
  notes: string[];
};

/** Throws Failure vm_unsupported when the VM cannot run here, usage_invalid when the definition is no definition. */
export function adaptDefinition(definition: string, adaptation: Adaptation, host: TargetHost): Adapted {
  const domain = parseXml(definition, 'the definition of a recovered VM', 'domain');
  const notes: string[] = [];
  domain.removeAttribute('id');
  adaptType(domain, host, notes);
  setText(ensureElement(domain, 'name'), adaptation.name);
  if (adaptation.uuid !== undefined) setText(ensureElement(domain, 'uuid'), adaptation.uuid);
  const uuid = textOf(domain, 'uuid') ?? '';
  if (!UUID.test(uuid)) throw refuseDefinition(adaptation.name, 'it has no UUID');
  adaptIdentity(domain, uuid);
  for (const label of childrenOf(domain, 'seclabel')) removeElement(label);
  adaptBoot(domain, adaptation, host, notes);
  const devices = childOf(domain, 'devices');
  if (devices === undefined) throw refuseDefinition(adaptation.name, 'it has no devices');
  const policies = adaptDisks(devices, adaptation, notes);
  const macs = macsIn(devices);
  const home = HomeNetworks.of(domain);
  adaptInterfaces(devices, { ...adaptation, home }, notes);
  adaptHostParts(domain, devices, host, notes);
  const serial = childOf(devices, 'serial') ?? childOf(devices, 'console');
  if (serial !== undefined && adaptation.consoleLogPath !== undefined) {
    appendElement(serial, 'log', { file: adaptation.consoleLogPath, append: 'off' });
  }
  writeMarks(domain, adaptation, home);
  return { xml: serializeXml(domain), uuid, networks: networksIn(devices), macs, policies, notes };
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

function refuseDefinition(name: string, why: string): Failure {
  return new Failure('usage_invalid', `adapt the definition of ${name}: ${why}`);
}

function adaptType(domain: XmlElement, host: TargetHost, notes: string[]): void {
  const type = domain.getAttribute('type') ?? '';
  if (host.domainTypes.includes(type)) return;
  if (type === 'kvm' && host.domainTypes.includes('qemu')) {
    domain.setAttribute('type', 'qemu');
    notes.push('This host has no KVM, so the VM runs under emulation, much slower.');
    return;
  }
  throw new Failure('vm_unsupported', `adapt definition: this host cannot run domains of type '${type}'`, {
    hint: `It offers ${host.domainTypes.join(', ') || 'none'} for the VM's architecture.`,
  });
}

function adaptBoot(domain: XmlElement, adaptation: Adaptation, host: TargetHost, notes: string[]): void {
  const os = childOf(domain, 'os');
  if (os === undefined) return;
  for (const name of ['kernel', 'initrd', 'dtb']) {
    const path = textOf(os, name);
    if (path === undefined || path === '' || host.hasPath(path)) continue;
    throw new Failure(
      'vm_unsupported',
      `adapt definition: the VM boots ${name} ${path}, which this host has not`,
      {
        hint: `Put the file at ${path} on this host, or let the VM boot from its disk.`,
      },
    );
  }
  const nvram = childOf(os, 'nvram');
  if (adaptation.nvramPath !== undefined) setText(ensureElement(os, 'nvram'), adaptation.nvramPath);
  else if (nvram !== undefined) setText(nvram, '');
  const loader = childOf(os, 'loader');
  const loaderPath = textOf(os, 'loader') ?? '';
  if (loader === undefined || loaderPath === '' || host.hasPath(loaderPath)) return;
  if ((attributeOf(os, 'firmware') ?? '') === '') {
    throw new Failure(
      'vm_unsupported',
      `adapt definition: the VM's firmware ${loaderPath} is not on this host`,
      {
        hint: `Install the package that brings ${loaderPath}.`,
      },
    );
  }
  removeElement(loader);
  nvram?.removeAttribute('template');
  notes.push(`The firmware ${loaderPath} is not on this host, so libvirt chooses one.`);
}

/** What tells where a disk's bytes are; all else about a disk (bus, serial, boot order, tuning) stays. */
const SOURCE_PARTS = [
  'source',
  'backingStore',
  'mirror',
  'auth',
  'encryption',
  'transient',
  'shareable',
  'readonly',
];

function adaptDisks(
  devices: XmlElement,
  adaptation: Adaptation,
  notes: string[],
): Map<string, ErrorPolicies> {
  const policies = new Map<string, ErrorPolicies>();
  const wanted = new Map(adaptation.disks.map((disk) => [disk.key, disk]));
  if (wanted.size < adaptation.disks.length)
    throw refuseDefinition(adaptation.name, 'the point names a disk twice');
  for (const element of childrenOf(devices, 'disk')) {
    const key = attributeOf(childOf(element, 'target'), 'dev') ?? '';
    const disk = wanted.get(key);
    wanted.delete(key);
    if (disk !== undefined) {
      const driver = childOf(element, 'driver');
      policies.set(key, {
        error_policy: attributeOf(driver, 'error_policy'),
        rerror_policy: attributeOf(driver, 'rerror_policy'),
      });
      pointAtOverlay(element, disk);
      continue;
    }
    const device = element.getAttribute('device') ?? 'disk';
    if (device === 'cdrom' || device === 'floppy') {
      for (const name of ['source', 'backingStore']) removeChildren(element, name);
      continue;
    }
    removeElement(element);
    notes.push(`Disk ${key} is not part of the replica, so the VM starts without it.`);
  }
  const [missing] = wanted.keys();
  if (missing === undefined) return policies;
  throw new Failure(
    'vm_unsupported',
    `adapt definition: it names no disk ${missing}, which the recovery point has`,
  );
}

/**
 * A guest that reads while the replica's server is restarted must wait, not see an error: its disks stop the VM on
 * errors, and the agent resumes it, until it stands alone.
 */
function pointAtOverlay(element: XmlElement, disk: AdaptedDisk): void {
  for (const name of SOURCE_PARTS) removeChildren(element, name);
  setAttributes(element, { type: 'file', device: 'disk', rawio: undefined, sgio: undefined });
  const policies = { error_policy: 'stop', rerror_policy: 'stop' };
  setAttributes(ensureElement(element, 'driver'), { name: 'qemu', type: 'qcow2', ...policies });
  appendElement(element, 'source', { file: disk.overlayPath });
  const backing = appendElement(element, 'backingStore', { type: 'network' });
  appendElement(backing, 'format', { type: 'raw' });
  const source = appendElement(backing, 'source', { protocol: 'nbd', name: disk.exportName });
  appendElement(source, 'host', { transport: 'unix', socket: disk.socketPath });
  appendElement(backing, 'backingStore');
}

const OWN_NAMESPACES: readonly string[] = [RECOVERY_NAMESPACE, EPOCH_NAMESPACE, HOME_NAMESPACE];

/** The marks of the protected site's copy say nothing of this one; what networks it was on is handed on. */
function writeMarks(domain: XmlElement, { mark, claim }: Adaptation, home: HomeNetworks): void {
  const metadata = ensureElement(domain, 'metadata');
  for (const old of childrenOf(metadata)) {
    if (OWN_NAMESPACES.includes(old.namespaceURI ?? '')) removeElement(old);
  }
  appendCopy(metadata, recoveryMark(mark));
  if (claim !== undefined) appendCopy(metadata, epochMark({ claim, yielded: undefined }));
  if (home.element !== undefined) appendCopy(metadata, home.element);
}

function removeChildren(element: XmlElement, name: string): void {
  for (const found of childrenOf(element, name)) removeElement(found);
}
