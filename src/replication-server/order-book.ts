/** The newest orders, looked up by replica. */
import { isLasting, type ReplicaOrder, type ServerOrders } from '#/control/orders.ts';
import type { RetentionPolicy } from '#/replica/replica.ts';

export class OrderBook {
  #orders: ServerOrders | undefined;
  #replicas = new Map<string, ReplicaOrder>();

  take(orders: ServerOrders): void {
    this.#orders = orders;
    this.#replicas = new Map(orders.replicas.map((order) => [order.replica_id, order]));
  }

  get orders(): ServerOrders | undefined {
    return this.#orders;
  }

  replica(replicaId: string): ReplicaOrder | undefined {
    return this.#replicas.get(replicaId);
  }

  /** Sequences of the points that are kept whatever their age. */
  bookmarked(replicaId: string, nowMs: number): number[] {
    return (this.#replicas.get(replicaId)?.bookmarks ?? [])
      .filter((bookmark) => isLasting(bookmark, nowMs))
      .map(({ sequence }) => sequence);
  }

  /** What to keep of a replica; undefined when no orders speak of it: then all of it is kept. */
  retention(replicaId: string, nowMs: number): RetentionPolicy | undefined {
    const retention = this.#replicas.get(replicaId)?.retention;
    if (retention === undefined) return undefined;
    return {
      keepAllMs: retention.keep_all_ms,
      tiers: retention.tiers.map((tier) => ({ everyMs: tier.every_ms, forMs: tier.for_ms })),
      kept: this.bookmarked(replicaId, nowMs),
    };
  }
}
