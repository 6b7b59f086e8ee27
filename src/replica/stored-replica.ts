/**
 * A replica in its directory: the one implementation of `Replica` (docs/storage-format.md).
 *
 * Who opens one for writing holds the directory's lock. Pure: files and clock are given.
 */
import { blockCount } from '#/disk/disk.ts';
import { levelCount, rootLevel } from '#/disk/digest-tree.ts';
import { Failure } from '#/lib/failure.ts';
import { DIGESTS_MAX } from '#/wire/limits.ts';
import type { Attachment, DiskSpec } from '#/wire/messages.ts';
import { AttachmentStore } from './attachment-store.ts';
import { Compaction } from './compaction.ts';
import { DigestDisk } from './digest-disk.ts';
import type { DiskState } from './disk-state.ts';
import { readDigests } from './digest-reader.ts';
import { deltasUpTo, pointAt, type LogState } from './log-state.ts';
import { createStore, openCore, readIdentity, type ReplicaOptions } from './open-store.ts';
import { Receiving } from './receiving.ts';
import { absent, recoveryPoints } from './recovery-points.ts';
import type {
  PointIntent,
  PointWriter,
  RecoveryPoint,
  Replica,
  ReplicaIdentity,
  RetentionPolicy,
  VerifyReport,
  View,
} from './replica.ts';
import type { ReplicaCore } from './replica-core.ts';
import { storedBytes } from './stored-bytes.ts';
import { verifyReplica } from './verify.ts';
import { openDisks } from './view.ts';

/** Makes an empty replica and opens it. Throws already_exists. */
export async function createReplica(options: ReplicaOptions, identity: ReplicaIdentity): Promise<Replica> {
  await createStore(options, identity);
  return openReplica(options);
}

/** Opens a replica for reading and writing; the caller holds its lock. Throws not_found, storage_corrupt. */
export async function openReplica(options: ReplicaOptions): Promise<Replica> {
  const identity = await readIdentity(options.files, options.directory ?? '');
  return new StoredReplica(identity, await openCore(options, identity));
}

class StoredReplica implements Replica {
  readonly identity: ReplicaIdentity;
  readonly #core: ReplicaCore;
  readonly #attachments: AttachmentStore;
  readonly #receiving: Receiving;
  readonly #compaction: Compaction;

  constructor(identity: ReplicaIdentity, core: ReplicaCore) {
    this.identity = identity;
    this.#core = core;
    this.#attachments = new AttachmentStore(core.place.files, core.place.directory);
    this.#receiving = new Receiving(core, this.#attachments);
    this.#compaction = new Compaction(core, this.#attachments);
  }

  get digestKey(): string {
    return this.identity.digestKey;
  }

  points(): readonly RecoveryPoint[] {
    return recoveryPoints(this.#state, (sequence) => this.#compaction.isOffered(sequence));
  }

  head(): RecoveryPoint | undefined {
    return this.points().at(-1);
  }

  epoch(): number {
    return this.#state.epoch;
  }

  async raiseEpoch(epoch: number): Promise<void> {
    if (epoch > this.#state.epoch) await this.#core.log.append({ kind: 'epoch', epoch });
  }

  async state(): Promise<{
    disks: (DiskSpec & { root: string })[];
    partial?: { stamp: string; segmentCount: number };
  }> {
    const partial = await this.#receiving.partial();
    const disks = this.#core.disks.map(({ disk, tree }) => ({
      key: disk.key,
      bytes: disk.bytes,
      root: tree.root,
    }));
    return { disks, ...(partial && { partial }) };
  }

  async digests(disk: number, level: number, first: number, count: number): Promise<Uint8Array> {
    await this.#receiving.recover();
    const state = this.#core.disks[disk];
    checkDigestRange(state, { level, first, count });
    return readDigests(state, { level, first, count });
  }

  begin(intent: PointIntent): Promise<PointWriter> {
    return this.#receiving.begin(intent);
  }

  async missingAttachments(attachments: readonly Attachment[]): Promise<string[]> {
    const missing: string[] = [];
    for (const { sha256 } of attachments) {
      this.#core.expectedAttachments.add(sha256);
      if (!(await this.#attachments.has(sha256))) missing.push(sha256);
    }
    return missing;
  }

  putAttachment(sha256: string, bytes: Uint8Array): Promise<void> {
    this.#core.expectedAttachments.add(sha256);
    return this.#attachments.put(sha256, bytes);
  }

  attachment(sha256: string): Promise<Uint8Array> {
    return this.#attachments.get(sha256);
  }

  async openView(sequence: number): Promise<View> {
    const point = this.points().find((each) => each.sequence === sequence);
    const entry = pointAt(this.#state, sequence);
    if (point === undefined || entry === undefined) throw absent(sequence, this.#state.head);
    // Pinned before anything is awaited: from here on compaction leaves alone what the point needs.
    const unpin = this.#compaction.pin(sequence);
    const deltas = deltasUpTo(this.#state, sequence).map(({ number }) =>
      this.#core.deltas.get(number)!.hold(),
    );
    const close = async (): Promise<void> => {
      unpin();
      for (const delta of deltas.splice(0)) await delta.release();
    };
    try {
      const disks = await openDisks(this.#core.place, { point: entry, deltas }, () => Promise.resolve());
      const digests = disks.map((disk) => new DigestDisk(disk));
      return { point, disks, digests, [Symbol.asyncDispose]: close };
    } catch (error) {
      await close();
      throw error;
    }
  }

  compact(policy: RetentionPolicy, nowMs: number): Promise<boolean> {
    return this.#compaction.step(policy, nowMs);
  }

  storedBytes(): Promise<number> {
    return storedBytes(this.#core.place, this.#state);
  }

  verify(progress?: (done: number, total: number) => void, signal?: AbortSignal): Promise<VerifyReport> {
    const open = async (sequence: number): Promise<View | undefined> =>
      this.#compaction.isOffered(sequence) && pointAt(this.#state, sequence) !== undefined
        ? this.openView(sequence)
        : undefined;
    const attachment = (sha256: string): Promise<Uint8Array> => this.attachment(sha256);
    return verifyReplica(
      { points: this.points(), digestKey: this.digestKey, open, attachment },
      progress,
      signal,
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#compaction[Symbol.asyncDispose]();
    await this.#receiving[Symbol.asyncDispose]();
    await this.#core.place.pool[Symbol.asyncDispose]();
    await this.#core.log[Symbol.asyncDispose]();
  }

  get #state(): LogState {
    return this.#core.log.state;
  }
}

function checkDigestRange(
  state: DiskState | undefined,
  { level, first, count }: { level: number; first: number; count: number },
): asserts state {
  const blocks = state && blockCount(state.disk.bytes);
  const isValid =
    blocks !== undefined &&
    level >= 0 &&
    level <= rootLevel(blocks) &&
    first >= 0 &&
    count >= 0 &&
    count <= DIGESTS_MAX &&
    first + count <= (level === 0 ? blocks : levelCount(blocks, level));
  if (!isValid) throw new Failure('usage_invalid', `read ${count} digests of level ${level} from ${first}`);
}
