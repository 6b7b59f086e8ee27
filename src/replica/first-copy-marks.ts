/**
 * The marks of a first copy: which parts of a base may hold bytes that its digests do not know
 * (docs/storage-format.md, section 5.3).
 *
 * One byte for each node of level 1, in `base.marks`: zero is unmarked, anything else is marked. Invariant: a node is
 * marked, durably, before a byte below it is written, and unmarked only after its digests are durable.
 */
import type { File } from '#/disk/file-system.ts';
import { MARK_NODES } from './limits.ts';

const MARKED = 0xa5;

export class FirstCopyMarks {
  readonly #file: File;
  /** Groups of MARK_NODES nodes that are marked durably. */
  readonly #marked = new Set<number>();
  #last: Promise<unknown> = Promise.resolve();

  constructor(file: File) {
    this.#file = file;
  }

  /** Resolves when the nodes from `first` to `last` are marked durably. */
  async mark(first: number, last: number): Promise<void> {
    for (let group = groupOf(first); group <= groupOf(last); group++) {
      if (!this.#marked.has(group)) await this.#inTurn(() => this.#mark(group));
    }
  }

  /** Takes marks away but those that `isNeeded`. It need not be durable: a mark too many costs a read. */
  unmark(isNeeded: (group: number) => boolean): Promise<void> {
    return this.#inTurn(async () => {
      for (const group of this.#marked) {
        if (isNeeded(group)) continue;
        this.#marked.delete(group);
        await this.#file.write(group * MARK_NODES, new Uint8Array(MARK_NODES));
      }
    });
  }

  async #mark(group: number): Promise<void> {
    if (this.#marked.has(group)) return;
    await this.#file.write(group * MARK_NODES, new Uint8Array(MARK_NODES).fill(MARKED));
    await this.#file.datasync();
    this.#marked.add(group);
  }

  #inTurn(action: () => Promise<void>): Promise<void> {
    const done = this.#last.then(action);
    this.#last = done.catch(() => undefined);
    return done;
  }
}

export function groupOf(node: number): number {
  return Math.floor(node / MARK_NODES);
}

/** Marks a node whose meaning is about to change. */
export async function markDurably(file: File, node: number): Promise<void> {
  await file.write(node, Uint8Array.of(MARKED));
  await file.datasync();
}
