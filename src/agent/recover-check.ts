/** What must hold on this host before a recovery makes anything: names free, networks there, space enough. */
import { statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { RecoverTask } from '#/control/orders.ts';
import { Failure } from '#/lib/failure.ts';
import type { Domain } from '#/libvirt/domain.ts';
import { hasLibvirtCode, LibvirtCode } from '#/libvirt/errors.ts';
import type { Libvirt } from '#/libvirt/libvirt.ts';
import type { Network } from '#/libvirt/network.ts';
import type { Adapted } from '#/recovery/adapt-definition.ts';
import { markIn } from '#/recovery/recovery-mark.ts';

/** Overlays start almost empty, but a guest that writes must not fill the file system at once. */
const HEADROOM_BYTES = 256 * 1024 * 1024;

export function domainOf(libvirt: Libvirt, uuid: string): Promise<Domain | undefined> {
  return found(libvirt.lookupDomainByUuid(uuid));
}

/** The VM that an earlier try of this very task defined, if it did; also when somebody has renamed it since. */
export async function ownDomain(
  libvirt: Libvirt,
  task: RecoverTask,
  uuid: string,
): Promise<Domain | undefined> {
  const domain = await domainOf(libvirt, uuid);
  if (domain === undefined) return undefined;
  const mark = markIn(await domain.getXml(['inactive']));
  return mark?.taskId === task.id ? domain : undefined;
}

/** Throws Failure already_exists, not_found, storage_full, storage_io; changes nothing. */
export async function checkTarget(task: RecoverTask, adapted: Adapted, libvirt: Libvirt): Promise<void> {
  const [sameName, sameUuid] = await Promise.all([
    found(libvirt.lookupDomainByName(task.name)),
    found(libvirt.lookupDomainByUuid(adapted.uuid)),
    networksOf(task, adapted, libvirt),
    checkSpace(task),
  ]);
  if (sameName !== undefined) {
    throw new Failure('already_exists', `recover ${task.name}: this host has a VM of that name`, {
      hint: 'Recover under another name with --name, or remove the VM that is in the way.',
    });
  }
  if (sameUuid === undefined) return;
  throw new Failure(
    'already_exists',
    `recover ${task.name}: this host has a VM with its UUID ${adapted.uuid}, named ${sameUuid.name}`,
    {
      hint: 'It is another copy of the same VM: remove it, or recover as a test, which gets a UUID of its own.',
    },
  );
}

/** Starts the networks of the VM that are there and not active. A test's own network is none of them. */
export async function startNetworks(task: RecoverTask, adapted: Adapted, libvirt: Libvirt): Promise<void> {
  for (const network of await networksOf(task, adapted, libvirt)) {
    if (!(await network.isActive())) await network.start();
  }
}

async function networksOf(task: RecoverTask, adapted: Adapted, libvirt: Libvirt): Promise<Network[]> {
  if (task.purpose === 'test') return [];
  return await Promise.all(
    adapted.networks.map(async (name) => {
      const network = await found(libvirt.lookupNetworkByName(name));
      if (network !== undefined) return network;
      throw new Failure('not_found', `recover ${task.name}: this host has no network ${name}`, {
        hint: "Define it, or map the VM's network to another with --network FROM=TO.",
      });
    }),
  );
}

async function checkSpace(task: RecoverTask): Promise<void> {
  const { bavail, bsize } = await spaceAt(task.storage_path);
  const pulled = task.purpose === 'recovery' ? (task.view.stored_bytes ?? 0) : 0;
  const needed = pulled + HEADROOM_BYTES;
  if (bavail * bsize >= needed) return;
  throw new Failure(
    'storage_full',
    `recover ${task.name}: ${task.storage_path} has ${bavail * bsize} bytes free and ${needed} are needed`,
    { hint: 'Make room there, or give the agent another storage_directory.' },
  );
}

/** Of the file system that the directory is on, or will be once it is made. */
async function spaceAt(path: string): Promise<{ bavail: number; bsize: number }> {
  try {
    return await statfs(path);
  } catch (error) {
    const isMissing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    if (isMissing && dirname(path) !== path) return await spaceAt(dirname(path));
    throw new Failure('storage_io', `read how much room ${path} has`, { cause: error });
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
