/**
 * The replica at the other site as the replication engine sees it: a wire session, one for each connection.
 */
import type { Attachment, Begin, Commit, DiskSpec, Opened, PointRef } from '#/wire/messages.ts';
import type { EncodedSegment } from '#/wire/segment.ts';

export interface ReplicaSession extends AsyncDisposable {
  /** What the server said it holds when the session opened. */
  readonly opened: Opened;
  /** Nodes of the digest tree, 16 bytes each. */
  digests(
    disk: number,
    level: number,
    first: number,
    count: number,
    signal?: AbortSignal,
  ): Promise<Uint8Array>;
  /** Starts or resumes a point; resolves with the count of segments that are there already. */
  begin(begin: Omit<Begin, 'kind'>): Promise<number>;
  /**
   * Sends one encoded segment; resolves when the next may be sent and the bytes are not needed any more. When it
   * rejects, they may still be, until the session is disposed.
   */
  segment(index: number, segment: EncodedSegment, signal?: AbortSignal): Promise<void>;
  offerAttachments(attachments: readonly Attachment[]): Promise<string[]>;
  attachment(sha256: string, bytes: Uint8Array): Promise<void>;
  /** Resolves when the server has made the point durable. */
  commit(commit: Omit<Commit, 'kind'>): Promise<PointRef>;
  abort(stamp: string): Promise<void>;
  /** Bytes put on the wire by this session so far, both directions, without TLS. */
  wireBytes(): number;
}

export interface ReplicaLink {
  /**
   * `disks` is what the record knows, empty before the first point; `begin` says what the point has.
   * Throws unreachable, certificate_invalid, epoch_stale, forbidden, protocol_unsupported, replica_busy.
   */
  open(disks: DiskSpec[], signal: AbortSignal): Promise<ReplicaSession>;
}
