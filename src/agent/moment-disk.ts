/** A disk of a moment, read over NBD: what its server loses is the moment's loss, not a link's. */
import type { Disk, Extent } from '#/disk/disk.ts';
import { Failure, failureIn } from '#/lib/failure.ts';
import type { NbdDisk } from '#/nbd/nbd-client.ts';
import type { Range } from '#/replication/ranges.ts';

export class ExportedDisk implements Disk {
  readonly #nbd: NbdDisk;
  readonly #lose: (reason: Failure) => void;

  /** `lose` is told when the export is gone. */
  constructor(nbd: NbdDisk, lose: (reason: Failure) => void) {
    this.#nbd = nbd;
    this.#lose = lose;
  }

  get bytes(): number {
    return this.#nbd.bytes;
  }

  read(offset: number, target: Uint8Array, signal?: AbortSignal): Promise<void> {
    return this.#guarded(() => this.#nbd.read(offset, target, signal));
  }

  extents(offset: number, length: number, signal?: AbortSignal): Promise<Extent[]> {
    return this.#guarded(() => this.#nbd.extents(offset, length, signal));
  }

  /** What the export's dirty bitmap names; neighbours come as one. */
  async *changed(): AsyncGenerator<Range> {
    let last: Range | undefined;
    for (let at = 0; at < this.bytes;) {
      const from = at;
      for (const { offset, length, isDirty } of await this.#guarded(() =>
        this.#nbd.dirtyExtents(from, this.bytes - from),
      )) {
        at = offset + length;
        if (!isDirty) continue;
        if (last !== undefined && last.offset + last.length === offset) {
          last.length += length;
          continue;
        }
        if (last !== undefined) yield last;
        last = { offset, length };
      }
    }
    if (last !== undefined) yield last;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#nbd[Symbol.asyncDispose]();
  }

  async #guarded<Result>(work: () => Promise<Result>): Promise<Result> {
    try {
      return await work();
    } catch (error) {
      if (failureIn(error)?.retry !== 'reconnect') throw error;
      const reason = new Failure('tracking_lost', 'read the moment: its export is gone', { cause: error });
      this.#lose(reason);
      throw reason;
    }
  }
}
