/**
 * The copy of a VM that has yielded to another site, as a replica can be filled from it: powered off, and known to stay
 * so, since the start hook refuses it.
 */
import type { SeedTask } from '#/control/seed-tasks.ts';
import { Failure } from '#/lib/failure.ts';
import type { Domain } from '#/libvirt/domain.ts';
import { hasLibvirtCode, LibvirtCode } from '#/libvirt/errors.ts';
import type { Libvirt } from '#/libvirt/libvirt.ts';
import { isOff } from '#/agent/sign-of-life.ts';
import { readMark } from '#/agent/yield-copy.ts';
import type { Note } from '#/agent/step-log.ts';

export type OldCopy = { domain: Domain; yieldedMs: number };

/** Throws vm_unsupported, conflict when it has not yielded to the site that asks. */
export async function findOldCopy(libvirt: Libvirt, task: SeedTask): Promise<OldCopy> {
  let domain: Domain;
  try {
    domain = await libvirt.lookupDomainByUuid(task.vm_uuid);
  } catch (error) {
    if (!hasLibvirtCode(error, LibvirtCode.noDomain)) throw error;
    throw new Failure('vm_unsupported', `VM ${task.vm_name} is not defined on this host any more`, {
      cause: error,
    });
  }
  const { yielded } = await readMark(domain);
  if (yielded === undefined || yielded.epoch < task.epoch) {
    throw new Failure('conflict', `the copy of VM ${task.vm_name} has not yielded to epoch ${task.epoch}`);
  }
  return { domain, yieldedMs: yielded.atMs };
}

/**
 * Ends the QEMU of a copy that is paused: its disks are not at rest while it may be resumed. Its memory goes, and with
 * it what the guest had not written yet; its disks hold what any power failure would have left. Gently, so that QEMU
 * closes its images.
 */
export async function endPaused({ domain }: OldCopy, note: Note): Promise<void> {
  const before = await domain.getState();
  if (isOff(before)) {
    note('it was powered off already');
    return;
  }
  if (before.state !== 'paused') {
    throw new Failure('conflict', `VM ${domain.name} is ${before.state}: a copy that has yielded is paused`);
  }
  try {
    await domain.destroy(['graceful']);
  } catch (error) {
    if (hasLibvirtCode(error, LibvirtCode.operationInvalid)) return;
    // A QEMU that does not end by itself.
    if (!hasLibvirtCode(error, LibvirtCode.operationFailed, LibvirtCode.resourceBusy)) throw error;
    await domain.destroy();
  }
  note('it was paused, and was ended: the memory that it had then is gone');
}
