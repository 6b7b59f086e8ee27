/**
 * A moment on its way to become a recovery point: what of it is read, what is sent, what the record will say.
 *
 * Invariant: the journal is durable before `commit` is sent, and `commit` is sent only after the source confirmed that
 * all that was read was one moment (I1, I2). Pure.
 */
import assert from 'node:assert/strict';
import { BLOCK_BYTES } from '#/disk/disk.ts';
import { Failure } from '#/lib/failure.ts';
import { randomHex } from '#/lib/random.ts';
import type { DiskSpec, PointRef } from '#/wire/messages.ts';
import { differing } from './baseline.ts';
import type { CycleContext } from './cycle.ts';
import { ATTACHMENT_BYTES_MAX, COMPARE_RANGES_MAX } from './limits.ts';
import type { ReplicaSession } from './link.ts';
import { merged, normalized } from './ranges.ts';
import type { RecordDisk, RecordState, ReplicaRecord } from './replica-record.ts';
import type { Moment, MomentDisk } from './source.ts';
import { transfer, type TransferCounts, type TransferDisk, type Transferred } from './transfer.ts';

/** The tracking that a moment goes on from: of the record's head, or of the baseline. */
export type Since = { tracking: string; baseline: ReplicaRecord | undefined };

export class Point {
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
  readonly #since: Since | undefined;
  readonly #base: PointRef | undefined;
  readonly #disks: TransferDisk[];

  constructor(context: CycleContext, moment: Moment, since: Since | undefined) {
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

  /** The disk as the tracking is about it; undefined when there is none, or none of this disk. */
  #tracked(key: string): RecordDisk | undefined {
    const known = this.#known(key);
    const baseline = this.#since?.baseline;
    if (baseline === undefined) return this.#since === undefined ? undefined : known;
    // Of another length, blocks at the end would have no digest to be compared with.
    return baseline.state.disks.find((disk) => disk.key === key && disk.bytes === known?.bytes);
  }

  /** Asked once here and again for each reading, so that every reading sees it from its beginning. */
  #changed(disk: MomentDisk): TransferDisk['changed'] {
    const { key } = disk.spec;
    if (this.#tracked(key)?.imageId !== disk.imageId || disk.changed() === undefined) return undefined;
    const baseline = this.#since?.baseline;
    if (baseline === undefined) return () => disk.changed()!;
    const then = baseline.digests(key);
    const there = this.#context.record.digests(key);
    return () => merged(disk.changed()!, differing(then, there));
  }

  #plan(disk: MomentDisk): TransferDisk {
    const known = this.#known(disk.spec.key);
    const changed = this.#changed(disk);
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
      ({ spec, imageId }) => this.#tracked(spec.key)?.imageId === imageId,
    );
    const kept = isSameImages ? this.#since?.tracking : undefined;
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
