/** For tests: a replica in memory behind a link that can be cut at any message. */
import { DIGEST_KEY } from '#/disk/digest-fixture.ts';
import { DIGEST_BYTES, digestBlocks } from '#/disk/digest.ts';
import { nextLevel, rootLevel } from '#/disk/digest-tree.ts';
import { BLOCK_BYTES, blockCount } from '#/disk/disk.ts';
import { Failure } from '#/lib/failure.ts';
import type { DiskSpec, Opened, PointRef } from '#/wire/messages.ts';
import { blocksIn, decodeSegment, joinSegment, segmentPayload, type EncodedSegment } from '#/wire/segment.ts';
import type { ReplicaLink, ReplicaSession } from './link.ts';

type Contents = Map<string, Uint8Array>;
type Begun = Parameters<ReplicaSession['begin']>[0];

export class MemoryReplica implements ReplicaLink {
  head: (PointRef & { momentMs: number }) | undefined;
  state: Contents = new Map();
  points: { ref: PointRef; contents: Contents }[] = [];
  partial: { begun: Begun; segments: Uint8Array[] } | undefined;
  readonly attachments = new Map<string, Uint8Array>();
  /** Messages, counted over all sessions. */
  messages = 0;
  /** The link is cut when these messages are sent: what they ask for is done, or not. */
  cuts = new Map<number, 'before' | 'after'>();
  segmentsTaken = 0;
  blocksTaken = 0;
  digestsServed = 0;

  async open(): Promise<ReplicaSession> {
    return await this.#message(
      async () => new MemorySession(this, this.#opened(), (work) => this.#message(work)),
    );
  }

  /** Every disk of the state, as bytes. */
  contents(key: string): Uint8Array {
    return this.state.get(key) ?? new Uint8Array(0);
  }

  nodes(key: string, level: number): Uint8Array {
    let nodes: Uint8Array = digestBlocks(DIGEST_KEY, this.state.get(key)!);
    for (let at = 0; at < level; at++) nodes = nextLevel(nodes);
    return nodes;
  }

  begin(begun: Begun): number {
    if (begun.base?.stamp !== this.head?.stamp) throw new Failure('conflict', 'another head');
    if (this.partial !== undefined && this.partial.begun.stamp !== begun.stamp) {
      if (this.head === undefined) this.state = this.#overlaid(this.partial);
      this.partial = undefined;
    }
    this.partial ??= { begun, segments: [] };
    return this.partial.segments.length;
  }

  commit(stamp: string, segmentCount: number, roots: string[]): PointRef {
    const partial = this.partial;
    if (partial?.begun.stamp !== stamp || partial.segments.length !== segmentCount) {
      throw new Failure('protocol_corrupt', 'commit of something else');
    }
    const contents = this.#overlaid(partial);
    const ours = partial.begun.disks.map(({ key }) => rootOf(contents.get(key)!));
    if (ours.join() !== roots.join()) throw new Failure('conflict', 'roots differ');
    const ref = { sequence: partial.begun.sequence, stamp };
    this.state = contents;
    this.head = { ...ref, momentMs: partial.begun.momentMs };
    this.points.push({ ref, contents });
    this.partial = undefined;
    return ref;
  }

