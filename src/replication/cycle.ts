/**
 * One cycle: learn what the replica holds, freeze a moment, send what differs, have it made durable, acknowledge
 * (docs/architecture.md, "A cycle"). First copy, seed, lost tracking and a resumed copy are this same cycle.
 *
 * What it holds to:
 * - Tracking is believed only when the record is of the replica's head, stamp and roots, and for images that are the
 *   same as then. Otherwise everything is compared (I4).
 * - The journal is durable before `commit` is sent, and the record advances only after the acknowledgement (I2).
 * - A point is offered only after the source confirmed that all that was read was one moment (I1).
 * - A moment is held for a link that is away as long as its scratch and MOMENT_HELD_MS allow (I3, I6).
 * Pure.
 */
import assert from 'node:assert/strict';
import { BLOCK_BYTES } from '#/disk/disk.ts';
import type { Clock } from '#/lib/clock.ts';
import { Failure, failureIn, hasCode } from '#/lib/failure.ts';
import { randomHex, type Random } from '#/lib/random.ts';
import type { DiskSpec, PointRef } from '#/wire/messages.ts';
import type { BlockCodec } from './block-codec.ts';
import { ATTACHMENT_BYTES_MAX, COMPARE_RANGES_MAX, MOMENT_HELD_MS, RESUMES_MAX } from './limits.ts';
import type { ReplicaLink, ReplicaSession } from './link.ts';
import { normalized } from './ranges.ts';
import { reconcile } from './record-sync.ts';
import type { RecordDisk, RecordState, ReplicaRecord } from './replica-record.ts';
import type { Moment, MomentDisk, Source } from './source.ts';
import { transfer, type TransferCounts, type TransferDisk, type Transferred } from './transfer.ts';

export type CycleProgress = TransferCounts & {
  totalBytes: number;
  isFirstCopy: boolean;
  /** Everything is read, because nothing tells what changed. */
  isComparing: boolean;
};

export type CycleContext = {
  source: Source;
  link: ReplicaLink;
  record: ReplicaRecord;
  codec: BlockCodec;
  clock: Clock;
  random: Random;
  /** Keys of the disks to replicate; empty means all that can be. */
  disks: string[];
  scratchBytes: number;
  momentHeldMs?: number;
  onProgress?: (progress: CycleProgress) => void;
};

export type CycleResult = {
  point: PointRef;
  momentMs: number;
  startedMs: number;
  durationMs: number;
  readBytes: number;
  changedBytes: number;
  wireBytes: number;
  isFirstCopy: boolean;
  isComparing: boolean;
  consistency: Moment['consistency'];
  disks: DiskSpec[];
  /** Of the digest trees of `disks`, in their order: the replica has found the same. */
  roots: string[];
  /** How often the transfer was cut and taken up again. */
  resumes: number;
  /** Why the source could not tidy up after the acknowledgement; its next moment does. */
  leftBehind: Failure | undefined;
};

/** Runs one cycle. Throws the Failure that ended it; whatever it was, the next cycle may be run. */
export async function runCycle(context: CycleContext, signal: AbortSignal): Promise<CycleResult> {
  const cycle = new Cycle(context, signal);
  try {
    return await cycle.run();
  } finally {
    await cycle.close();
  }
}

class Cycle {
  readonly #context: CycleContext;
  readonly #signal: AbortSignal;
  readonly #startedMs: number;
  readonly #startedAt: number;
  #session: ReplicaSession | undefined;
  #closedWireBytes = 0;

  constructor(context: CycleContext, signal: AbortSignal) {
    this.#context = context;
    this.#signal = signal;
    this.#startedMs = context.clock.now();
    this.#startedAt = context.clock.monotonicMs();
  }

