/**
 * The receiving side of a replica: who may begin a point, what a cut transfer leaves, one writer at a time.
 *
 * I1, I2: a point is offered by its log record alone, which is the last thing that becomes durable. Pure.
 */
import { BLOCK_BYTES, blockCount } from '#/disk/disk.ts';
import { Failure } from '#/lib/failure.ts';
import { DISKS_MAX } from '#/wire/limits.ts';
import { AttachmentStore } from './attachment-store.ts';
import { decodeHeader, HEADER_BYTES_MAX, type DeltaHeader } from './delta-format.ts';
import { DiskState } from './disk-state.ts';
import { listIfThere, pathIn, removeIfThere } from './files.ts';
import { FirstCopy } from './first-copy.ts';
import { markDurably } from './first-copy-marks.ts';
import { recoverFirstCopy } from './first-copy-recovery.ts';
import { incomingPath, IncomingPoint } from './incoming-point.ts';
import { NODE_BLOCKS } from './limits.ts';
import type { DiskEntry } from './log-record.ts';
import { pointAt } from './log-state.ts';
import { recoveryPoint } from './recovery-points.ts';
import type { CommitRequest, PointIntent, PointWriter, RecoveryPoint } from './replica.ts';
import { assignIds, checkSpace, type ReplicaCore } from './replica-core.ts';
import { basePath, createBase, FIRST_COPY_FILES } from './store-place.ts';

export class Receiving implements AsyncDisposable {
  readonly #core: ReplicaCore;
  readonly #attachments: AttachmentStore;
  #writer: OpenPoint | undefined;
  #isBeginning = false;
  /** A point that was left for later, by this program. */
  #suspended: IncomingPoint | undefined;
  /** A first copy that was left, whose moment may still stand. */
  #suspendedFirst: { stamp: string; segmentCount: number } | undefined;
  /** Whether files in `incoming/` were looked at since the replica was opened. */
  #isScanned = false;
  /** Set when a first copy's disks changed, or a write failed: base and digests have to be brought together first. */
  #needsRecovery = false;

  constructor(core: ReplicaCore, attachments: AttachmentStore) {
    this.#core = core;
    this.#attachments = attachments;
  }

