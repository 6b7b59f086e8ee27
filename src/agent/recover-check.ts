/** What must hold on this host before a recovery makes anything: names free, networks there, space enough. */
import { existsSync } from 'node:fs';
import { mkdir, statfs } from 'node:fs/promises';
import type { RecoverTask } from '#/control/orders.ts';
import { Failure } from '#/lib/failure.ts';
import type { Domain } from '#/libvirt/domain.ts';
import { hasLibvirtCode, LibvirtCode } from '#/libvirt/errors.ts';
import type { Libvirt } from '#/libvirt/libvirt.ts';
import { attributeOf, childOf, childrenOf, parseXml } from '#/libvirt/xml.ts';
import type { Adapted, TargetHost } from '#/recovery/adapt-definition.ts';
import { markIn } from '#/recovery/recovery-mark.ts';

/** Overlays start almost empty, but a guest that writes must not fill the file system at once. */
const HEADROOM_BYTES = 256 * 1024 * 1024;

export async function targetHost(libvirt: Libvirt): Promise<TargetHost> {
  const capabilities = parseXml(
    await libvirt.getCapabilities(),
    'the capabilities of this host',
    'capabilities',
  );
  const types = new Set<string>();
  for (const guest of childrenOf(capabilities, 'guest')) {
    const arch = childOf(guest, 'arch');
    if (arch === undefined || attributeOf(arch, 'name') !== hostArch()) continue;
    for (const domain of childrenOf(arch, 'domain')) types.add(attributeOf(domain, 'type') ?? '');
  }
  return { domainTypes: [...types], hasPath: (path) => path.startsWith('/') && existsSync(path) };
}

/** The VM that an earlier try of this very task defined, if it did. */
export async function ownDomain(libvirt: Libvirt, task: RecoverTask): Promise<Domain | undefined> {
  const domain = await found(libvirt.lookupDomainByName(task.name));
  if (domain === undefined) return undefined;
  const mark = markIn(await domain.getXml(['inactive']));
  return mark?.taskId === task.id ? domain : undefined;
}

/** Throws Failure already_exists, not_found, storage_full; changes nothing but making the storage directory. */
export async function checkTarget(task: RecoverTask, adapted: Adapted, libvirt: Libvirt): Promise<void> {
  if ((await found(libvirt.lookupDomainByName(task.name))) !== undefined) {
    throw new Failure('already_exists', `recover ${task.name}: this host has a VM of that name`, {
      hint: 'Recover under another name with --name, or remove the VM that is in the way.',
    });
  }
  if ((await found(libvirt.lookupDomainByUuid(adapted.uuid))) !== undefined) {
    throw new Failure(
      'already_exists',
      `recover ${task.name}: this host has a VM with its UUID ${adapted.uuid}`,
      {
        hint: 'It is another copy of the same VM: remove it, or recover as a test, which gets a UUID of its own.',
      },
    );
  }
  if (task.purpose === 'recovery') await checkNetworks(adapted, libvirt);
  await mkdir(task.storage_path, { recursive: true });
  const { bavail, bsize } = await statfs(task.storage_path);
  const pulled = task.purpose === 'recovery' ? (task.view.stored_bytes ?? 0) : 0;
  const needed = pulled + HEADROOM_BYTES;
  if (bavail * bsize >= needed) return;
  throw new Failure(
    'storage_full',
    `recover ${task.name}: ${task.storage_path} has ${bavail * bsize} bytes free and ${needed} are needed`,
    { hint: 'Make room there, or give the agent another storage_directory.' },
  );
}

async function checkNetworks(adapted: Adapted, libvirt: Libvirt): Promise<void> {
  const devices = childOf(parseXml(adapted.xml, 'the adapted definition', 'domain'), 'devices');
  const interfaces = devices === undefined ? [] : childrenOf(devices, 'interface');
  for (const element of interfaces) {
    if (attributeOf(element, 'type') !== 'network') continue;
    const name = attributeOf(childOf(element, 'source'), 'network') ?? '';
    const network = await found(libvirt.lookupNetworkByName(name));
    if (network === undefined) {
      throw new Failure('not_found', `recover: this host has no network ${name}`, {
        hint: "Define it, or map the VM's network to another with --network FROM=TO.",
      });
    }
    if (!(await network.isActive())) await network.start();
  }
}

async function found<T>(lookup: Promise<T>): Promise<T | undefined> {
  try {
    return await lookup;
  } catch (error) {
    if (hasLibvirtCode(error, LibvirtCode.noDomain, LibvirtCode.noNetwork)) return undefined;
    throw error;
  }
}

function hostArch(): string {
  return process.arch === 'arm64' ? 'aarch64' : 'x86_64';
}
