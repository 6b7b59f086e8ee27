/**
 * What a plan run asks of the rest of the manager. Each call names its own id and may be repeated at will, by this
 * manager or by another one: it orders what is to be done once, and says how that stands.
 */
import type { HealthProbe, InterfaceAddresses } from '#/api/plans.ts';
import type { FailureReport } from '#/control/reports.ts';
import type { ReplicaRecord } from '#/manager/store/replica-store.ts';

/** `done` was verified (I7). */
export type StepOutcome =
  | { state: 'waiting'; note?: string }
  | { state: 'done'; note?: string; result?: Record<string, unknown> }
  | { state: 'failed'; failure: FailureReport };

/** The protected site's copy of a VM, asked through that site's manager. */
export type SourceCopies = {
  /** Done when the VM was seen powered off there; so is one that was off before. Its autostart is turned off. */
  shutDown(
    id: string,
    replica: ReplicaRecord,
    how: { mode: 'guest' | 'power_off'; timeoutMs: number },
  ): Promise<StepOutcome>;
  /**
   * A cycle of the powered-off VM, done when the point is acknowledged and the roots of the digests of all disks are
   * equal at both sites. Its result is `{ sequence, moment_ms }` of that point.
   */
  lastCycle(id: string, replica: ReplicaRecord): Promise<StepOutcome>;
  /** Takes shutDown back: the VM runs there again if it did before, with its autostart as it was. */
  startAgain(id: string, replica: ReplicaRecord, shutDownId: string): Promise<StepOutcome>;
};

/** A VM on a host of this site. */
export type VmPlace = { hostId: string; vmUuid: string; vmName: string };

export type Guests = {
  /** Done when the probe answers; waits for that until its time is up. */
  probe(id: string, vm: VmPlace, probe: HealthProbe): Promise<StepOutcome>;
  /** Runs a program in the guest through its agent; done when it ended with 0. */
  execute(
    id: string,
    vm: VmPlace,
    program: { path: string; arguments: readonly string[]; timeoutMs: number },
  ): Promise<StepOutcome>;
  /** Gives the guest its addresses, says with `preview` what that would change, and undoes it with `restore`. */
  customize(
    id: string,
    vm: VmPlace,
    wanted:
      | {
          kind: 'apply' | 'preview';
          hostName: string | null;
          addresses: readonly InterfaceAddresses[];
          timeoutMs: number;
        }
      | { kind: 'restore'; timeoutMs: number },
  ): Promise<StepOutcome>;
  /** Pauses a VM of this site, or lets it go on. Resuming one that was not paused by that id changes nothing. */
  suspend(id: string, vm: VmPlace): Promise<StepOutcome>;
  resume(id: string, vm: VmPlace, suspendId: string): Promise<StepOutcome>;
  /** Ends what is still under way of that id; nothing of it is reported after. */
  cancel(id: string): Promise<void>;
};
