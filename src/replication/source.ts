/**
 * The protected VM as the replication engine sees it: libvirt's driver in the agent, or the simulation's VM.
 */
import type { Disk, Extent } from '#/disk/disk.ts';
import type { Attachment, DiskSpec } from '#/wire/messages.ts';

export type MomentRequest = {
  /** The tracking id of the acknowledged moment; absent when there is none or it cannot be trusted. */
  since?: string;
  /** The tracking id that this moment starts. Never used before in this VM: a name is the generation stamp. */
  next: string;
  /** Keys of the disks that are replicated; empty means all that can be. */
  disks: string[];
  /** Scratch that this moment may take, over all disks, before it is given up with scratch_full. */
  scratchBytes: number;
};

export interface MomentDisk {
  readonly spec: DiskSpec;
  /** The disk as it was at the moment. */
  readonly disk: Disk;
  /**
   * What may have changed since the `since` of the request, ascending, at the driver's granularity; undefined when
   * that is not known and everything has to be compared.
   */
  changed(): AsyncIterable<{ offset: number; length: number }> | undefined;
  /** Identity of the image behind the disk: another one, or another place, means that no tracking holds. */
  readonly imageId: string;
}

export type MomentAttachment = Attachment & { read(): Promise<Uint8Array> };

/** One frozen moment of all replicated disks. */
export interface Moment {
  readonly momentMs: number;
  readonly consistency: 'crash' | 'quiesced' | 'off';
  readonly disks: MomentDisk[];
  readonly attachments: MomentAttachment[];
  /** The id a later moment may give as `since`; absent when this moment left none of its own. */
  readonly tracking: string | undefined;
  /** Aborts when the moment is lost: scratch full, VM gone, image changed under a powered-off VM. */
  readonly lost: AbortSignal;
  /** Asks, as the last thing before commit, whether all that was read really was this moment. Throws tracking_lost. */
  confirm(): Promise<void>;
  /** The point is acknowledged: drops the older tracking. Idempotent; a crash in between leaves nothing that hurts. */
  acknowledged(): Promise<void>;
  /**
   * Lets go of the moment without an acknowledgement. `given_up`: tracking goes on from `since` as if this moment had
   * not been. `unknown`: the replica may have made a point of it, so both trackings stay until the next moment.
   * Idempotent, and so is `acknowledged`; the first of them counts.
   */
  release(outcome: 'given_up' | 'unknown'): Promise<void>;
}

export interface Source {
  /**
   * Freezes a moment. Throws tracking_lost when `since` does not hold (then ask again without it), vm_unsupported,
   * scratch_full, libvirt_error, unreachable.
   */
  freeze(request: MomentRequest, signal: AbortSignal): Promise<Moment>;
}

export type { Extent };
