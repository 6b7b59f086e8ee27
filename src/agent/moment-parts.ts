/** What a moment is made of, whichever kind it is. */
import type { Clock } from '#/lib/clock.ts';
import { Failure } from '#/lib/failure.ts';
import type { Domain } from '#/libvirt/domain.ts';
import { hasLibvirtCode, LibvirtCode } from '#/libvirt/errors.ts';
import type { DomainStateName } from '#/libvirt/domain-state.ts';
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

/**
 * What a source knows from its last moment. It spares questions and decides nothing: what is asked for by it is named,
 * and libvirt refuses what is not so.
 */
export type SourceMemory = {
  found?: { libvirt: Libvirt; domain: Domain };
  /** The checkpoint made last, whose name is nobody else's, and the targets that it tracks. */
  checkpoint?: { name: string; targets: string[] };
  /** The directory for scratch is there, and nothing of an earlier moment in it. */
  isScratchClean: boolean;
};

/** What a moment of either kind needs. */
export type MomentParts = {
  options: LibvirtSourceOptions;
  memory: SourceMemory;
  domain: Domain;
  request: MomentRequest;
  /** Ends the VM's turn. */
  endTurn: () => void;
  signal: AbortSignal;
};

/**
 * Looked up once for each connection: libvirt finds it by its UUID in every call. Throws vm_unsupported when the host
 * does not have the VM, `unreachable` when libvirt is away.
 */
export async function findDomain({
  options,
  memory,
}: Pick<MomentParts, 'options' | 'memory'>): Promise<Domain> {
  const libvirt = options.libvirt();
  if (memory.found?.libvirt === libvirt) return memory.found.domain;
  try {
    const domain = await libvirt.lookupDomainByUuid(options.vm.uuid);
    memory.found = { libvirt, domain };
    return domain;
  } catch (error) {
    throw notDefined(options, error) ?? error;
  }
}

/** The domain with its state; throws as `findDomain`. */
export async function findState(
  parts: Pick<MomentParts, 'options' | 'memory'>,
): Promise<{ domain: Domain; state: DomainStateName }> {
  const domain = await findDomain(parts);
  try {
    return { domain, state: (await domain.getState()).state };
  } catch (error) {
    delete parts.memory.found;
    throw notDefined(parts.options, error) ?? error;
  }
}

function notDefined({ vm }: LibvirtSourceOptions, error: unknown): Failure | undefined {
  if (!hasLibvirtCode(error, LibvirtCode.noDomain)) return undefined;
  return new Failure('vm_unsupported', `VM ${vm.name} is not defined on this host`, {
    cause: error,
    hint: 'Define it again, or take its protection away.',
  });
}
