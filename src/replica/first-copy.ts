/**
 * A first copy: while the replica has no point, segments go straight into the base (docs/storage-format.md, 5.3).
 *
 * What is there survives every end of the transfer as a seed: its digests tell the next try what differs. Pure.
 */
import assert from 'node:assert/strict';
import { blockCount } from '#/disk/disk.ts';
import { Failure } from '#/lib/failure.ts';
import { decodeSegment } from '#/wire/segment.ts';
import { BaseWriter } from './base-writer.ts';
import type { DiskState } from './disk-state.ts';
import { removeIfThere } from './files.ts';
import { SPACE_CHECK_BYTES } from './limits.ts';
import type { PointEntry } from './log-record.ts';
import type { CommitRequest, PointIntent } from './replica.ts';
import { checkRoots, checkSpace, type ReplicaCore } from './replica-core.ts';
import { basePath } from './store-place.ts';

export class FirstCopy implements AsyncDisposable {
  readonly stamp: string;
  readonly #core: ReplicaCore;
  readonly #intent: PointIntent;
  readonly #disks: DiskState[];
  readonly #writers: BaseWriter[];
  #segmentCount = 0;
  #bytes = 0;
  #uncheckedBytes = 0;
  #last: Promise<void> = Promise.resolve();

  static async begin(core: ReplicaCore, intent: PointIntent): Promise<FirstCopy> {
    const writers: BaseWriter[] = [];
    try {
      for (const disk of core.disks) writers.push(await BaseWriter.open(disk, core.limits.barrierBytes));
    } catch (error) {
      for (const writer of writers) await writer[Symbol.asyncDispose]();
      throw error;
    }
    return new FirstCopy(core, intent, writers);
  }

  private constructor(core: ReplicaCore, intent: PointIntent, writers: BaseWriter[]) {
    this.stamp = intent.stamp;
    this.#core = core;
    this.#intent = intent;
    this.#disks = core.disks;
    this.#writers = writers;
  }

  get segmentCount(): number {
    return this.#segmentCount;
  }

  /** `release` is called when the bytes are in the file. */
  write(bytes: Uint8Array, release: () => void): Promise<void> {
    const done = this.#last.then(() => this.#write(bytes, release));
    this.#last = done.catch(() => undefined);
    return done;
  }

  async commit(request: CommitRequest): Promise<PointEntry> {
    await this.#last;
    await this.barrier();
    const roots = this.#disks.map(({ tree }) => tree.root);
    checkRoots(
      this.#disks.map(({ disk }) => disk),
      roots,
      request.roots,
    );
    const { sequence, stamp, momentMs, epoch } = this.#intent;
    const point: PointEntry = {
      sequence,
      stamp,
      momentMs,
      acknowledgedMs: this.#core.clock.now(),
      epoch,
      consistency: request.consistency,
      disks: this.#disks.map(({ disk }, index) => ({ ...disk, root: roots[index]! })),
      attachments: request.attachments,
      bytes: this.#bytes,
    };
    await this.#core.log.append({ kind: 'point', point, deltas: [] });
    await this[Symbol.asyncDispose]();
    for (const { disk, place } of this.#disks) {
      // The point is durable whatever becomes of the marks: the next opening takes away what stays.
      await removeIfThere(place.files, basePath(place.directory, disk.id, 'base.marks')).catch(
        () => undefined,
      );
    }
    return point;
  }

  /** Makes durable what is there, with its digests. */
  async barrier(): Promise<void> {
    await this.#last;
    for (const writer of this.#writers) await writer.barrier();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#last;
    for (const writer of this.#writers.splice(0)) await writer[Symbol.asyncDispose]();
  }

  async #write(bytes: Uint8Array, release: () => void): Promise<void> {
    const blocksOf = (disk: number): number | undefined => {
      const state = this.#disks[disk];
      return state && blockCount(state.disk.bytes);
    };
    const segment = decodeSegment(bytes, blocksOf, this.#core.place.digestKey);
    this.#uncheckedBytes += bytes.length;
    if (this.#uncheckedBytes >= SPACE_CHECK_BYTES) {
      this.#uncheckedBytes = 0;
      await checkSpace(this.#core);
    }
    const writer = this.#writers[segment.disk];
    assert(writer, 'write to a first copy that has ended');
    try {
      await writer.write(segment, release);
    } catch (error) {
      throw error instanceof Failure
        ? error
        : new Failure('storage_io', 'write a first copy', { cause: error });
    }
    this.#segmentCount++;
    this.#bytes += bytes.length;
  }
}
