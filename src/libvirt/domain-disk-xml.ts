/** Disks in a domain's definition, with their backing images as far as libvirt lists them. */
import { Failure } from '#/lib/failure.ts';
import { attributeOf, childOf, childrenOf } from './xml.ts';
import type { XmlElement } from './xml.ts';

/** Where the bytes are. `none` is an empty drive. */
export type DiskSource =
  | { kind: 'none' }
  | { kind: 'file' | 'block' | 'dir'; path: string }
  | {
      kind: 'network';
      protocol: string;
      /** The export, image or object. */
      name: string | undefined;
      hosts: {
        transport: string;
        name: string | undefined;
        port: string | undefined;
        socketPath: string | undefined;
      }[];
    }
  | { kind: 'volume'; pool: string; volume: string }
  | { kind: 'other'; type: string };

export type DiskImage = {
  source: DiskSource;
  /** `qcow2`, `raw`, ...; `undefined` where the definition does not say. */
  format: string | undefined;
};

export type DiskDevice = 'disk' | 'cdrom' | 'floppy' | 'lun';

export type DiskDefinition = DiskImage & {
  /** `vda`. */
  target: string;
  bus: string | undefined;
  device: DiskDevice;
  isReadOnly: boolean;
  isShareable: boolean;
  isTransient: boolean;
  isEncrypted: boolean;
  /** A qcow2's bytes are in a file of their own. */
  hasDataStore: boolean;
  serial: string | undefined;
  alias: string | undefined;
  /** The images below, nearest first. Empty also when libvirt has not looked (a domain that is not running). */
  backingChain: DiskImage[];
};

/** A chain longer than this is refused by libvirt itself. */
const CHAIN_MAX = 200;

/** `what` names the domain in errors. */
export function readDisk(disk: XmlElement, what: string): DiskDefinition {
  const target = attributeOf(childOf(disk, 'target'), 'dev');
  if (target === undefined || target === '') {
    throw new Failure('usage_invalid', `read the definition of ${what}: a disk has no target`);
  }
  const source = childOf(disk, 'source');
  return {
    target,
    bus: attributeOf(childOf(disk, 'target'), 'bus'),
    device: readDevice(attributeOf(disk, 'device') ?? 'disk', `disk ${target} of ${what}`),
    source: readSource(disk),
    format: attributeOf(childOf(disk, 'driver'), 'type'),
    isReadOnly: childOf(disk, 'readonly') !== undefined,
    isShareable: childOf(disk, 'shareable') !== undefined,
    isTransient: childOf(disk, 'transient') !== undefined,
    isEncrypted: [disk, source].some((e) => e !== undefined && childOf(e, 'encryption') !== undefined),
    hasDataStore: source !== undefined && childOf(source, 'dataStore') !== undefined,
    serial: childOf(disk, 'serial')?.textContent?.trim(),
    alias: attributeOf(childOf(disk, 'alias'), 'name'),
    backingChain: readChain(disk),
  };
}

/** The source of a `<disk>`, `<backingStore>` or `<mirror>`: its `type` says which attributes count. */
export function readSource(image: XmlElement): DiskSource {
  const type = attributeOf(image, 'type') ?? 'file';
  const source = childOf(image, 'source');
  if (source === undefined) return { kind: 'none' };
  switch (type) {
    case 'file':
      return pathSource('file', attributeOf(source, 'file'));
    case 'block':
      return pathSource('block', attributeOf(source, 'dev'));
    case 'dir':
      return pathSource('dir', attributeOf(source, 'dir'));
    case 'volume': {
      const pool = attributeOf(source, 'pool');
      const volume = attributeOf(source, 'volume');
      return pool === undefined || volume === undefined ? { kind: 'none' } : { kind: 'volume', pool, volume };
    }
    case 'network':
      return {
        kind: 'network',
        protocol: attributeOf(source, 'protocol') ?? 'unknown',
        name: attributeOf(source, 'name'),
        hosts: childrenOf(source, 'host').map((host) => ({
          transport: attributeOf(host, 'transport') ?? 'tcp',
          name: attributeOf(host, 'name'),
          port: attributeOf(host, 'port'),
          socketPath: attributeOf(host, 'socket'),
        })),
      };
    default:
      return { kind: 'other', type };
  }
}

function pathSource(kind: 'file' | 'block' | 'dir', path: string | undefined): DiskSource {
  return path === undefined || path === '' ? { kind: 'none' } : { kind, path };
}

function readDevice(device: string, what: string): DiskDevice {
  if (device === 'disk' || device === 'cdrom' || device === 'floppy' || device === 'lun') return device;
  throw new Failure('usage_invalid', `read the definition of ${what}: it is a ${JSON.stringify(device)}`);
}

/** `<backingStore>` holds the next one; an empty one ends the chain. */
function readChain(disk: XmlElement): DiskImage[] {
  const chain: DiskImage[] = [];
  let image = childOf(disk, 'backingStore');
  while (image !== undefined && childOf(image, 'source') !== undefined && chain.length < CHAIN_MAX) {
    chain.push({ source: readSource(image), format: attributeOf(childOf(image, 'format'), 'type') });
    image = childOf(image, 'backingStore');
  }
  return chain;
}