  async run(): Promise<CycleResult> {
    const { record, clock } = this.#context;
    const session = await this.#open(record.state.disks, this.#signal);
    const isTrusted = await reconcile(record, session, this.#signal);
    const { moment, since } = await this.#freeze(isTrusted ? record.state.tracking : undefined);
    const point = new Point(this.#context, moment, since);
    let resumes: number;
    try {
      await point.prepare();
      resumes = await this.#sendUntilAcknowledged(point);
    } catch (error) {
      await this.#giveUp(point, error);
      throw error;
    }
    // Either may be first, for the journal that is redone knows the new tracking.
    const [applied, tidy] = await Promise.allSettled([record.applyPending(), tidied(moment)]);
    if (applied.status === 'rejected') {
      if (hasCode(applied.reason, 'storage_corrupt')) await record.doubt();
      throw applied.reason;
    }
    if (tidy.status === 'rejected') throw tidy.reason;
    const leftBehind = tidy.value;
    return {
      point: point.ref,
      momentMs: moment.momentMs,
      startedMs: this.#startedMs,
      durationMs: clock.monotonicMs() - this.#startedAt,
      readBytes: point.counts.readBytes,
      changedBytes: point.counts.changedBytes,
      wireBytes: this.#closedWireBytes + (this.#session?.wireBytes() ?? 0),
      isFirstCopy: point.isFirstCopy,
      isComparing: point.isComparing,
      consistency: moment.consistency,
      disks: moment.disks.map(({ spec }) => spec),
      roots: point.roots,
      resumes,
      leftBehind,
    };
  }

  async close(): Promise<void> {
    const session = this.#session;
    this.#session = undefined;
    if (session === undefined) return;
    this.#closedWireBytes += session.wireBytes();
    await session[Symbol.asyncDispose]();
  }

  async #open(disks: readonly DiskSpec[], signal: AbortSignal): Promise<ReplicaSession> {
    await this.close();
    this.#session = await this.#context.link.open(
      disks.map(({ key, bytes }) => ({ key, bytes })),
      signal,
    );
    return this.#session;
  }

