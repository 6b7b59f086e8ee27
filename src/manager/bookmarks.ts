/**
 * Recovery points that have a name, and are kept by it whatever the retention wants. They go to the replication server
 * with its orders, which stand beside the replica: it compacts nothing that its orders do not speak of, so a point
 * whose bookmark it has confirmed stays, also through the loss of this database.
 *
 * I7: a point is said to be kept when its server says so, not when it was asked.
 */
import type { BookmarkRequest, BookmarkView } from '#/api/replicas.ts';
import { BOOKMARKS_MAX, isLasting, type Bookmark } from '#/control/orders.ts';
import { Failure } from '#/lib/failure.ts';
import type { Context } from './context.ts';
import { listReplicas, putBookmarks, type ReplicaRecord } from './store/replica-store.ts';

/** Somebody else may bookmark another point of the same replica at the same time. */
const TRIES = 5;

export class Bookmarks {
  readonly #context: Context;

  constructor(context: Context) {
    this.#context = context;
  }

  /** Throws not_found for a point that is not there, limit_exceeded, usage_invalid. */
  async add(replica: ReplicaRecord, request: BookmarkRequest): Promise<BookmarkView> {
    const nowMs = this.#context.clock.now();
    const { name, sequence, until_ms } = request;
    if (until_ms !== null && until_ms <= nowMs) {
      throw new Failure('usage_invalid', 'the bookmark would have ended already', {
        hint: 'Name an end that is still to come, or none.',
      });
    }
    const { report } = this.#context.inventory.replicaReport(replica.server_id, replica.id);
    const moment_ms = report?.points.find((point) => point.sequence === sequence)?.moment_ms;
    if (moment_ms === undefined) {
      throw new Failure('not_found', `the replica of ${replica.vm_name} has no recovery point ${sequence}`, {
        hint: `List them with: antipode points ${replica.vm_name}`,
      });
    }
    const bookmark: Bookmark = { sequence, name, moment_ms, until_ms };
    const after = await this.#put(replica, {
      message: `recovery point ${sequence} of ${replica.vm_name} is bookmarked as "${name}"`,
      change: (before) => {
        const others = before.filter((one) => one.sequence !== sequence && isLasting(one, nowMs));
        if (others.length < BOOKMARKS_MAX) return [...others, bookmark];
        throw new Failure(
          'limit_exceeded',
          `the replica of ${replica.vm_name} has ${BOOKMARKS_MAX} bookmarks`,
          {
            hint: 'Take one away that is not needed any more.',
          },
        );
      },
    });
    return bookmarkViews(this.#context, after).find((one) => one.sequence === sequence)!;
  }

  async remove(replica: ReplicaRecord, sequence: number): Promise<void> {
    if (!replica.bookmarks.some((one) => one.sequence === sequence)) {
      throw new Failure('not_found', `recovery point ${sequence} of ${replica.vm_name} has no bookmark`);
    }
    await this.#put(replica, {
      message: `the bookmark of recovery point ${sequence} of ${replica.vm_name} was taken away`,
      change: (before) => before.filter((one) => one.sequence !== sequence),
    });
  }

  async #put(
    replica: ReplicaRecord,
    { change, message }: { message: string; change: (before: readonly Bookmark[]) => Bookmark[] },
  ): Promise<ReplicaRecord> {
    const { changes, db, events } = this.#context;
    for (let tries = 0; tries < TRIES; tries++) {
      const known = (await listReplicas(db)).find(({ id }) => id === replica.id) ?? replica;
      const bookmarks = change(known.bookmarks);
      const isDone = await db.transaction().execute(async (at) => {
        if (!(await putBookmarks(at, known, bookmarks))) return false;
        const subject = { kind: 'replica', id: replica.id };
        await events.record(at, { kind: 'replica.bookmark', severity: 'info', subject, message });
        return true;
      });
      if (!isDone) continue;
      changes.notify('orders');
      return { ...known, bookmarks };
    }
    throw new Failure('replica_busy', `bookmarks of ${replica.vm_name} are being changed by others`);
  }
}

export function bookmarkViews({ clock, inventory }: Context, replica: ReplicaRecord): BookmarkView[] {
  const { report } = inventory.replicaReport(replica.server_id, replica.id);
  const kept = new Set(report?.bookmarked);
  const there = new Set(report?.points.map(({ sequence }) => sequence));
  const stateOf = (bookmark: Bookmark): BookmarkView['state'] => {
    if (report !== undefined && !there.has(bookmark.sequence)) return 'gone';
    if (!isLasting(bookmark, clock.now())) return 'ended';
    return kept.has(bookmark.sequence) ? 'kept' : 'asked';
  };
  return replica.bookmarks
    .map((bookmark) => ({ ...bookmark, state: stateOf(bookmark) }))
    .toSorted((a, b) => a.sequence - b.sequence);
}
