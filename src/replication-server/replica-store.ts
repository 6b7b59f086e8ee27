/**
 * The replicas of this server, open. A replica that does not open is kept aside with its failure and reported; the
 * others are none the worse.
 *
 * Invariant: at most one `Replica` object is open for a directory.
 */
import { Failure, failureIn } from '#/lib/failure.ts';
import { Mutex } from '#/lib/mutex.ts';
import type { Replica, ReplicaIdentity } from '#/replica/replica.ts';
import type { ReplicaDirectory } from './replica-directory.ts';

export type ReplicaOpener = {
  open(replicaId: string): Promise<Replica>;
  create(identity: ReplicaIdentity): Promise<Replica>;
};

/** More than one machine's disks can serve, and a bound on what is kept open. */
const REPLICAS_MAX = 10_000;

export type StoreEntry = { replica: Replica } | { failure: Failure };

export class ReplicaStore implements AsyncDisposable {
  readonly directory: ReplicaDirectory;
  readonly #opener: ReplicaOpener;
  readonly #entries = new Map<string, StoreEntry>();
  readonly #changes = new Mutex();
  readonly #upkeep = new Mutex();

  constructor(directory: ReplicaDirectory, opener: ReplicaOpener) {
    this.directory = directory;
    this.#opener = opener;
  }

  /** Opens all replicas that are here. */
  async load(): Promise<void> {
    await this.directory.prepare();
    const ids = await this.directory.list();
    for (const id of ids.slice(0, REPLICAS_MAX)) {
      const entry = await this.#opened(id);
      // A crash while it was made has left a directory without a replica: it is made when it is asked for again.
      if ('failure' in entry && entry.failure.code === 'not_found') continue;
      this.#entries.set(id, entry);
    }
  }

  entries(): IterableIterator<[string, StoreEntry]> {
    return this.#entries.entries();
  }

  /** Throws not_found, or what it failed to open with. */
  get(replicaId: string): Replica {
    const entry = this.#entries.get(replicaId);
    if (entry === undefined) {
      throw new Failure('not_found', `use replica ${replicaId}: this server has none of that name`);
    }
    if ('failure' in entry) {
      throw new Failure(entry.failure.code, `use replica ${replicaId}: it did not open`, {
        cause: entry.failure,
        hint: 'Verify it with: antipode replica verify DIRECTORY',
      });
    }
    return entry.replica;
  }

  /** The replica, made when it is not here yet. */
  async getOrCreate(identity: ReplicaIdentity): Promise<Replica> {
    const { replicaId } = identity;
    if (this.#entries.has(replicaId)) return this.get(replicaId);
    return await this.#changes.run(async () => {
      if (this.#entries.has(replicaId)) return this.get(replicaId);
      if (this.#entries.size >= REPLICAS_MAX) {
        throw new Failure(
          'limit_exceeded',
          `make replica ${replicaId}: this server has ${REPLICAS_MAX} already`,
        );
      }
      const replica = await this.#opener.create(identity);
      this.#entries.set(replicaId, { replica });
      return replica;
    });
  }

  /** Runs a piece of upkeep; a removal waits for it, and it does not begin once one is under way. */
  async upkeep<T>(replicaId: string, work: (replica: Replica) => Promise<T>): Promise<T> {
    const piece = this.#upkeep.run(() => work(this.get(replicaId)));
    return await piece;
  }

  /** Closes and removes the replica; sessions and views have let go of it before. */
  async remove(replicaId: string): Promise<void> {
    await this.#changes.run(async () => {
      const entry = this.#entries.get(replicaId);
      this.#entries.delete(replicaId);
      await this.#upkeep.run(async () => {});
      if (entry !== undefined && 'replica' in entry) await entry.replica[Symbol.asyncDispose]();
      await this.directory.remove(replicaId);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#changes.run(async () => {
      await this.#upkeep.run(async () => {});
      for (const entry of this.#entries.values()) {
        if ('replica' in entry) await entry.replica[Symbol.asyncDispose]();
      }
      this.#entries.clear();
    });
  }

  async #opened(replicaId: string): Promise<StoreEntry> {
    try {
      return { replica: await this.#opener.open(replicaId) };
    } catch (error) {
      const failure = failureIn(error);
      if (failure === undefined) throw error;
      return { failure };
    }
  }
}
