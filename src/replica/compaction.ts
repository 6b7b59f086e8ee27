/**
 * Compaction of a replica: takes unwanted points from the log, merges delta files, lays the oldest into the base, one
 * bounded step at a time (docs/storage-format.md, section 9).
 *
 * I1: a point is taken from the log, durably, before anything it needs is changed; a point that is open as a view is
 * wanted; the newest always is. Ingest goes on meanwhile. Pure.
 */
import { wantedPoints } from '#/lib/wanted-points.ts';
import { AttachmentStore } from './attachment-store.ts';
import { advanceBase } from './base-advance.ts';
import { nextStep, type CompactionStep } from './compaction-plan.ts';
import { DeltaFile, deltaPath, openDelta } from './delta-file.ts';
import { DeltaWriter } from './delta-writer.ts';
import { pathIn, removeIfThere } from './files.ts';
import type { DeltaEntry } from './log-record.ts';
import { mergedDisks, mergeInto } from './merge.ts';
import { sweepDisks } from './open-store.ts';
import type { ReplicaCore } from './replica-core.ts';
import type { RetentionPolicy } from './replica.ts';

export class Compaction implements AsyncDisposable {
  readonly #core: ReplicaCore;
  readonly #attachments: AttachmentStore;
  /** How many views are open of each point. */
  readonly #pins = new Map<number, number>();
  /** Points whose record of pruning is being written: not offered any more. */
  readonly #pruning = new Set<number>();
  #last: Promise<unknown> = Promise.resolve();
  #hasEnded = false;

  constructor(core: ReplicaCore, attachments: AttachmentStore) {
    this.#core = core;
    this.#attachments = attachments;
  }

  isOffered(sequence: number): boolean {
    return !this.#pruning.has(sequence);
  }

  /** Keeps what a point needs until the returned function is called. */
  pin(sequence: number): () => void {
    this.#pins.set(sequence, (this.#pins.get(sequence) ?? 0) + 1);
    return () => {
      const count = (this.#pins.get(sequence) ?? 1) - 1;
      if (count > 0) this.#pins.set(sequence, count);
      else this.#pins.delete(sequence);
    };
  }

  /** One step; false when there is none to do. Steps run one after another. */
  step(policy: RetentionPolicy, nowMs: number): Promise<boolean> {
    const done = this.#last.then(() => (this.#hasEnded ? false : this.#step(policy, nowMs)));
    this.#last = done.catch(() => undefined);
    return done;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#hasEnded = true;
    await this.#last;
  }

  async #step(policy: RetentionPolicy, nowMs: number): Promise<boolean> {
    const { log, place, deltas } = this.#core;
    const freeBytes = await place.files.freeBytes();
    const { state } = log;
    const old = state.points.filter(({ momentMs }) => nowMs - momentMs >= policy.keepAllMs);
    const step = nextStep({
      state,
      wanted: wantedPoints(state.points, policy, nowMs),
      pinned: new Set(this.#pins.keys()),
      settledThrough: old.at(-1)?.sequence ?? 0,
      freeBytes,
      blocksOf: ({ number }) =>
        deltas.get(number)!.footer.tables.reduce((sum, { locations }) => sum + locations.count, 0),
    });
    if (step === undefined) return false;
    await this.#run(step);
    return true;
  }

  #run(step: CompactionStep): Promise<void> {
    switch (step.kind) {
      case 'prune':
        return this.#prune(step.sequences);
      case 'advance':
        return this.#advance(step.delta);
      case 'merge':
        return this.#merge(step.deltas);
    }
  }

