/** What a moment is made of, whichever kind it is. */
import type { Clock } from '#/lib/clock.ts';
import { Failure } from '#/lib/failure.ts';
import type { Domain } from '#/libvirt/domain.ts';
import { hasLibvirtCode, LibvirtCode } from '#/libvirt/errors.ts';
import type { Libvirt } from '#/libvirt/libvirt.ts';
import type { MomentRequest } from '#/replication/source.ts';
import type { DomainWatch } from './domain-watch.ts';
import type { VmTurns } from './vm-turns.ts';

export type LibvirtSourceOptions = {
  replicaId: string;
  vm: { uuid: string; name: string };
  /** The connection as it is now. Throws `unreachable` while there is none. */
  libvirt: () => Libvirt;
  watch: DomainWatch;
  turns: VmTurns;
  clock: Clock;
  /** Seen by QEMU under the same path, like all directories here. */
  scratchDirectory: string;
  runDirectory: string;
  tpmDirectory: string;
};

/** What a moment of either kind needs. */
export type MomentParts = {
  options: LibvirtSourceOptions;
  domain: Domain;
  request: MomentRequest;
  /** Ends the VM's turn. */
  endTurn: () => void;
  signal: AbortSignal;
};

/** Throws vm_unsupported when the host does not have the VM, `unreachable` when libvirt is away. */
export async function findDomain({ libvirt, vm }: LibvirtSourceOptions): Promise<Domain> {
  try {
    return await libvirt().lookupDomainByUuid(vm.uuid);
  } catch (error) {
    if (!hasLibvirtCode(error, LibvirtCode.noDomain)) throw error;
    throw new Failure('vm_unsupported', `VM ${vm.name} is not defined on this host`, {
      cause: error,
      hint: 'Define it again, or take its protection away.',
    });
  }
}