  /** Freezes with the tracking if it holds, and without it if not. */
  async #freeze(since: string | undefined): Promise<{ moment: Moment; since: string | undefined }> {
    const { source, disks, scratchBytes, random } = this.#context;
    const request = { disks, scratchBytes };
    if (since !== undefined) {
      try {
        const next = randomHex(random, 16);
        return { moment: await source.freeze({ ...request, since, next }, this.#signal), since };
      } catch (error) {
        if (!hasCode(error, 'tracking_lost')) throw error;
      }
    }
    const next = randomHex(random, 16);
    return { moment: await source.freeze({ ...request, next }, this.#signal), since: undefined };
  }

  /** Resolves, with the count of resumptions, when the replica has the point. */
  async #sendUntilAcknowledged(point: Point): Promise<number> {
    const { clock, momentHeldMs = MOMENT_HELD_MS } = this.#context;
    const heldFrom = clock.monotonicMs();
    const signal = AbortSignal.any([this.#signal, point.moment.lost]);
    for (let resumes = 0; ; resumes++) {
      try {
        const session = this.#session ?? (await this.#open(point.specs, signal));
        if (resumes > 0 && point.isHeadOf(session)) return resumes;
        await point.send(session, signal);
        return resumes;
      } catch (error) {
        // What ended the moment is the reason, not what it made of the work at hand.
        point.moment.lost.throwIfAborted();
        this.#signal.throwIfAborted();
        const mayResume = failureIn(error)?.retry === 'reconnect' || hasCode(error, 'replica_busy');
        const heldMs = clock.monotonicMs() - heldFrom;
        if (!mayResume || resumes >= RESUMES_MAX || heldMs >= momentHeldMs) throw error;
        await this.close();
        await clock.sleep(resumeDelayMs(resumes), signal);
      }
    }
  }

  async #giveUp(point: Point, error: unknown): Promise<void> {
    const { record } = this.#context;
    const isUnknown = point.commitWasSent && !isRefusal(error);
    // The failure that ended the cycle is the one to tell; what cannot be tidied here is found by the next cycle.
    try {
      if (!isUnknown) await record.discardPending();
      // The replica's digests are not ours: whichever is wrong, both are looked at again.
      if (hasCode(error, 'conflict') || hasCode(error, 'storage_corrupt')) await record.doubt();
      const isBegun = this.#session !== undefined && point.begunIn === this.#session;
      if (isBegun && !point.commitWasSent) await this.#session?.abort(point.ref.stamp);
    } catch (tidyError) {
      if (failureIn(tidyError) === undefined) throw tidyError;
    }
    try {
      await point.moment.release(isUnknown ? 'unknown' : 'given_up');
    } catch (releaseError) {
      if (failureIn(releaseError) === undefined) throw releaseError;
    }
  }
}

/** The point stands whatever happens here, so a failure is told beside it. */
async function tidied(moment: Moment): Promise<Failure | undefined> {
  try {
    await moment.acknowledged();
    return undefined;
  } catch (error) {
    const failure = failureIn(error);
    if (failure === undefined) throw error;
    return failure;
  }
}

/** The replica answered `commit`, and the answer was no. */
function isRefusal(error: unknown): boolean {
  return hasCode(error, 'conflict') || hasCode(error, 'storage_full') || hasCode(error, 'epoch_stale');
}

/** Half a second at first, half a minute at last. */
function resumeDelayMs(resumes: number): number {
  return Math.min(30_000, 500 * 2 ** Math.min(resumes, 6));
}

/** A moment on its way to become a recovery point. */
class Point {
  readonly moment: Moment;
  readonly ref: PointRef;
  readonly isFirstCopy: boolean;
  readonly isComparing: boolean;
  counts: TransferCounts = { readBytes: 0, changedBytes: 0, doneBytes: 0 };
  roots: string[] = [];
  commitWasSent = false;
  /** The session in which the point was begun last: in another one there is nothing to abort. */
  begunIn: ReplicaSession | undefined;
  readonly #context: CycleContext;
  readonly #since: string | undefined;
  readonly #base: PointRef | undefined;
  readonly #disks: TransferDisk[];

  constructor(context: CycleContext, moment: Moment, since: string | undefined) {
    this.moment = moment;
    this.#context = context;
    this.#since = since;
    const { head } = context.record.state;
    this.#base = head === undefined ? undefined : { sequence: head.sequence, stamp: head.stamp };
    this.ref = { sequence: (head?.sequence ?? 0) + 1, stamp: randomHex(context.random, 16) };
    this.isFirstCopy = head === undefined;
    this.#disks = moment.disks.map((disk) => this.#plan(disk));
    this.isComparing = this.#disks.some(({ changed }) => changed === undefined);
  }

  get specs(): DiskSpec[] {
    return this.moment.disks.map(({ spec }) => spec);
  }

  isHeadOf(session: ReplicaSession): boolean {
    return session.opened.head?.stamp === this.ref.stamp;
  }

  /** Makes records for disks that no point has had. */
  async prepare(): Promise<void> {
    const { record } = this.#context;
    for (const { spec } of this.moment.disks) {
      assert.equal(spec.bytes % 512, 0, `${spec.key} is no whole number of sectors`);
      if (this.#known(spec.key) === undefined) await record.addDisk(spec.key, spec.bytes);
    }
  }

  /** Sends all that the replica does not have yet, and commits. Throws `conflict` when the replica has moved on. */
  async send(session: ReplicaSession, signal: AbortSignal): Promise<void> {
    const { record, codec } = this.#context;
    if (session.opened.head?.stamp !== this.#base?.stamp) {
      throw new Failure('conflict', `send point ${this.ref.sequence}: the replica has another head by now`);
    }
    const { momentMs, consistency } = this.moment;
    const begin = { ...this.ref, momentMs, disks: this.specs };
    const skip = await session.begin(this.#base === undefined ? begin : { ...begin, base: this.#base });
    this.begunIn = session;
    await using pending = await record.startPoint();
    const sent = await transfer({
      record,
      codec,
      disks: this.#disks,
      session,
      isFirstCopy: this.isFirstCopy,
      skip,
      pending,
      signal,
      onProgress: (counts) => this.#report(counts),
    });
    this.counts = sent.counts;
    this.roots = sent.roots;
    const attachments = await this.#sendAttachments(session);
    await this.moment.confirm();
    await pending.finish(JSON.stringify(this.#next(sent, session.opened.digestKey)));
    signal.throwIfAborted();
    this.commitWasSent = true;
    const { stamp } = this.ref;
    const { segmentCount, roots } = sent;
    const acknowledged = await session.commit({ stamp, segmentCount, roots, attachments, consistency });
    if (acknowledged.stamp !== stamp || acknowledged.sequence !== this.ref.sequence) {
      throw new Failure(
        'protocol_corrupt',
        `commit point ${this.ref.sequence}: another one was acknowledged`,
      );
    }
  }

  async #sendAttachments(
    session: ReplicaSession,
  ): Promise<{ kind: Moment['attachments'][number]['kind']; sha256: string; bytes: number }[]> {
    const offered = this.moment.attachments.map(({ kind, sha256, bytes }) => ({ kind, sha256, bytes }));
    if (offered.length === 0) return offered;
    const wanted = new Set(await session.offerAttachments(offered));
    for (const attachment of this.moment.attachments) {
      if (!wanted.delete(attachment.sha256)) continue;
      if (attachment.bytes > ATTACHMENT_BYTES_MAX) {
        throw new Failure(
          'limit_exceeded',
          `send ${attachment.kind}: ${attachment.bytes} bytes are too many`,
        );
      }
      await session.attachment(attachment.sha256, await attachment.read());
    }
    return offered;
  }

  #report(counts: Readonly<TransferCounts>): void {
    const totalBytes = this.specs.reduce((sum, { bytes }) => sum + bytes, 0);
    const { isFirstCopy, isComparing } = this;
    this.#context.onProgress?.({ ...counts, totalBytes, isFirstCopy, isComparing });
  }

  #known(key: string): RecordDisk | undefined {
    return this.#context.record.state.disks.find((disk) => disk.key === key);
  }

  #plan(disk: MomentDisk): TransferDisk {
    const known = this.#known(disk.spec.key);
    const isTracked = this.#since !== undefined && known?.imageId === disk.imageId;
    // Asked once here and again for each reading, so that every reading sees it from its beginning.
    const changed = isTracked && disk.changed() !== undefined ? () => disk.changed()! : undefined;
    const compareAgain = known === undefined ? [] : [...known.compareAgain];
    if (known !== undefined && known.bytes !== disk.spec.bytes) {
      // Where a disk ended in the middle of a block, the block's padding has become something else.
      const edge = Math.floor((Math.min(known.bytes, disk.spec.bytes) - 1) / BLOCK_BYTES);
      compareAgain.push({ offset: edge * BLOCK_BYTES, length: BLOCK_BYTES });
    }
    return { disk, changed, compareAgain: normalized(compareAgain, COMPARE_RANGES_MAX) };
  }

  /** The record's state once this point is acknowledged. */
  #next(sent: Transferred, digestKey: string): RecordState {
    const { record } = this.#context;
    const isSameImages = this.moment.disks.every(
      ({ spec, imageId }) => this.#known(spec.key)?.imageId === imageId,
    );
    const kept = isSameImages ? this.#since : undefined;
    const tracking = this.moment.tracking ?? kept;
    const disks = this.moment.disks.map(({ spec, imageId }, index) => {
      const again = [...(this.#known(spec.key)?.compareAgain ?? []), ...sent.changed[index]!];
      // What this moment's own tracking covers starts anew; a powered-off moment leaves the older tracking behind.
      const compareAgain =
        this.moment.tracking === undefined && kept !== undefined ? normalized(again, COMPARE_RANGES_MAX) : [];
      return { key: spec.key, bytes: spec.bytes, imageId, compareAgain };
    });
    const head = { ...this.ref, momentMs: this.moment.momentMs };
    const { replicaId } = record.state;
    const state: RecordState = { replicaId, head, digestKey, disks, isWhole: true };
    if (tracking !== undefined) state.tracking = tracking;
    return state;
  }
}
