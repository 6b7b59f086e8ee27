/**
 * The store on disk: one directory for each replica, named by its id.
 *
 * Invariant: a directory that is being removed has another name first, so that no crash leaves half a replica behind
 * that could be taken for a whole one.
 */
import { mkdir, open, readdir, rename, rm, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { Failure } from '#/lib/failure.ts';

const ID = /^[0-9a-z][0-9a-z-]{0,63}$/;
const DOOMED = '.removing-';

export class ReplicaDirectory {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  /** Makes the store, and finishes what a crash has left of a removal. */
  async prepare(): Promise<void> {
    await this.#try('prepare', async () => {
      await mkdir(this.path, { recursive: true, mode: 0o700 });
      for (const name of await readdir(this.path)) {
        if (name.startsWith(DOOMED)) await rm(join(this.path, name), { recursive: true, force: true });
      }
    });
  }

  /** Ids of the replicas that are here, sorted. */
  async list(): Promise<string[]> {
    const entries = await this.#try('list', () => readdir(this.path, { withFileTypes: true }));
    return entries
      .filter((entry) => entry.isDirectory() && ID.test(entry.name))
      .map((entry) => entry.name)
      .toSorted();
  }

  /** Removes a replica and everything in it; no error when there is none. */
  async remove(replicaId: string): Promise<void> {
    const doomed = join(this.path, `${DOOMED}${replicaId}`);
    await this.#try(`remove ${replicaId} from`, async () => {
      try {
        await rename(join(this.path, replicaId), doomed);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
        throw error;
      }
      await using directory = await open(this.path, 'r');
      await directory.sync();
      await rm(doomed, { recursive: true, force: true });
    });
  }

  async freeBytes(): Promise<number> {
    const { bavail, bsize } = await this.#try('look at', () => statfs(this.path));
    return bavail * bsize;
  }

  async #try<T>(what: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw new Failure('storage_io', `${what} the store ${this.path}`, { cause: error });
    }
  }
}
