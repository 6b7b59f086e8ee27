/**
 * The VMs of this host as the manager is told of them, with a sentence for everything that keeps one from being
 * protected. Looked at anew when libvirt tells of a change, and now and then.
 */
import { stat } from 'node:fs/promises';
import type { Hardware } from '#/control/hardware.ts';
import type { InterfaceReport, VmReport } from '#/control/reports.ts';
import { failureIn } from '#/lib/failure.ts';
import type { DiskDefinition, DiskSource } from '#/libvirt/domain-disk-xml.ts';
import type { DomainDefinition } from '#/libvirt/domain-xml.ts';
import type { Domain } from '#/libvirt/domain.ts';
import type { Libvirt } from '#/libvirt/libvirt.ts';
import { readDefinition, readMark } from './definitions.ts';
import { headerOf } from './protected-disks.ts';
import { diskRefusal, isSkipped, vmRefusals } from './refusals.ts';

/** What a report holds. */
const VMS_MAX = 10_000;
const DISKS_MAX = 256;
const NETWORKS_MAX = 64;
const REFUSALS_MAX = 64;
const TEXT_LENGTH_MAX = 4096;
const SECTOR_BYTES = 512;

/** A VM that goes away while it is looked at is left out. */
export async function readInventory(libvirt: Libvirt): Promise<VmReport[]> {
  const vms: VmReport[] = [];
  for (const domain of (await libvirt.listDomains()).slice(0, VMS_MAX)) {
    try {
      vms.push(await readVm(domain));
    } catch (error) {
      if (failureIn(error)?.retry === 'reconnect' || failureIn(error) === undefined) throw error;
    }
  }
  return vms;
}

async function readVm(domain: Domain): Promise<VmReport> {
  const [xml, state, isPersistent] = await Promise.all([
    domain.getXml(),
    domain.getState(),
    domain.isPersistent(),
  ]);
  const definition = readDefinition(xml);
  const disks: VmReport['disks'] = [];
  for (const disk of definition.disks.slice(0, DISKS_MAX)) {
    if (!isSkipped(disk)) disks.push(await readDisk(disk));
  }
  return {
    uuid: definition.uuid,
    name: definition.name,
    state: state.state,
    memory_bytes: definition.memoryBytes,
    vcpu_count: definition.vcpus,
    recovered_by_task: readMark(xml)?.taskId ?? null,
    disks,
    networks: networksOf(definition),
    interfaces: interfacesOf(definition),
    hardware: hardwareOf(definition),
    refusals: vmRefusals(definition, xml, isPersistent).slice(0, REFUSALS_MAX),
  };
}

async function readDisk(disk: DiskDefinition): Promise<VmReport['disks'][number]> {
  const header = await headerOf(disk);
  const file = await fileLengths(disk.source);
  return {
    key: disk.target,
    bytes: header?.diskBytes ?? file?.bytes ?? 0,
    ...(file === undefined ? {} : { allocated_bytes: file.allocatedBytes }),
    format: disk.format ?? 'unknown',
    path: placeOf(disk.source).slice(0, TEXT_LENGTH_MAX),
    refusal: diskRefusal(disk, header) ?? null,
  };
}

function networksOf({ interfaces }: DomainDefinition): string[] {
  const names = interfaces.map(({ source }) => source).filter((source) => source !== undefined);
  return [...new Set(names)].slice(0, NETWORKS_MAX);
}

function interfacesOf({ interfaces }: DomainDefinition): InterfaceReport[] {
  return interfaces
    .flatMap(({ mac, source }) =>
      mac === undefined ? [] : [{ mac, network: source ?? null, addresses: [] }],
    )
    .slice(0, NETWORKS_MAX);
}

/** What libvirt gives a VM that names no model: it starts anywhere, and only then shows as checked. */
const UNNAMED_MODELS: readonly (string | undefined)[] = ['qemu64', 'qemu32'];

function hardwareOf(definition: DomainDefinition): Hardware {
  const { arch, cpuMode, cpuModel, firmware, isCpuChecked, machine, tpm } = definition;
  return {
    arch: arch ?? null,
    machine: machine ?? null,
    cpu_mode: cpuMode ?? null,
    // A model that nobody checks, or that stands for none having been named, keeps it from no host.
    cpu_model: isCpuChecked && !UNNAMED_MODELS.includes(cpuModel) ? (cpuModel ?? null) : null,
    firmware: firmware.kind,
    is_secure_boot: firmware.isSecureBoot,
    // Another kind of TPM is taken out of the definition when it is recovered.
    has_tpm: tpm?.backend === 'emulator',
  };
}

/** A file that is not there has no lengths; its disk is refused for it. */
async function fileLengths(
  source: DiskSource,
): Promise<{ bytes: number; allocatedBytes: number } | undefined> {
  if (source.kind !== 'file') return undefined;
  try {
    const { size, blocks } = await stat(source.path);
    return { bytes: size, allocatedBytes: blocks * SECTOR_BYTES };
  } catch (error) {
    if (error instanceof Error && 'code' in error) return undefined;
    throw error;
  }
}

function placeOf(source: DiskSource): string {
  switch (source.kind) {
    case 'file':
    case 'block':
    case 'dir':
      return source.path;
    case 'network':
      return `${source.protocol}:${source.name ?? ''}`;
    case 'volume':
      return `${source.pool}/${source.volume}`;
    case 'other':
      return source.type;
    case 'none':
      return '';
  }
}
