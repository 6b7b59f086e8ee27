/** What the tasks of a handover work with, and the VM they are about. */
import type { ReplicationReport } from '#/control/reports.ts';
import type { Clock } from '#/lib/clock.ts';
import { Failure, failureIn } from '#/lib/failure.ts';
import type { DomainState } from '#/libvirt/domain-state.ts';
import type { Domain } from '#/libvirt/domain.ts';
import { hasLibvirtCode, LibvirtCode } from '#/libvirt/errors.ts';
import type { Libvirt } from '#/libvirt/libvirt.ts';
import type { CycleResult } from '#/replication/cycle.ts';
import type { StepLog } from '#/agent/step-log.ts';
import type { HandoverStates } from './handover-state.ts';

/** The replication of this host's VMs, as a last cycle needs it. */
export type Replication = {
  /** Undefined while the orders have no protection with that replica. */
  report(replicaId: string): ReplicationReport | undefined;
  /** Resolves with the first cycle that begins after this call and comes to its point. Throws not_found, cancelled. */
  nextCycle(replicaId: string, signal: AbortSignal): Promise<CycleResult>;
};

export type HandoverContext = {
  libvirt: Libvirt;
  clock: Clock;
  states: HandoverStates;
  replication: Replication;
  steps: StepLog;
};

export type HandoverVm = { vm_uuid: string; vm_name: string };

/** Throws not_found when this host does not have it. */
export async function findVm(libvirt: Libvirt, vm: HandoverVm): Promise<Domain> {
  try {
    return await libvirt.lookupDomainByUuid(vm.vm_uuid);
  } catch (error) {
    if (!hasLibvirtCode(error, LibvirtCode.noDomain)) throw error;
    throw new Failure('not_found', `VM ${vm.vm_name} is not defined on this host any more`, { cause: error });
  }
}

export function isOff({ state }: DomainState): boolean {
  return state === 'shutoff' || state === 'crashed';
}

/** What ends a task whose libvirt is away: it is repeated with the next connection. */
export function isConnectionLost(error: unknown): boolean {
  const code = failureIn(error)?.code;
  return code === 'unreachable' || code === 'cancelled' || code === 'protocol_corrupt';
}

/** With its memory in a file, the disks alone are not all of a VM. Throws conflict. */
export function refuseSaved({ state, reason }: DomainState, vm: HandoverVm): void {
  if (state !== 'shutoff' || reason !== 'saved') return;
  throw new Failure('conflict', `VM ${vm.vm_name} is saved to a file, with what it has not written yet`, {
    hint: `Start it so that it can be shut down, or give up its saved state: virsh managedsave-remove ${vm.vm_name}`,
  });
}
