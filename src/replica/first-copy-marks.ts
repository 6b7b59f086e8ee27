/**
 * The marks of a first copy: which parts of a base may hold bytes that its digests do not know
 * (docs/storage-format.md, section 5.3).
 *
 * One byte for each node of level 1, in `base.marks`: zero is unmarked, anything else is marked. Invariant: a node is
 * marked, durably, before a byte below it is written, and unmarked only after its digests are durable. Blocks come
 * in ascending order, so the next nodes are marked while blocks arrive for the ones before: nobody waits for the sync.
 */
import type { File } from '#/disk/file-system.ts';
import { MARK_NODES } from './limits.ts';

const MARKED = 0xa5;

export class FirstCopyMarks {
  readonly #file: File;
  /** Groups of MARK_NODES nodes that are marked durably. */
  readonly #marked = new Set<number>();
  readonly #nodes: number;
  /** The group that is marked, or being marked, before it is needed. */
  #ahead = -1;
  #last: Promise<unknown> = Promise.resolve();

  /** `nodes` of level 1 are there to be marked. */
  constructor(file: File, nodes: number) {
    this.#file = file;
    this.#nodes = nodes;
  }

  /** Resolves when the nodes from `first` to `last` are marked durably. */
  async mark(first: number, last: number): Promise<void> {
    for (let group = groupOf(first); group <= groupOf(last); group++) {
      if (!this.#marked.has(group)) await this.#inTurn(() => this.#mark(group));
    }
    this.#markAhead(groupOf(last) + 1);
  }

  /** Takes marks away but those that `isNeeded`. It need not be durable: a mark too many costs a read. */
  unmark(isNeeded: (group: number) => boolean): Promise<void> {
    return this.#inTurn(async () => {
      for (const group of this.#marked) {
        if (isNeeded(group) || group === this.#ahead) continue;
        this.#marked.delete(group);
        await this.#file.write(group * MARK_NODES, new Uint8Array(MARK_NODES));
      }
    });
  }

  /** A mark that fails is tried again, and the failure told, once the group is needed. */
  #markAhead(group: number): void {
    if (group === this.#ahead || group * MARK_NODES >= this.#nodes) return;
    this.#ahead = group;
    this.#inTurn(() => this.#mark(group)).catch(() => undefined);
  }

  /** Resolves when no mark is on its way to the file. */
  async settle(): Promise<void> {
    await this.#last;
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
