/**
 * Decides who may write which replica (docs/architecture.md, "Control" and "Epochs").
 *
 * Invariant: an agent writes a replica only while the orders name its site as the source, at no lower epoch than the
 * orders', and alone. New orders end the sessions that they do not admit any more.
 */
import { DIGEST_KEY_BYTES } from '#/disk/digest.ts';
import { Failure, failureIn } from '#/lib/failure.ts';
import { randomHex } from '#/lib/random.ts';
import { systemRandom } from '#/lib/system-random.ts';
import type { ReplicaOrder } from '#/control/orders.ts';
import type { RecoveryPoint, Replica } from '#/replica/replica.ts';
import type { Open } from '#/wire/messages.ts';
import type { ReplicaLease, ReplicaPort, SessionHost } from '#/wire/replica-port.ts';
import type { SessionRegistry } from '#/wire/session-registry.ts';
import type { PeerIdentity } from '#/wire/transport.ts';
import type { OrderBook } from './order-book.ts';
import type { ReplicaStore } from './replica-store.ts';

export type HostParts = {
  orders: OrderBook;
  store: ReplicaStore;
  sessions: SessionRegistry;
  /** A point has become durable. */
  committed: (replicaId: string, point: RecoveryPoint) => void;
};

type Admitted = { open: Open; peer: PeerIdentity; end: (why: Failure) => void };

export class ReplicaHost implements SessionHost {
  readonly #orders: OrderBook;
  readonly #store: ReplicaStore;
  readonly #sessions: SessionRegistry;
  readonly #committed: HostParts['committed'];
  /** Replicas whose removal is under way: nobody may open them any more. */
  readonly #closed = new Set<string>();
  readonly #admitted = new Set<Admitted>();

  constructor(parts: HostParts) {
    this.#orders = parts.orders;
    this.#store = parts.store;
    this.#sessions = parts.sessions;
    this.#committed = parts.committed;
  }

  async open(open: Open, peer: PeerIdentity, end: (why: Failure) => void): Promise<ReplicaLease> {
    this.#admit(open, peer);
    const claim = await this.#sessions.claim(open.replicaId, peer, end);
    const admitted: Admitted = { open, peer, end };
    const letGo = async (): Promise<void> => {
      this.#admitted.delete(admitted);
      await claim[Symbol.asyncDispose]();
    };
    try {
      // Making room may have taken a while, and the orders may be others by now.
      const order = this.#admit(open, peer);
      this.#admitted.add(admitted);
      const replica = await this.#store.getOrCreate({
        replicaId: order.replica_id,
        vm: { uuid: order.vm_uuid, name: order.vm_name },
        siteId: order.source_site_id,
        digestKey: keyOf(open, order) ?? randomHex(systemRandom, DIGEST_KEY_BYTES),
      });
      const told = telling(replica, (point) => this.#committed(open.replicaId, point));
      return { replica: told, [Symbol.asyncDispose]: letGo };
    } catch (error) {
      await letGo();
      throw error;
    }
  }

  /** New orders are in the book: ends the sessions that they do not admit, such as those of an older epoch. */
  recheck(): void {
    for (const { open, peer, end } of this.#admitted) {
      try {
        this.#admit(open, peer);
      } catch (error) {
        const failure = failureIn(error);
        if (failure === undefined) throw error;
        end(failure);
      }
    }
  }

  /** Admits nobody to a replica any more, and waits until its session has let go. */
  async close(replicaId: string): Promise<void> {
    this.#closed.add(replicaId);
    await this.#sessions.end(
      replicaId,
      new Failure('not_found', `use replica ${replicaId}: it is being removed`),
    );
  }

  /** The removal is over. */
  reopen(replicaId: string): void {
    this.#closed.delete(replicaId);
  }

  #admit(open: Open, peer: PeerIdentity): ReplicaOrder {
    const order = this.#orders.replica(open.replicaId);
    if (order === undefined || this.#closed.has(open.replicaId)) {
      throw new Failure(
        'not_found',
        `open replica ${open.replicaId} of ${open.vm.name}: no orders to keep it here`,
        {
          hint: 'They arrive from the manager of this site; look at its connection when they stay away.',
        },
      );
    }
    if ((order.writer_site_id ?? order.source_site_id) !== peer.siteId) {
      throw new Failure(
        'forbidden',
        `open replica ${open.replicaId}: agents of site ${peer.siteId} may not write it`,
      );
    }
    if (order.vm_uuid !== open.vm.uuid) {
      throw new Failure(
        'conflict',
        `open replica ${open.replicaId}: it is of VM ${order.vm_uuid}, not of ${open.vm.uuid}`,
      );
    }
    if (open.epoch < order.epoch) {
      throw new Failure(
        'epoch_stale',
        `open replica ${open.replicaId}: epoch ${open.epoch} is older than the ordered ${order.epoch}`,
        { hint: 'The VM has been recovered at another site; this copy of it must not be replicated.' },
      );
    }
    return order;
  }
}

/**
 * Of a replica that is filled from an old copy, the agent of this site that fills it may name the key: that of the
 * replica which the copy was protected to, which it knows from there. Whoever writes a replica knows its key anyway.
 */
function keyOf(open: Open, order: ReplicaOrder): string | undefined {
  return order.writer_site_id === undefined ? undefined : open.digestKey;
}

/** The replica as a session uses it, telling of each point that has become durable. */
function telling(replica: Replica, committed: (point: RecoveryPoint) => void): ReplicaPort {
  return {
    digestKey: replica.digestKey,
    head: () => replica.head(),
    epoch: () => replica.epoch(),
    state: () => replica.state(),
    digests: (disk, level, first, count) => replica.digests(disk, level, first, count),
    missingAttachments: (attachments) => replica.missingAttachments(attachments),
    putAttachment: (sha256, bytes) => replica.putAttachment(sha256, bytes),
    begin: async (intent) => {
      const writer = await replica.begin(intent);
      return {
        segmentCount: writer.segmentCount,
        write: (segment, release) => writer.write(segment, release),
        abort: () => writer.abort(),
        suspend: () => writer.suspend(),
        commit: async (request) => {
          const point = await writer.commit(request);
          committed(point);
          return point;
        },
      };
    },
  };
}
