/**
 * What an agent and a replication server say to each other about one replica (docs/wire-protocol.md).
 *
 * A session is about one replica of one VM; a TLS connection carries one after another. The agent asks, the server
 * answers; only `segment` has no answer of its own but `credit`. Control messages are JSON with snake_case keys,
 * checked field by field; segments, digests and attachments are binary.
 */

/** A recovery point by its place in the replica's log and by a random stamp that no other history can share. */
export type PointRef = {
  /** Rises by one with every point of a replica, from 1. This is the number people type. */
  sequence: number;
  /** 32 hex digits, drawn by the agent when it begins the point. */
  stamp: string;
};

/** A disk of the VM as the replica knows it. `key` is the libvirt target, such as `vda`. */
export type DiskSpec = { key: string; bytes: number };

/** A file that belongs to a recovery point: the VM's definition, firmware variables, TPM state. */
export type Attachment = {
  kind: 'definition' | 'nvram' | 'tpm';
  /** Lower-case hex SHA-256 of the bytes; the bytes are sent when the server does not hold them. */
  sha256: string;
  bytes: number;
};

export type Open = {
  kind: 'open';
  /** The highest protocol the client speaks. */
  protocol: number;
  replicaId: string;
  vm: { uuid: string; name: string };
  /** Rises at every change of site; a server that knows a higher one answers epoch_stale. */
  epoch: number;
  disks: DiskSpec[];
  /**
   * What block digests of a replica that is made by this are to be keyed by, so that they compare with those of the
   * replica that the VM came from: a secret, 64 hex digits. A server takes it only while the replica is filled from an
   * old copy of its own site.
   */
  digestKey?: string;
};

export type Opened = {
  kind: 'opened';
  /** The protocol of this session: the highest that both ends speak. */
  protocol: number;
  /** The newest durable recovery point; absent while the first copy is being made. */
  head?: PointRef & { momentMs: number };
  /**
   * The state the next point is a delta against: the head's, or what a first copy left behind so far.
   * `root` is the digest tree's root (section 5), 32 hex digits.
   */
  disks: { key: string; bytes: number; root: string }[];
  /** What the replica's block digests are keyed by, a secret: 64 hex digits. */
  digestKey: string;
  /** A point whose transfer was cut: its stamp and how many segments are safely here. */
  partial?: { stamp: string; segmentCount: number };
  /** Flow control: segments and bytes that may be sent beyond what was credited. */
  window: { segmentCount: number; bytes: number };
};

/** Asks for a range of nodes of a disk's digest tree; level 0 holds the blocks' own digests. */
export type DigestsGet = { kind: 'digests_get'; disk: number; level: number; first: number; count: number };
export type Digests = { kind: 'digests'; disk: number; level: number; first: number; digests: Uint8Array };

export type Begin = {
  kind: 'begin';
  sequence: number;
  stamp: string;
  /** When the source's disks were frozen, ms since the epoch, by the source's clock. */
  momentMs: number;
  /** The head this point is a delta against; absent for a first copy. */
  base?: PointRef;
  disks: DiskSpec[];
};
/** `segmentCount` segments of this very point are already here: go on after them. */
export type Begun = { kind: 'begun'; segmentCount: number };

/**
 * An encoded Segment (segment.ts). `index` counts from 0 within the point. Who sends it may give the segment's end as
 * `payload`; who receives it has all of it in `segment`.
 */
export type SegmentMessage = { kind: 'segment'; index: number; segment: Uint8Array; payload?: Uint8Array };
/** What has left the server's queue; totals of this session since `begun`. */
export type Credit = { kind: 'credit'; segmentCount: number; bytes: number };

export type AttachmentsOffer = { kind: 'attachments_offer'; attachments: Attachment[] };
export type AttachmentsWanted = { kind: 'attachments_wanted'; sha256: string[] };
/** A piece of a wanted attachment; pieces come in order, from offset 0, until its announced length is reached. */
export type AttachmentPiece = { kind: 'attachment'; sha256: string; offset: number; bytes: Uint8Array };
/** Bytes of the attachment that are here; with the last of them the attachment is checked and durable. */
export type AttachmentTaken = { kind: 'attachment_taken'; sha256: string; bytes: number };

export type Commit = {
  kind: 'commit';
  stamp: string;
  segmentCount: number;
  /** Root of each disk's digest tree after this point, in the order of `begin`: the server's must be equal. */
  roots: string[];
  attachments: Attachment[];
  consistency: 'crash' | 'quiesced' | 'off';
};
/** The point is durable: kill -9 or power loss cannot take it back. */
export type Acknowledged = { kind: 'acknowledged'; sequence: number; stamp: string };

export type Abort = { kind: 'abort'; stamp: string };
export type Aborted = { kind: 'aborted' };
/** Ends the session, not the connection: the server gives the replica back, and another session may be opened. */
export type Close = { kind: 'close' };
export type Closed = { kind: 'closed' };
/** Either end says so when it has said nothing else for a while; silence means that the other end is gone. */
export type Alive = { kind: 'alive' };
/** The connection ends after this, whoever sends it. `code` is a FailureCode. */
export type FailureMessage = { kind: 'failure'; code: string; message: string; hint?: string };

export type Message =
  | Open
  | Opened
  | DigestsGet
  | Digests
  | Begin
  | Begun
  | SegmentMessage
  | Credit
  | AttachmentsOffer
  | AttachmentsWanted
  | AttachmentPiece
  | AttachmentTaken
  | Commit
  | Acknowledged
  | Abort
  | Aborted
  | Close
  | Closed
  | Alive
  | FailureMessage;