  /** What a transfer that was cut left. */
  async partial(): Promise<{ stamp: string; segmentCount: number } | undefined> {
    if (this.#writer !== undefined || this.#isBeginning) return undefined;
    await this.recover();
    if (this.#suspendedFirst !== undefined) return this.#suspendedFirst;
    await this.#scan();
    const left = this.#suspended;
    return left && { stamp: left.stamp, segmentCount: left.segmentCount };
  }

  /** Brings base and digests of a first copy together when a write failed. */
  async recover(): Promise<void> {
    if (!this.#needsRecovery) return;
    await this.#reload(this.#core.log.state.firstCopy);
    this.#needsRecovery = false;
  }

  async begin(intent: PointIntent): Promise<PointWriter> {
    if (this.#writer !== undefined || this.#isBeginning) {
      throw new Failure('replica_busy', `begin point ${intent.sequence}: another one is being received`);
    }
    this.#isBeginning = true;
    try {
      this.#writer = await this.#begin(intent);
      return this.#writer;
    } finally {
      this.#isBeginning = false;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writer?.suspend();
    await this.#suspended?.[Symbol.asyncDispose]();
    this.#suspended = undefined;
  }

  async #begin(intent: PointIntent): Promise<OpenPoint> {
    const { log } = this.#core;
    checkIntent(intent);
    const { state } = log;
    if (intent.epoch < state.epoch) {
      throw new Failure(
        'epoch_stale',
        `begin point ${intent.sequence}: epoch ${intent.epoch} is below ${state.epoch}`,
      );
    }
    const head = pointAt(state, state.head);
    if (
      intent.sequence !== state.head + 1 ||
      intent.base?.stamp !== head?.stamp ||
      wrongBase(intent, state.head)
    ) {
      throw new Failure(
        'conflict',
        `begin point ${intent.sequence} over ${intent.base?.sequence ?? 'nothing'}: the newest is ${state.head}`,
      );
    }
    await checkSpace(this.#core);
    if (intent.epoch > state.epoch) await log.append({ kind: 'epoch', epoch: intent.epoch });
    const point = head === undefined ? await this.#beginFirst(intent) : await this.#beginDelta(intent);
    return new OpenPoint(this.#core, intent, { point, attachments: this.#attachments, ended: this.#ended });
  }

  async #beginFirst(intent: PointIntent): Promise<FirstCopy> {
    await this.recover();
    const { log, place } = this.#core;
    const known = log.state.firstCopy;
    const disks = assignIds(intent.disks, known, log.state.nextDisk);
    if (JSON.stringify(disks) !== JSON.stringify(known)) {
      for (const disk of disks) {
        const before = known.find(({ id }) => id === disk.id);
        if (before === undefined) await createBase(place, disk.id, FIRST_COPY_FILES);
        else if (before.bytes !== disk.bytes) await this.#markEdge(before, disk);
      }
      this.#needsRecovery = true;
      await log.append({ kind: 'first_copy', disks });
      await this.recover();
    }
    this.#suspendedFirst = undefined;
    return FirstCopy.begin(this.#core, intent);
  }

  async #beginDelta(intent: PointIntent): Promise<IncomingPoint> {
    await this.#scan();
    const { log, disks: current } = this.#core;
    const known = current.map(({ disk }) => disk);
    const disks = assignIds(intent.disks, known, log.state.nextDisk);
    const left = this.#suspended;
    this.#suspended = undefined;
    if (left !== undefined) {
      if (left.stamp === intent.stamp && left.adopt(disks)) return left;
      await left.drop();
    }
    return new IncomingPoint(this.#core, intent, disks);
  }

  readonly #ended = async (
    point: FirstCopy | IncomingPoint,
    how: 'committed' | 'left' | 'dropped',
  ): Promise<void> => {
    this.#writer = undefined;
    if (point instanceof FirstCopy) {
      const { stamp, segmentCount } = point;
      if (how !== 'committed') {
        // A barrier that fails leaves its marks: the next use of the replica reads what is there.
        await point.barrier().catch(() => (this.#needsRecovery = true));
      }
      await point[Symbol.asyncDispose]();
      if (how === 'left' && !this.#needsRecovery) this.#suspendedFirst = { stamp, segmentCount };
      return;
    }
    if (how === 'committed') return;
    const isKept = how === 'left' && (await point.drain().then(isTrue, isFalse));
    if (isKept) this.#suspended = point;
    else await point.drop();
  };

  /** A disk of a first copy was resized: the digest of the node where it ended covers another count of blocks. */
  async #markEdge(before: DiskEntry, now: DiskEntry): Promise<void> {
    const { files, directory } = this.#core.place;
    await using marks = await files.open(basePath(directory, before.id, 'base.marks'), 'read-write');
    const edge = Math.min(blockCount(before.bytes), blockCount(now.bytes));
    await markDurably(marks, Math.floor((edge - 1) / NODE_BLOCKS));
  }

  async #reload(disks: DiskEntry[]): Promise<void> {
    const { place, deltas } = this.#core;
    const states: DiskState[] = [];
    for (const disk of disks) {
      await recoverFirstCopy(place, disk);
      states.push(await DiskState.load(place, disk, deltas));
    }
    this.#core.disks = states;
  }

  /** Looks once for a point that an earlier program was receiving. */
  async #scan(): Promise<void> {
    if (this.#isScanned) return;
    const { files, directory } = this.#core.place;
    const own = pathIn(directory, 'incoming');
    const names = await listIfThere(files, own);
    for (const stamp of new Set(names.map((name) => name.slice(0, 32)))) {
      const point = this.#suspended === undefined ? await this.#takeUp(stamp) : undefined;
      if (point !== undefined) this.#suspended = point;
      else
        for (const name of names) if (name.startsWith(stamp)) await removeIfThere(files, pathIn(own, name));
    }
    this.#isScanned = true;
  }

  async #takeUp(stamp: string): Promise<IncomingPoint | undefined> {
    const header = await this.#headerOf(stamp);
    const { log, disks } = this.#core;
    if (header === undefined || header.stamp !== stamp || header.first !== log.state.head + 1)
      return undefined;
    const entries = header.disks.map(({ id, bytes }) => ({
      id,
      key: disks.find(({ disk }) => disk.id === id)?.disk.key ?? '',
      bytes,
    }));
    const point = new IncomingPoint(this.#core, { stamp, sequence: header.first }, entries);
    await point.resume();
    return point;
  }

  async #headerOf(stamp: string): Promise<DeltaHeader | undefined> {
    const { files, directory, tag } = this.#core.place;
    const path = incomingPath(directory, stamp, 0);
    try {
      await using file = await files.open(path, 'read');
      const bytes = new Uint8Array(HEADER_BYTES_MAX);
      const count = await file.read(0, bytes);
      return decodeHeader(bytes.subarray(0, count), tag, path);
    } catch {
      // A file whose beginning a crash tore: the sender sends it again.
      return undefined;
    }
  }
}

type OpenPointParts = {
  point: FirstCopy | IncomingPoint;
  attachments: AttachmentStore;
  ended: (point: FirstCopy | IncomingPoint, how: 'committed' | 'left' | 'dropped') => Promise<void>;
};

/** What the session writes into; it ends once. */
class OpenPoint implements PointWriter {
  readonly #core: ReplicaCore;
  readonly #intent: PointIntent;
  readonly #parts: OpenPointParts;
  readonly segmentCount: number;
  #hasEnded = false;
  /** Settles when the end that was begun is complete. */
  #end: Promise<unknown> = Promise.resolve();

  constructor(core: ReplicaCore, intent: PointIntent, parts: OpenPointParts) {
    this.#core = core;
    this.#intent = intent;
    this.#parts = parts;
    this.segmentCount = parts.point.segmentCount;
  }

  write(segment: Uint8Array, release: () => void = () => {}): Promise<void> {
    if (this.#hasEnded) return Promise.reject(this.#ended('write to'));
    return this.#parts.point.write(segment, release);
  }

  commit(request: CommitRequest): Promise<RecoveryPoint> {
    if (this.#hasEnded) return Promise.reject(this.#ended('commit'));
    return this.#begin(this.#commit(request));
  }

  /** Does nothing to a point that has ended but wait for that. */
  async abort(): Promise<void> {
    if (this.#hasEnded) await this.#end;
    else await this.#begin(this.#parts.ended(this.#parts.point, 'dropped'));
  }

  async suspend(): Promise<void> {
    if (this.#hasEnded) await this.#end;
    else await this.#begin(this.#parts.ended(this.#parts.point, 'left'));
  }

  #begin<T>(end: Promise<T>): Promise<T> {
    this.#hasEnded = true;
    this.#end = end.catch(() => undefined);
    return end;
  }

  async #commit(request: CommitRequest): Promise<RecoveryPoint> {
    const { point, ended } = this.#parts;
    try {
      await this.#check(request);
      const entry =
        point instanceof FirstCopy ? await point.commit(request) : await point.commit(this.#intent, request);
      await ended(point, 'committed');
      this.#core.expectedAttachments.clear();
      return recoveryPoint(entry, entry.bytes);
    } catch (error) {
      await ended(point, 'dropped');
      throw error;
    }
  }

  async #check(request: CommitRequest): Promise<void> {
    const { point, attachments } = this.#parts;
    if (request.segmentCount !== point.segmentCount) {
      const counts = `${request.segmentCount} segments were sent, ${point.segmentCount} are here`;
      throw new Failure('conflict', `commit point ${this.#intent.sequence}: ${counts}`);
    }
    for (const { sha256 } of request.attachments) {
      this.#core.expectedAttachments.add(sha256);
      if (await attachments.has(sha256)) continue;
      throw new Failure(
        'conflict',
        `commit point ${this.#intent.sequence}: attachment ${sha256} is not here`,
      );
    }
  }

  #ended(what: string): Failure {
    return new Failure('conflict', `${what} point ${this.#intent.sequence}: it has ended`);
  }
}

function wrongBase({ base }: PointIntent, head: number): boolean {
  return base === undefined ? head !== 0 : base.sequence !== head;
}

function checkIntent({ sequence, stamp, disks }: PointIntent): void {
  const keys = new Set(disks.map(({ key }) => key));
  const isValid =
    /^[0-9a-f]{32}$/.test(stamp) &&
    disks.length >= 1 &&
    disks.length <= DISKS_MAX &&
    keys.size === disks.length &&
    disks.every(({ bytes }) => Number.isSafeInteger(bytes) && bytes > 0 && bytes % 512 === 0);
  if (isValid && disks.every(({ bytes }) => bytes / BLOCK_BYTES < 2 ** 36)) return;
  throw new Failure(
    'usage_invalid',
    `begin point ${sequence}: stamp ${stamp}, disks ${[...keys].join(', ')}`,
  );
}

function isTrue(): boolean {
  return true;
}

function isFalse(): boolean {
  return false;
}