  #opened(): Opened {
    const disks = [...this.state].map(([key, bytes]) => ({ key, bytes: bytes.length, root: rootOf(bytes) }));
    const opened: Opened = {
      kind: 'opened',
      protocol: 1,
      disks,
      digestKey: DIGEST_KEY,
      window: { segmentCount: 16, bytes: 2 ** 20 },
    };
    if (this.head !== undefined) opened.head = this.head;
    return opened;
  }

  #overlaid({ begun, segments }: { begun: Begun; segments: Uint8Array[] }): Contents {
    const contents: Contents = new Map(begun.disks.map((spec) => [spec.key, this.#resized(spec)]));
    for (const bytes of segments) {
      const segment = decodeSegment(bytes, (disk) => blockCount(begun.disks[disk]?.bytes ?? 0), DIGEST_KEY);
      const target = contents.get(begun.disks[segment.disk]!.key)!;
      const payload = segment.kind === 'data' ? segmentPayload(segment) : undefined;
      let at = 0;
      for (const run of segment.runs) {
        const offset = run.first * BLOCK_BYTES;
        const length = Math.min(run.count * BLOCK_BYTES, target.length - offset);
        if (payload === undefined) target.fill(0, offset, offset + length);
        else target.set(payload.subarray(at, at + length), offset);
        at += run.count * BLOCK_BYTES;
      }
    }
    return contents;
  }

  #resized({ key, bytes }: DiskSpec): Uint8Array {
    const contents = new Uint8Array(bytes);
    contents.set(this.contents(key).subarray(0, bytes));
    return contents;
  }

  async #message<Result>(work: () => Promise<Result>): Promise<Result> {
    const cut = this.cuts.get(this.messages++);
    if (cut === 'before') throw new Failure('unreachable', 'the link is cut');
    const result = await work();
    if (cut === 'after') throw new Failure('unreachable', 'the link is cut');
    return result;
  }
}

class MemorySession implements ReplicaSession {
  readonly opened: Opened;
  readonly #replica: MemoryReplica;
  readonly #message: <Result>(work: () => Promise<Result>) => Promise<Result>;
  #bytes = 0;

  constructor(
    replica: MemoryReplica,
    opened: Opened,
    message: <Result>(work: () => Promise<Result>) => Promise<Result>,
  ) {
    this.#replica = replica;
    this.opened = opened;
    this.#message = message;
  }

  digests(disk: number, level: number, first: number, count: number): Promise<Uint8Array> {
    return this.#message(async () => {
      this.#replica.digestsServed += count;
      const nodes = this.#replica.nodes(this.opened.disks[disk]!.key, level);
      return nodes.slice(first * DIGEST_BYTES, (first + count) * DIGEST_BYTES);
    });
  }

  begin(begin: Begun): Promise<number> {
    return this.#message(async () => this.#replica.begin(begin));
  }

  segment(index: number, parts: EncodedSegment): Promise<void> {
    const bytes = Uint8Array.from(joinSegment(parts));
    return this.#message(async () => {
      const partial = this.#replica.partial!;
      if (index !== partial.segments.length) throw new Failure('protocol_corrupt', `segment ${index}`);
      const segment = decodeSegment(
        bytes,
        (disk) => blockCount(partial.begun.disks[disk]?.bytes ?? 0),
        DIGEST_KEY,
      );
      this.#replica.segmentsTaken++;
      this.#replica.blocksTaken += blocksIn(segment.runs);
      partial.segments.push(bytes);
      this.#bytes += bytes.length;
    });
  }

  offerAttachments(attachments: readonly { sha256: string }[]): Promise<string[]> {
    return this.#message(async () =>
      attachments.map(({ sha256 }) => sha256).filter((sha256) => !this.#replica.attachments.has(sha256)),
    );
  }

  attachment(sha256: string, bytes: Uint8Array): Promise<void> {
    return this.#message(async () => void this.#replica.attachments.set(sha256, bytes));
  }

  commit(commit: { stamp: string; segmentCount: number; roots: string[] }): Promise<PointRef> {
    return this.#message(async () => this.#replica.commit(commit.stamp, commit.segmentCount, commit.roots));
  }

  async abort(): Promise<void> {}

  wireBytes(): number {
    return this.#bytes;
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}

export function rootOf(bytes: Uint8Array): string {
  let nodes: Uint8Array = digestBlocks(DIGEST_KEY, bytes);
  const levels = rootLevel(blockCount(bytes.length));
  for (let level = 0; level < levels; level++) nodes = nextLevel(nodes);
  return Buffer.from(nodes).toString('hex');
}
