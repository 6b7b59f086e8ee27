/**
 * One cycle: learn what the replica holds, freeze a moment, send what differs, have it made durable, acknowledge
 * (docs/architecture.md, "A cycle"). First copy, seed, lost tracking and a resumed copy are this same cycle.
 *
 * What it holds to:
 * - Tracking is believed only when the record is of the replica's head, stamp and roots, and for images that are the
 *   same as then; or since a baseline whose digests are comparable (baseline.ts). Otherwise all is compared (I4).
 * - The journal is durable before `commit` is sent, and the record advances only after the acknowledgement (I2).
 * - A point is offered only after the source confirmed that all that was read was one moment (I1).
 * - A moment is held for a link that is away as long as its scratch and MOMENT_HELD_MS allow (I3, I6).
 * Pure.
 */
import type { Clock } from '#/lib/clock.ts';
import { Failure, failureIn, hasCode } from '#/lib/failure.ts';
import { randomHex, type Random } from '#/lib/random.ts';
import type { DiskSpec, PointRef } from '#/wire/messages.ts';
import type { BaselineStore } from './baseline.ts';
import type { BlockCodec } from './block-codec.ts';
import { MOMENT_HELD_MS, RESUMES_MAX } from './limits.ts';
import type { ReplicaLink, ReplicaSession } from './link.ts';
import { Point, type Since } from './point.ts';
import { reconcile } from './record-sync.ts';
import type { ReplicaRecord } from './replica-record.ts';
import type { Moment, Source } from './source.ts';
import type { TransferCounts } from './transfer.ts';

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
  /** What the VM held when it was recovered, if it was: for the first cycle back. */
  baseline?: BaselineStore;
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
  /** It went on from a baseline: what a recovery had left tracked was enough. */
  isFromBaseline: boolean;
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
  #baseline: ReplicaRecord | undefined;
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
    const baseline = await this.#openBaseline(session);
    const isTrusted = await this.#reconcile(session, baseline);
    const own = isTrusted ? record.state.tracking : undefined;
    const { moment, since } = await this.#freeze(sinceOf(own, baseline));
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
    await this.#dropBaseline();
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
      isFromBaseline: since?.baseline !== undefined && !point.isComparing,
      consistency: moment.consistency,
      disks: moment.disks.map(({ spec }) => spec),
      roots: point.roots,
      resumes,
      leftBehind,
    };
  }

  async close(): Promise<void> {
    await this.#baseline?.[Symbol.asyncDispose]();
    this.#baseline = undefined;
    await this.#closeSession();
  }

  async #closeSession(): Promise<void> {
    const session = this.#session;
    this.#session = undefined;
    if (session === undefined) return;
    this.#closedWireBytes += session.wireBytes();
    await session[Symbol.asyncDispose]();
  }

  async #reconcile(session: ReplicaSession, baseline: ReplicaRecord | undefined): Promise<boolean> {
    try {
      return await reconcile(this.#context.record, session, { baseline, signal: this.#signal });
    } catch (error) {
      // Whichever record is torn: this one's groups are fetched anew, and the baseline is never asked again.
      if (hasCode(error, 'storage_corrupt')) await this.#dropBaseline();
      throw error;
    }
  }

  /** The baseline, when its digests can be compared with the replica's and nothing newer tracks the VM. */
  async #openBaseline({ opened }: ReplicaSession): Promise<ReplicaRecord | undefined> {
    const { baseline: store, record } = this.#context;
    if (store === undefined || opened.head === undefined) return undefined;
    if ((await store.digestKey()) !== opened.digestKey) return undefined;
    if (record.state.tracking !== undefined) {
      await store.drop(record.state.tracking);
      return undefined;
    }
    this.#baseline = await store.open();
    return this.#baseline;
  }

  /** What was acknowledged is newer than it, or it cannot be believed. */
  async #dropBaseline(): Promise<void> {
    const baseline = this.#baseline;
    this.#baseline = undefined;
    if (baseline === undefined) return;
    await baseline[Symbol.asyncDispose]();
    await this.#context.baseline?.drop(this.#context.record.state.tracking);
  }

  async #open(disks: readonly DiskSpec[], signal: AbortSignal): Promise<ReplicaSession> {
    await this.#closeSession();
    this.#session = await this.#context.link.open(
      disks.map(({ key, bytes }) => ({ key, bytes })),
      signal,
    );
    return this.#session;
  }

  /** Freezes with the tracking if it holds, and without it if not. */
  async #freeze(since: Since | undefined): Promise<{ moment: Moment; since: Since | undefined }> {
    const { source, disks, scratchBytes, random } = this.#context;
    const request = { disks, scratchBytes };
    if (since !== undefined) {
      try {
        const next = randomHex(random, 16);
        const wanted = { ...request, since: since.tracking, next };
        return { moment: await source.freeze(wanted, this.#signal), since };
      } catch (error) {
        if (!hasCode(error, 'tracking_lost')) throw error;
        await this.#dropBaseline();
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
        await this.#closeSession();
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
      if (hasCode(error, 'conflict') || hasCode(error, 'storage_corrupt')) {
        await record.doubt();
        await this.#dropBaseline();
      }
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

/** The record's own tracking, or the baseline's. */
function sinceOf(own: string | undefined, baseline: ReplicaRecord | undefined): Since | undefined {
  if (own !== undefined) return { tracking: own, baseline: undefined };
  const tracking = baseline?.state.tracking;
  return tracking === undefined ? undefined : { tracking, baseline };
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
