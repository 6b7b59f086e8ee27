/**
 * What cannot be protected, and why, in a sentence for the person who asked. Read from the definition and the first
 * bytes of the images, so that it is said before anything starts.
 */
import { remembered } from '#/lib/remembered.ts';
import type { DiskDefinition } from '#/libvirt/domain-disk-xml.ts';
import type { DomainDefinition } from '#/libvirt/domain-xml.ts';
import { attributeOf, childrenOf, parseXml } from '#/libvirt/xml.ts';
import { VERSION_WITH_BITMAPS, type Qcow2Header } from './qcow2-header.ts';

/** True for what is no disk of the VM's own data: CD-ROMs, floppies, read-only and empty drives. */
export function isSkipped(disk: DiskDefinition): boolean {
  const isDrive = disk.device === 'cdrom' || disk.device === 'floppy';
  return isDrive || disk.isReadOnly || disk.source.kind === 'none';
}

/** Undefined when the disk can be replicated. `header` is undefined when its image could not be read as qcow2. */
export function diskRefusal(disk: DiskDefinition, header: Qcow2Header | undefined): string | undefined {
  const name = `Disk ${disk.target}`;
  const general = generalRefusal(disk, name);
  if (general !== undefined) return general;
  if (disk.source.kind !== 'file' && disk.source.kind !== 'block')
    return `${name} is not a file or a volume.`;
  if (disk.format !== 'qcow2') {
    const format = disk.format ?? 'of an unnamed format';
    return `${name} is ${format}, which cannot track changes; convert it to qcow2 with: qemu-img convert -O qcow2.`;
  }
  if (header === undefined) return `${name}: ${disk.source.path} cannot be read as a qcow2 image.`;
  if (header.version < VERSION_WITH_BITMAPS) {
    return `${name} is qcow2 of compat 0.10, which cannot track changes; run: qemu-img amend -o compat=1.1.`;
  }
  return undefined;
}

function generalRefusal(disk: DiskDefinition, name: string): string | undefined {
  if (disk.device === 'lun')
    return `${name} passes a LUN of the host through, whose writes nobody here can see.`;
  if (disk.isShareable)
    return `${name} is shared with other VMs, which write to it without this one's knowledge.`;
  if (disk.isTransient) return `${name} is transient: what is written to it is meant to be lost.`;
  if (disk.isEncrypted) return `${name} is encrypted by QEMU, whose key would have to be at the other site.`;
  const { source } = disk;
  if (source.kind === 'network')
    return `${name} is a network disk (${source.protocol}), which is not supported yet.`;
  if (source.kind === 'volume') {
    return `${name} is volume ${source.volume} of pool ${source.pool}; define it by its path instead.`;
  }
  if (source.kind === 'other' && source.type.startsWith('vhost')) {
    return `${name} is served over ${source.type}, past QEMU's block layer, so that changes cannot be tracked.`;
  }
  if (source.kind === 'other') return `${name} is of type ${source.type}, which is not supported.`;
  if (source.kind === 'dir') return `${name} is a directory of the host.`;
  return undefined;
}

/** Why the VM as a whole cannot be protected; empty when it can. */
export function vmRefusals(definition: DomainDefinition, xml: string, isPersistent: boolean): string[] {
  const refusals: string[] = [];
  if (!isPersistent) {
    refusals.push('The VM is transient: nothing is left of its definition once it stops. Define it first.');
  }
  for (const { mode, kind } of definition.hostDevices) {
    refusals.push(`A host device (${mode}, ${kind}) is passed through, which no other host has.`);
  }
  if (isColo(xml)) {
    refusals.push('The VM is one of a fault-tolerant COLO pair, which replicates itself already.');
  }
  if (!definition.disks.some((disk) => !isSkipped(disk))) refusals.push('The VM has no disk to replicate.');
  return refusals;
}

/** libvirt has no word for COLO: it is set up by arguments that are handed through to QEMU. */
const isColo = remembered((xml) => {
  const domain = parseXml(xml, 'the definition of a VM', 'domain');
  const commandLines = childrenOf(domain).filter((element) => element.localName === 'commandline');
  return commandLines
    .flatMap((line) => childrenOf(line))
    .some((arg) => COLO_ARGUMENT.test(attributeOf(arg, 'value') ?? ''));
});

const COLO_ARGUMENT = /\bcolo-compare\b|\bx-colo\b|driver=replication|filter-rewriter/;
