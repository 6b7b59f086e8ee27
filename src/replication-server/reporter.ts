/**
 * What the server tells its manager: how each replica, task and the store stand, and what has happened.
 *
 * Invariant (I7): a point is reported only when the replica offers it; a count that could not be taken is not made up.
 */
import { hostname } from 'node:os';
import type { EventBuffer } from '#/control/event-buffer.ts';
import {
  POINTS_REPORTED_MAX,
  ROOTS_REPORTED_MAX,
  type ReplicaReport,
  type ServerReport,
} from '#/control/reports.ts';
import type { Clock } from '#/lib/clock.ts';
import { type Failure, failureIn } from '#/lib/failure.ts';
import { machineIdentity } from '#/lib/machine-identity.ts';
import type { Replica } from '#/replica/replica.ts';
import type { OrderBook } from './order-book.ts';
import type { ReplicaStore, StoreEntry } from './replica-store.ts';
import { failureReport, type TaskRunner } from './task-runner.ts';

/** Adding up a replica's files takes time: the sum may be this old. */
const STORED_BYTES_AGE_MS = 15_000;

export type ReporterParts = {
  store: ReplicaStore;
  orders: OrderBook;
  tasks: TaskRunner;
  events: EventBuffer;
  clock: Clock;
  endpoint: { host: string; port: number };
};

type Points = ReturnType<Replica['points']>;

export class Reporter {
  readonly #parts: ReporterParts;
  readonly #stored = new Map<string, { bytes: number; atMs: number }>();

  constructor(parts: ReporterParts) {
    this.#parts = parts;
  }

  async report(): Promise<ServerReport> {
    const { store, tasks, events, clock, endpoint } = this.#parts;
    const replicas: ReplicaReport[] = [];
    const ids = new Set([...store.entries()].map(([id]) => id));
    for (const id of this.#stored.keys()) if (!ids.has(id)) this.#stored.delete(id);
    for (const [replicaId, entry] of store.entries()) {
      const report = await this.#replica(replicaId, entry);
      if (report !== undefined) replicas.push(report);
    }
    return {
      sent_ms: clock.now(),
      endpoint,
      machine: await machineIdentity(),
      hostname: hostname(),
      store_path: store.directory.path,
      store_free_bytes: await store.directory.freeBytes(),
      replicas,
      tasks: tasks.reports(),
      events: events.pending(),
    };
  }

  async #replica(replicaId: string, entry: StoreEntry): Promise<ReplicaReport | undefined> {
    if ('failure' in entry) return this.#broken(replicaId, entry);
    const { replica } = entry;
    const { vm } = replica.identity;
    const points = replica.points();
    const bookmarked = this.#bookmarked(replicaId, points);
    return {
      replica_id: replicaId,
      vm_uuid: vm.uuid,
      vm_name: vm.name,
      source_site_id: replica.identity.siteId,
      epoch: replica.epoch(),
      state: points.length > 0 ? 'ready' : await firstCopyState(replica),
      points: told(points, bookmarked).map((point, index, { length }) => ({
        sequence: point.sequence,
        stamp: point.stamp,
        moment_ms: point.momentMs,
        acknowledged_ms: point.acknowledgedMs,
        consistency: point.consistency,
        delta_bytes: point.deltaBytes,
        ...(point.consistency === 'off' && index >= length - ROOTS_REPORTED_MAX
          ? { roots: point.disks.map(({ key, root }) => ({ key, root })) }
          : {}),
      })),
      point_count: points.length,
      ...(bookmarked.length === 0 ? {} : { bookmarked }),
      stored_bytes: await this.#storedBytes(replicaId, replica),
      failure: null,
    };
  }

  /** Of what is ordered, what is there. */
  #bookmarked(replicaId: string, points: Points): number[] {
    const { clock, orders } = this.#parts;
    const wanted = new Set(orders.bookmarked(replicaId, clock.now()));
    return points.flatMap(({ sequence }) => (wanted.has(sequence) ? [sequence] : []));
  }

  /** Whose replica it is can no longer be read: the orders may still know. */
  #broken(replicaId: string, entry: { failure: Failure }): ReplicaReport | undefined {
    const order = this.#parts.orders.replica(replicaId);
    if (order === undefined) return undefined;
    return {
      replica_id: replicaId,
      vm_uuid: order.vm_uuid,
      vm_name: order.vm_name,
      epoch: order.epoch,
      state: 'broken',
      points: [],
      point_count: 0,
      stored_bytes: 0,
      failure: failureReport(entry.failure),
    };
  }

  async #storedBytes(replicaId: string, replica: Replica): Promise<number> {
    const nowMs = this.#parts.clock.monotonicMs();
    const known = this.#stored.get(replicaId);
    if (known !== undefined && nowMs - known.atMs < STORED_BYTES_AGE_MS) return known.bytes;
    try {
      const bytes = await replica.storedBytes();
      this.#stored.set(replicaId, { bytes, atMs: nowMs });
      return bytes;
    } catch (error) {
      // A file that compaction has just taken away: the sum of before is as good.
      if (failureIn(error) === undefined) throw error;
      return known?.bytes ?? 0;
    }
  }
}

/** The newest, and older ones that have a bookmark. */
function told(points: Points, bookmarked: readonly number[]): Points {
  const kept = new Set(bookmarked);
  const newest = points.slice(-(POINTS_REPORTED_MAX - kept.size));
  const first = newest[0]?.sequence ?? 0;
  return [...points.filter(({ sequence }) => sequence < first && kept.has(sequence)), ...newest];
}

async function firstCopyState(replica: Replica): Promise<'empty' | 'first_copy'> {
  const { disks } = await replica.state();
  return disks.length === 0 ? 'empty' : 'first_copy';
}
