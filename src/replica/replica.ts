/**
 * The interface of a replica: what the replication server, the recovery of a VM and the command line do with one
 * replica directory (docs/storage-format.md).
 *
 * I1: a point in `points()` opens, and its disks are the source's at its moment. I2: `commit` resolves only when
 * the point is durable.
 */
import type { Disk } from '#/disk/disk.ts';
import type { Attachment, DiskSpec, PointRef } from '#/wire/messages.ts';

export type RecoveryPoint = PointRef & {
  momentMs: number;
  /** When the replica made it durable, by the server's clock. */
  acknowledgedMs: number;
  epoch: number;
  consistency: 'crash' | 'quiesced' | 'off';
  disks: (DiskSpec & { root: string })[];
  attachments: Attachment[];
  /** Bytes its delta takes on disk; after merges, those of what was merged into it. */
  deltaBytes: number;
};

export type ReplicaIdentity = {
  replicaId: string;
  vm: { uuid: string; name: string };
  /** Where the VM is protected. */
  siteId: string;
  /** What block digests are keyed by, a secret: 64 hex digits, drawn when the replica is created. */
  digestKey: string;
};

export type PointIntent = {
  sequence: number;
  stamp: string;
  momentMs: number;
  epoch: number;
  base?: PointRef;
  disks: DiskSpec[];
};

export type CommitRequest = {
  segmentCount: number;
  roots: string[];
  attachments: Attachment[];
  consistency: RecoveryPoint['consistency'];
};

/** A point being received. One at a time for a replica. */
export interface PointWriter {
  /** Segments that are here already, from a transfer that was cut. */
  readonly segmentCount: number;
  /**
   * Takes the next encoded segment and checks it. Throws protocol_corrupt, storage_full, storage_io. `release` is
   * called, at most once, when its bytes are not looked at any more, which may be after this has resolved; until
   * then, and for ever when it is not called, they must not change.
   */
  write(segment: Uint8Array, release?: () => void): Promise<void>;
  /**
   * Makes the point durable and offers it. Throws `conflict` when a root differs from the sender's: then nothing is
   * offered.
   */
  commit(request: CommitRequest): Promise<RecoveryPoint>;
  /** Forgets what was received; a first copy keeps its blocks as a seed for the next try. */
  abort(): Promise<void>;
  /** Leaves what was received for a later `begin` with the same stamp. */
  suspend(): Promise<void>;
}

/** A recovery point, opened: what it needs stays until it is disposed. */
export interface View extends AsyncDisposable {
  readonly point: RecoveryPoint;
  /** One read-only disk for each of `point.disks`, in its order. */
  readonly disks: Disk[];
  /** The digests of each, as a disk: 16 bytes for each block, padded with zeroes to a whole sector. */
  readonly digests: Disk[];
}

export type RetentionPolicy = {
  /** Every point younger than this is kept. */
  keepAllMs: number;
  /** Beyond that, one point for each interval, as long as it is younger than `forMs`; ascending. */
  tiers: { everyMs: number; forMs: number }[];
  /** Sequences of points that are kept whatever their age. */
  kept?: number[];
};

/** All of the last hour, then one an hour for a day. */
export const DEFAULT_RETENTION: RetentionPolicy = {
  keepAllMs: 3_600_000,
  tiers: [{ everyMs: 3_600_000, forMs: 86_400_000 }],
};

export type VerifyReport = {
  points: number;
  blocksChecked: number;
  /** What does not match its digest or checksum. Bounded; `truncated` says when more was found. */
  problems: { where: string; what: string }[];
  truncated: boolean;
};

export interface Replica extends AsyncDisposable {
  readonly identity: ReplicaIdentity;
  /** The identity's. */
  readonly digestKey: string;
  /** Ascending. */
  points(): readonly RecoveryPoint[];
  head(): RecoveryPoint | undefined;
  /** The highest epoch ever recorded; a writer with a lower one is refused with epoch_stale. */
  epoch(): number;
  /** Records a higher epoch, durably: from then on older writers are refused. A lower one changes nothing. */
  raiseEpoch(epoch: number): Promise<void>;
  /** The state the next point is a delta against. */
  state(): Promise<{
    disks: (DiskSpec & { root: string })[];
    partial?: { stamp: string; segmentCount: number };
  }>;
  /** Nodes of the digest tree of that state: 16 bytes each (digest-tree.ts). */
  digests(disk: number, level: number, first: number, count: number): Promise<Uint8Array>;
  begin(intent: PointIntent): Promise<PointWriter>;
  missingAttachments(attachments: readonly Attachment[]): Promise<string[]>;
  /** Keeps an attachment's bytes, checked against its hash, durable before it resolves. */
  putAttachment(sha256: string, bytes: Uint8Array): Promise<void>;
  attachment(sha256: string): Promise<Uint8Array>;
  /** Throws `not_found`, or `point_expired` when retention has merged the point away. */
  openView(sequence: number): Promise<View>;
  /** One bounded piece of compaction; true when there is more to do. Views keep what they need. */
  compact(policy: RetentionPolicy, nowMs: number): Promise<boolean>;
  /** Bytes the replica takes on disk. */
  storedBytes(): Promise<number>;
  verify(progress?: (done: number, total: number) => void, signal?: AbortSignal): Promise<VerifyReport>;
}
