/**
 * What the server answers to each request of a session (docs/wire-protocol.md, section 5). The order of requests has
 * been checked against the table of states before they get here; what they ask for is checked here.
 *
 * Invariant: nothing reaches the replica that names a disk, a node, a segment or an attachment out of range. Pure.
 */
import assert from 'node:assert/strict';
import { levelCount, rootLevel } from '#/disk/digest-tree.ts';
import { blockCount } from '#/disk/disk.ts';
import { Failure } from '#/lib/failure.ts';
import type { Window } from './credit.ts';
import { PROTOCOL_MAX, PROTOCOL_MIN } from './limits.ts';
import type {
  Abort,
  AttachmentPiece,
  AttachmentsOffer,
  Begin,
  Close,
  Commit,
  DigestsGet,
  DiskSpec,
  Message,
  Open,
  SegmentMessage,
} from './messages.ts';
import type { PointPort, ReplicaLease, ReplicaPort, SessionHost } from './replica-port.ts';
import type { PeerIdentity } from './transport.ts';

/** What only a client sends and the server works on. */
export type ClientRequest =
  | Open
  | DigestsGet
  | Begin
  | SegmentMessage
  | AttachmentsOffer
  | AttachmentPiece
  | Commit
  | Abort
  | Close;

type Receiving = { point: PointPort; stamp: string; disks: number; nextIndex: number };
type Assembly = { sha256: string; buffer: Uint8Array; taken: number };

export class ServerRequests {
  readonly #host: SessionHost;
  readonly #peer: PeerIdentity;
  readonly #window: Window;
  readonly #end: (why: Failure) => void;
  readonly #recycle: (bytes: Uint8Array) => void;
  #lease: ReplicaLease | undefined;
  #epoch = 0;
  #disks: DiskSpec[] = [];
  #receiving: Receiving | undefined;
  /** Bytes of each attachment that was offered and is missing here. */
  #wanted = new Map<string, number>();
  #assembly: Assembly | undefined;

  constructor(
    host: SessionHost,
    peer: PeerIdentity,
    session: { window: Window; end: (why: Failure) => void; recycle: (bytes: Uint8Array) => void },
  ) {
    this.#host = host;
    this.#peer = peer;
    this.#window = session.window;
    this.#end = session.end;
    this.#recycle = session.recycle;
  }

  /** Does what the client asks; returns the answer, or nothing for a segment. */
  async handle(message: ClientRequest): Promise<Message | undefined> {
    switch (message.kind) {
      case 'open':
        return await this.#open(message);
      case 'digests_get':
        return await this.#digests(message);
      case 'begin':
        return await this.#begin(message);
      case 'segment':
        return await this.#segment(message);
      case 'attachments_offer':
        return await this.#offered(message);
      case 'attachment':
        return await this.#attachment(message);
      case 'commit':
        return await this.#commit(message);
      case 'abort':
        return await this.#abort(message.stamp);
      case 'close':
        await this.letGo();
        return { kind: 'closed' };
    }
  }

  /** Suspends a point that is under way and gives the replica back. */
  async letGo(): Promise<void> {
    const lease = this.#lease;
    const receiving = this.#receiving;
    this.#lease = this.#receiving = undefined;
    try {
      await receiving?.point.suspend();
    } finally {
      await lease?.[Symbol.asyncDispose]();
    }
  }

