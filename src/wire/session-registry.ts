/**
 * One session for each replica at a time (docs/wire-protocol.md, section 5): a newer session of the same agent takes
 * the place of the older one, which may be the other half of a link that broke; other agents have to wait.
 *
 * Invariant: a claim is given only when the one before it has been released. Pure.
 */
import type { Clock } from '#/lib/clock.ts';
import { Failure } from '#/lib/failure.ts';
import type { PeerIdentity } from './transport.ts';

type Holder = { agent: string; end: (why: Failure) => void; gone: Promise<void> };

/** How long the older session may take to finish the write it is in. */
export const MAKE_ROOM_MS = 10_000;

export class SessionRegistry {
  readonly #clock: Clock;
  readonly #holders = new Map<string, Holder>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get count(): number {
    return this.#holders.size;
  }

  /** Dispose the claim when the session has let go of the replica. Throws replica_busy. */
  async claim(replicaId: string, peer: PeerIdentity, end: (why: Failure) => void): Promise<AsyncDisposable> {
    const agent = `${peer.siteId}/${peer.id}`;
    const before = this.#holders.get(replicaId);
    if (before !== undefined && before.agent !== agent) {
      throw new Failure('replica_busy', `open replica ${replicaId}: agent ${before.agent} is writing it`, {
        hint: 'It is free as soon as that session ends; a link that broke is noticed within seconds.',
      });
    }
    const { promise: released, resolve: release } = Promise.withResolvers<void>();
    const gone = Promise.all([before?.gone, released]).then(() => {
      if (this.#holders.get(replicaId) === holder) this.#holders.delete(replicaId);
    });
    const holder: Holder = { agent, end, gone };
    this.#holders.set(replicaId, holder);
    if (before !== undefined) await this.#makeRoom(replicaId, before, release);
    return {
      async [Symbol.asyncDispose]() {
        release();
        await gone;
      },
    };
  }

  /** Ends the session of a replica, if there is one; resolves when it has let go. Throws replica_busy. */
  async end(replicaId: string, why: Failure): Promise<void> {
    const holder = this.#holders.get(replicaId);
    if (holder === undefined) return;
    await this.#ended(replicaId, holder, why);
  }

  async #makeRoom(replicaId: string, before: Holder, release: () => void): Promise<void> {
    try {
      const why = new Failure(
        'replica_busy',
        `use replica ${replicaId}: a newer session of this agent took over`,
      );
      await this.#ended(replicaId, before, why);
    } catch (error) {
      release();
      throw error;
    }
  }

  async #ended(replicaId: string, holder: Holder, why: Failure): Promise<void> {
    holder.end(why);
    const woken = new AbortController();
    const late = this.#clock.sleep(MAKE_ROOM_MS, woken.signal).then(
      () => true,
      () => false,
    );
    const isLate = await Promise.race([holder.gone.then(() => false), late]);
    woken.abort();
    if (!isLate) return;
    throw new Failure(
      'replica_busy',
      `open replica ${replicaId}: the session before is still finishing a write`,
    );
  }
}
