/** What the tasks on a guest need of the agent that carries them out. */
import type { Clock } from '#/lib/clock.ts';
import { Failure } from '#/lib/failure.ts';
import type { Domain } from '#/libvirt/domain.ts';
import { hasLibvirtCode, LibvirtCode } from '#/libvirt/errors.ts';
import type { Libvirt } from '#/libvirt/libvirt.ts';
import type { RecoveryStates } from '#/agent/recovery-state.ts';
import type { StepLog } from '#/agent/step-log.ts';

export type GuestContext = {
  libvirt: Libvirt;
  clock: Clock;
  /** Of the recoveries of this host: what a test's interfaces were at the protected site, and who routes for it. */
  states: RecoveryStates;
  steps: StepLog;
};

/** Throws Failure not_found when the VM is not here any more. */
export async function domainOf(
  { vm_uuid: uuid, vm_name: name }: { vm_uuid: string; vm_name: string },
  { libvirt }: Pick<GuestContext, 'libvirt'>,
): Promise<Domain> {
  try {
    return await libvirt.lookupDomainByUuid(uuid);
  } catch (error) {
    if (!hasLibvirtCode(error, LibvirtCode.noDomain)) throw error;
    throw new Failure('not_found', `this host has no VM ${name} (${uuid})`, { cause: error });
  }
}
