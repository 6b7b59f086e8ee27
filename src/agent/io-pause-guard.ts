/**
 * Resumes recovered VMs that were stopped because they could not read from the replica.
 *
 * While a VM depends on a served recovery point, its disks stop it on errors (adapt-definition.ts): a restart of the
 * replication server is a pause for the guest and never an I/O error. A VM is resumed as long as it depends on the
 * replica, whether a task is under way or not, since a test stays for as long as people look at it.
 */
import type { Clock } from '#/lib/clock.ts';
import { failureIn } from '#/lib/failure.ts';
import { hasLibvirtCode, LibvirtCode } from '#/libvirt/errors.ts';
import type { Libvirt } from '#/libvirt/libvirt.ts';
import type { RecoveryStates } from './recovery-state.ts';

/** A guest whose server is still away is stopped again at once, so this is also how often it tries. */
const LOOK_MS = 500;

/** Runs until the signal aborts. While libvirt is away, nothing can be done and nothing is. */
export async function guardIoPauses(
  parts: { libvirt: () => Libvirt; states: RecoveryStates; clock: Clock; resumed: (name: string) => void },
  signal: AbortSignal,
): Promise<void> {
  const { libvirt, states, clock, resumed } = parts;
  while (!signal.aborted) {
    const dependent = new Set(states.dependent().map(({ uuid }) => uuid));
    try {
      const connection = libvirt();
      if (dependent.size > 0) await resumeStopped(connection, dependent, resumed);
    } catch (error) {
      if (failureIn(error) === undefined) throw error;
    }
    await clock.sleep(LOOK_MS, signal).catch(() => undefined);
  }
}

async function resumeStopped(
  libvirt: Libvirt,
  uuids: ReadonlySet<string>,
  resumed: (name: string) => void,
): Promise<void> {
  for (const domain of await libvirt.listDomains(['paused'])) {
    if (!uuids.has(domain.uuid)) continue;
    try {
      if ((await domain.getState()).reason !== 'io-error') continue;
      await domain.resume();
      resumed(domain.name);
    } catch (error) {
      // Gone or resumed by somebody else between the question and the call.
      if (!hasLibvirtCode(error, LibvirtCode.noDomain, LibvirtCode.operationInvalid)) throw error;
    }
  }
}