  async #prune(sequences: number[]): Promise<void> {
    const { log, place, expectedAttachments } = this.#core;
    const gone = new Set(sequences);
    const pruned = log.state.points.filter(({ sequence }) => gone.has(sequence));
    for (const sequence of sequences) this.#pruning.add(sequence);
    try {
      await log.append({ kind: 'pruned', sequences });
    } finally {
      this.#pruning.clear();
    }
    const hashes = new Set(pruned.flatMap(({ attachments }) => attachments.map(({ sha256 }) => sha256)));
    for (const sha256 of hashes) {
      const isUsed = log.state.points.some((point) =>
        point.attachments.some((each) => each.sha256 === sha256),
      );
      if (!isUsed && !expectedAttachments.has(sha256)) await this.#attachments.remove(sha256);
    }
    await sweepDisks(place.files, place.directory, log.state);
  }

  async #advance(entry: DeltaEntry): Promise<void> {
    const { log, place, deltas } = this.#core;
    const delta = deltas.get(entry.number)!;
    await advanceBase(place, delta, (id) => this.#isNeeded(id));
    await log.append({ kind: 'advanced', removed: entry.number, base: entry.last });
    await this.#replace([delta], 0, delta);
  }

  async #merge(entries: DeltaEntry[]): Promise<void> {
    const { log, place, deltas } = this.#core;
    const inputs = entries.map(({ number }) => deltas.get(number)!);
    const number = this.#core.takeDeltaNumber();
    const temporary = pathIn(place.directory, 'deltas/merging.new');
    const merged = await this.#writeMerged(inputs, { number, temporary });
    try {
      await log.append({ kind: 'merged', removed: entries.map((each) => each.number), delta: merged.entry });
    } catch (error) {
      // A file that a record in doubt may name stays; the replica's next opening decides.
      if (log.isSettled) await merged.release();
      throw error;
    }
    deltas.set(number, merged);
    await this.#replace(inputs, number, merged);
  }

  async #writeMerged(
    inputs: DeltaFile[],
    { number, temporary }: { number: number; temporary: string },
  ): Promise<DeltaFile> {
    const { files, directory, pool, tag, digestKey } = this.#core.place;
    const [oldest, newest] = [inputs[0]!, inputs.at(-1)!];
    const range = { first: oldest.entry.first, last: newest.entry.last };
    const level = Math.max(...inputs.map(({ entry }) => entry.level)) + 1;
    await pool.close(temporary);
    await removeIfThere(files, temporary);
    const file = await files.open(temporary, 'create-new');
    {
      const disks = mergedDisks(inputs, (id) => this.#isNeeded(id));
      const header = { tag, stamp: newest.header.stamp, ...range, part: 0, disks };
      await using writer = await DeltaWriter.begin(file, header);
      await mergeInto(writer, inputs);
      await checkWritten({ pool, path: temporary, tag, digestKey }, { number, ...range, level, bytes: 0 });
      await writer.datasync();
    }
    const bytes = await pool.use(temporary, (each) => each.bytes());
    await pool.close(temporary);
    await files.rename(temporary, deltaPath(directory, number));
    await files.syncDirectory(pathIn(directory, 'deltas'));
    return openDelta(this.#core.place, { number, ...range, level, bytes });
  }

  /** Lets the head look into `delta`, or the base when `number` is 0, where it looked into `old`; `old` may go. */
  async #replace(old: DeltaFile[], number: number, delta: DeltaFile): Promise<void> {
    const numbers = new Set(old.map(({ entry }) => entry.number));
    for (const state of this.#core.disks) {
      const place = delta.placeOf(state.disk.id);
      if (place >= 0) state.relocate(numbers, number, await delta.nodes(place));
    }
    for (const each of old) {
      this.#core.deltas.delete(each.entry.number);
      await each.release();
    }
  }

  #isNeeded(diskId: number): boolean {
    return this.#core.log.state.points.some(({ disks }) => disks.some(({ id }) => id === diskId));
  }
}

/** I1: what was written is read back before anything relies on it. */
async function checkWritten(place: Parameters<typeof DeltaFile.open>[0], entry: DeltaEntry): Promise<void> {
  const delta = await DeltaFile.open(place, entry);
  for (const disk of delta.header.disks.keys()) {
    await delta.locations(disk);
    await delta.zeros(disk);
    await delta.nodes(disk);
  }
}
