/**
 * A replica directory as one sees it who holds no lock: for the command line, while a replication server may be
 * writing to it (docs/storage-format.md, section 11).
 *
 * I1, without pins: a point is taken from the log, durably, before anything it needs is changed. So whatever was read
 * is the point's, if the log names the point afterwards; else the reader learns `point_expired`. Pure.
 */
import { Failure, hasCode } from '#/lib/failure.ts';
import type { FileSystem } from '#/disk/file-system.ts';
import { AttachmentStore } from './attachment-store.ts';
import { openDelta, type DeltaFile } from './delta-file.ts';
import { DigestDisk } from './digest-disk.ts';
import { HandlePool } from './handle-pool.ts';
import { DELTAS_MAX } from './limits.ts';
import { deltasUpTo, pointAt, type LogState } from './log-state.ts';
import { readIdentity } from './open-store.ts';
import { LogReader } from './point-log.ts';
import { absent, recoveryPoints } from './recovery-points.ts';
import type { RecoveryPoint, ReplicaIdentity, VerifyReport, View } from './replica.ts';
import { storedBytes } from './stored-bytes.ts';
import type { StorePlace } from './store-place.ts';
import { replicaTag } from './superblock.ts';
import { verifyReplica } from './verify.ts';
import { openDisks } from './view.ts';

/** A delta file may be merged away between the log and its opening; then the log is read again, this often. */
const TRIES = 5;

export class BareReplica {
  readonly identity: ReplicaIdentity;
  readonly #files: FileSystem;
  readonly #directory: string;
  readonly #log: LogReader;
  readonly #attachments: AttachmentStore;

  /** Throws not_found when the directory holds no replica, storage_corrupt. */
  static async open(files: FileSystem, directory = ''): Promise<BareReplica> {
    return new BareReplica(await readIdentity(files, directory), files, directory);
  }

  private constructor(identity: ReplicaIdentity, files: FileSystem, directory: string) {
    this.identity = identity;
    this.#files = files;
    this.#directory = directory;
    this.#log = new LogReader({ files, directory, tag: replicaTag(identity.replicaId) });
    this.#attachments = new AttachmentStore(files, directory);
  }

  /** Ascending. */
  async points(): Promise<RecoveryPoint[]> {
    return recoveryPoints(await this.#log.refresh(), () => true);
  }

  async epoch(): Promise<number> {
    return (await this.#log.refresh()).epoch;
  }

  attachment(sha256: string): Promise<Uint8Array> {
    return this.#attachments.get(sha256);
  }

  /** Throws not_found, point_expired; so does every read of its disks. */
  async openView(sequence: number): Promise<View> {
    for (let tries = 1; ; tries++) {
      const state = await this.#log.refresh();
      const point = pointAt(state, sequence);
      if (point === undefined) throw absent(sequence, state.head);
      try {
        return await this.#open(state, sequence);
      } catch (error) {
        const isRace = hasCode(error, 'not_found') || hasCode(error, 'storage_corrupt');
        const hasMoved = (await this.#log.refresh()) !== state;
        if (!isRace || !hasMoved || tries === TRIES) throw error;
      }
    }
  }

  async storedBytes(): Promise<number> {
    const place = this.#place();
    await using _ = place.pool;
    return storedBytes(place, await this.#log.refresh());
  }

  async verify(
    progress?: (done: number, total: number) => void,
    signal?: AbortSignal,
  ): Promise<VerifyReport> {
    const points = await this.points();
    const open = async (sequence: number): Promise<View | undefined> => {
      try {
        return await this.openView(sequence);
      } catch (error) {
        if (hasCode(error, 'point_expired')) return undefined;
        throw error;
      }
    };
    const { digestKey } = this.identity;
    const attachment = (sha256: string): Promise<Uint8Array> => this.attachment(sha256);
    return verifyReplica({ points, digestKey, open, attachment }, progress, signal);
  }

  async #open(state: LogState, sequence: number): Promise<View> {
    const place = this.#place();
    try {
      const deltas: DeltaFile[] = [];
      for (const entry of deltasUpTo(state, sequence)) deltas.push(await openDelta(place, entry));
      const entry = pointAt(state, sequence)!;
      const disks = await openDisks(place, { point: entry, deltas }, () => this.#confirm(sequence));
      const point = recoveryPoints(state, (each) => each === sequence)[0]!;
      // The delta files are left alone: only who writes the replica removes any.
      const digests = disks.map((disk) => new DigestDisk(disk));
      return { point, disks, digests, [Symbol.asyncDispose]: () => place.pool[Symbol.asyncDispose]() };
    } catch (error) {
      await place.pool[Symbol.asyncDispose]();
      throw error;
    }
  }

  async #confirm(sequence: number): Promise<void> {
    if (pointAt(await this.#log.refresh(), sequence) !== undefined) return;
    throw new Failure('point_expired', `read point ${sequence}: retention has merged it away meanwhile`, {
      hint: 'Take a newer point.',
    });
  }

  /** All files stay open: a delta file that is merged away meanwhile can still be read. */
  #place(): StorePlace {
    const pool = new HandlePool(this.#files, 'read', DELTAS_MAX * 2);
    const { replicaId, digestKey } = this.identity;
    return { files: this.#files, directory: this.#directory, tag: replicaTag(replicaId), digestKey, pool };
  }
}
