/** The block codec on worker threads: hashing and compressing cost more than one core gives. */
import { allocateShared, WorkerPool } from '#/disk/worker-pool.ts';
import type { BlockCodec, GroupChange, GroupRequest } from '#/replication/block-codec.ts';

export class CodecWorkers implements BlockCodec, AsyncDisposable {
  readonly #pool: WorkerPool<GroupRequest, GroupChange>;

  /** `queueMax` covers all groups that all cycles together may have in flight. */
  constructor({ threads, queueMax }: { threads: number; queueMax: number }) {
    const module = new URL('../replication/block-codec.ts', import.meta.url);
    this.#pool = new WorkerPool({ module, name: 'encodeGroup', threads, queueMax });
  }

  allocate(bytes: number): Uint8Array<ArrayBufferLike> {
    return allocateShared(bytes);
  }

  encode(request: GroupRequest): Promise<GroupChange> {
    return this.#pool.run(request);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#pool[Symbol.asyncDispose]();
  }
}