  async #open(open: Open): Promise<Message> {
    if (open.protocol < PROTOCOL_MIN) {
      throw new Failure(
        'protocol_unsupported',
        `open session: the agent speaks protocol ${open.protocol}, this server ${PROTOCOL_MIN} to ${PROTOCOL_MAX}`,
        { hint: 'Upgrade the agent.' },
      );
    }
    // An agent that has never seen a point knows no disks before it has frozen a moment; `begin` names them.
    if (open.disks.length > 0) checkDisks(open.disks);
    this.#lease = await this.#host.open(open, this.#peer, this.#end);
    const replica = this.#lease.replica;
    if (open.epoch < replica.epoch()) {
      throw new Failure(
        'epoch_stale',
        `open session for ${open.vm.name}: epoch ${open.epoch} is older than the replica's ${replica.epoch()}`,
        { hint: 'The VM has been recovered at another site; this copy of it must not be replicated.' },
      );
    }
    this.#epoch = open.epoch;
    const head = replica.head();
    const { disks, partial } = await replica.state();
    this.#disks = disks;
    return {
      kind: 'opened',
      protocol: Math.min(open.protocol, PROTOCOL_MAX),
      ...(head && { head: { sequence: head.sequence, stamp: head.stamp, momentMs: head.momentMs } }),
      disks: disks.map(({ key, bytes, root }) => ({ key, bytes, root })),
      digestKey: replica.digestKey,
      ...(partial && { partial: { stamp: partial.stamp, segmentCount: partial.segmentCount } }),
      window: this.#window,
    };
  }

  async #digests(get: DigestsGet): Promise<Message> {
    const { disk, level, first, count } = get;
    const spec = this.#disks[disk];
    const blocks = spec === undefined ? 0 : blockCount(spec.bytes);
    if (spec === undefined || level > rootLevel(blocks) || first + count > levelCount(blocks, level)) {
      throw new Failure(
        'usage_invalid',
        `read digests ${first} to ${first + count - 1} of level ${level} of disk ${disk}: there are none`,
      );
    }
    const digests = await this.#replica.digests(disk, level, first, count);
    return { kind: 'digests', disk, level, first, digests };
  }

  async #begin(begin: Begin): Promise<Message> {
    checkDisks(begin.disks);
    const { kind: _, ...intent } = begin;
    const point = await this.#replica.begin({ ...intent, epoch: this.#epoch });
    const { segmentCount } = point;
    this.#receiving = {
      point,
      stamp: begin.stamp,
      disks: begin.disks.length,
      nextIndex: segmentCount,
    };
    this.#wanted.clear();
    return { kind: 'begun', segmentCount };
  }

  async #segment(message: SegmentMessage): Promise<undefined> {
    const receiving = this.#receivingNow;
    if (message.index !== receiving.nextIndex) {
      throw new Failure(
        'protocol_corrupt',
        `receive segment ${message.index}: expected segment ${receiving.nextIndex}`,
      );
    }
    await receiving.point.write(message.segment, () => this.#recycle(message.segment));
    receiving.nextIndex++;
  }

  async #offered(offer: AttachmentsOffer): Promise<Message> {
    const missing = await this.#replica.missingAttachments(offer.attachments);
    this.#assembly = undefined;
    this.#wanted = new Map();
    for (const { sha256, bytes } of offer.attachments) {
      if (missing.includes(sha256)) this.#wanted.set(sha256, bytes);
    }
    return { kind: 'attachments_wanted', sha256: [...this.#wanted.keys()] };
  }

  async #attachment(piece: AttachmentPiece): Promise<Message> {
    const { sha256, offset, bytes } = piece;
    const expected = this.#wanted.get(sha256);
    if (expected === undefined) {
      throw new Failure('protocol_corrupt', `receive attachment ${sha256}: it was not asked for`);
    }
    if (offset === 0) this.#assembly = { sha256, buffer: new Uint8Array(expected), taken: 0 };
    const assembly = this.#assembly;
    const end = offset + bytes.length;
    const isNext = assembly?.sha256 === sha256 && assembly.taken === offset && end <= expected;
    if (!isNext || (bytes.length === 0 && expected > 0)) {
      throw new Failure('protocol_corrupt', `receive attachment ${sha256}: wrong piece at offset ${offset}`);
    }
    assembly.buffer.set(bytes, offset);
    assembly.taken = end;
    if (end === expected) {
      await this.#replica.putAttachment(sha256, assembly.buffer);
      this.#wanted.delete(sha256);
      this.#assembly = undefined;
    }
    return { kind: 'attachment_taken', sha256, bytes: end };
  }

  async #commit(commit: Commit): Promise<Message> {
    const receiving = this.#receivingNow;
    const { stamp, segmentCount, roots, attachments, consistency } = commit;
    const isWhole = stamp === receiving.stamp && segmentCount === receiving.nextIndex;
    if (!isWhole || roots.length !== receiving.disks) {
      throw new Failure(
        'protocol_corrupt',
        `commit point ${stamp}: ${segmentCount} segments and ${roots.length} roots, received ` +
          `${receiving.nextIndex} segments of ${receiving.stamp} with ${receiving.disks} disks`,
      );
    }
    const point = await receiving.point.commit({ segmentCount, roots, attachments, consistency });
    this.#receiving = undefined;
    this.#disks = (await this.#replica.state()).disks;
    return { kind: 'acknowledged', sequence: point.sequence, stamp: point.stamp };
  }

  async #abort(stamp: string): Promise<Message> {
    const receiving = this.#receivingNow;
    if (stamp !== receiving.stamp) {
      throw new Failure('protocol_corrupt', `abort point ${stamp}: receiving ${receiving.stamp}`);
    }
    this.#receiving = undefined;
    await receiving.point.abort();
    this.#disks = (await this.#replica.state()).disks;
    return { kind: 'aborted' };
  }

  get #replica(): ReplicaPort {
    assert(this.#lease !== undefined);
    return this.#lease.replica;
  }

  get #receivingNow(): Receiving {
    assert(this.#receiving !== undefined);
    return this.#receiving;
  }
}

function checkDisks(disks: readonly DiskSpec[]): void {
  const keys = new Set(disks.map((disk) => disk.key));
  if (disks.length < 1 || keys.size !== disks.length) {
    throw new Failure(
      'usage_invalid',
      `open session with disks ${disks.map((disk) => disk.key).join(', ')}`,
      {
        hint: 'A replica has at least one disk, and each disk has its own key.',
      },
    );
  }
}
