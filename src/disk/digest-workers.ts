/** Block digests on worker threads: for scrubs, seeds and comparisons of whole disks. */
import { strict as assert } from 'node:assert';
import { WorkerPool } from './worker-pool.ts';

/** Longest batch: 256 blocks, so that threads share the work evenly and little memory is under way. */
export const DIGEST_BATCH_BYTES = 1024 * 1024;

export class DigestWorkers implements AsyncDisposable {
  readonly #pool: WorkerPool<Uint8Array, Uint8Array>;

  constructor({ threads, queueMax = 64 }: { threads: number; queueMax?: number }) {
    const module = new URL('./digest.ts', import.meta.url);
    this.#pool = new WorkerPool({ module, name: 'digestBlocks', threads, queueMax });
  }

  /**
   * `digestBlocks` of at most DIGEST_BATCH_BYTES. Bytes in shared memory go over without a copy and stay as they are
   * until this settles. `limit_exceeded` when too many batches wait.
   */
  digest(bytes: Uint8Array): Promise<Uint8Array> {
    assert(bytes.length <= DIGEST_BATCH_BYTES);
    return this.#pool.run(bytes);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#pool[Symbol.asyncDispose]();
  }
}
