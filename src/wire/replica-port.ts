/**
 * What the server's end of a session needs of a replica and of the program around it. `Replica` of src/replica has
 * this shape; the program decides who may open which.
 */
import type { Failure } from '#/lib/failure.ts';
import type { Attachment, Commit, DiskSpec, Open, PointRef } from './messages.ts';
import type { PeerIdentity } from './transport.ts';

/** A point being received. One at a time for a replica. */
export interface PointPort {
  readonly segmentCount: number;
  /**
   * Resolves when the segment is accepted. `release` is called, at most once, when its bytes are not looked at any
   * more, which may be later; until then, and for ever when it is not called, they must not change.
   */
  write(segment: Uint8Array, release?: () => void): Promise<void>;
  commit(request: Omit<Commit, 'kind' | 'stamp'>): Promise<PointRef>;
  abort(): Promise<void>;
  suspend(): Promise<void>;
}

export type PointPortIntent = {
  sequence: number;
  stamp: string;
  momentMs: number;
  epoch: number;
  base?: PointRef;
  disks: DiskSpec[];
};

export interface ReplicaPort {
  readonly digestKey: string;
  head(): (PointRef & { momentMs: number }) | undefined;
  epoch(): number;
  state(): Promise<{
    disks: (DiskSpec & { root: string })[];
    partial?: { stamp: string; segmentCount: number };
  }>;
  digests(disk: number, level: number, first: number, count: number): Promise<Uint8Array>;
  begin(intent: PointPortIntent): Promise<PointPort>;
  missingAttachments(attachments: readonly Attachment[]): Promise<string[]>;
  putAttachment(sha256: string, bytes: Uint8Array): Promise<void>;
}

/** A replica lent to one session; disposed when the session has let go of it. */
export interface ReplicaLease extends AsyncDisposable {
  readonly replica: ReplicaPort;
}

export interface SessionHost {
  /**
   * Admits a session, or throws: forbidden, not_found, epoch_stale, replica_busy. The host may call `end` later, when
   * the session has to make room, such as for a newer one of the same agent.
   */
  open(open: Open, peer: PeerIdentity, end: (why: Failure) => void): Promise<ReplicaLease>;
}
