/**
 * What filling replicas from old copies leaves on a host, below `seeds` in the agent's `data_directory`: the record of
 * a filling that is under way, and for each replica the list of what only the old copy had, as JSON.
 */
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';

export class SeedFiles {
  readonly #directory: string;

  constructor(dataDirectory: string) {
    this.#directory = join(dataDirectory, 'seeds');
  }

  /** Holds a record for each replica that is being filled. */
  get recordsDirectory(): string {
    return join(this.#directory, 'records');
  }

  async prepare(): Promise<void> {
    await mkdir(this.recordsDirectory, { recursive: true, mode: 0o700 });
  }

  /** Of the list of what only the old copy had; its directory is there. */
  async listPath(replicaId: string): Promise<string> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    return join(this.#directory, `only-here-${replicaId}.json`);
  }

  async removeRecord(replicaId: string): Promise<void> {
    await rm(join(this.recordsDirectory, replicaId), { recursive: true, force: true });
  }
}
