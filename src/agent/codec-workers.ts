/** The block codec on worker threads: hashing and compressing cost more than one core gives. */
import { WorkerPool } from '#/disk/worker-pool.ts';
import type { BlockCodec, GroupChange, GroupRequest } from '#/replication/block-codec.ts';
import { GROUP_BYTES } from '#/replication/limits.ts';

export class CodecWorkers implements BlockCodec, AsyncDisposable {
  readonly #pool: WorkerPool<GroupRequest, GroupChange>;
  readonly #free: Uint8Array<SharedArrayBuffer>[] = [];

  /** `queueMax` covers all groups that all cycles together may have in flight. */
  constructor({ threads, queueMax }: { threads: number; queueMax: number }) {
    const module = new URL('../replication/block-codec.ts', import.meta.url);
    this.#pool = new WorkerPool({ module, name: 'encodeGroup', threads, queueMax });
  }

  allocate(): Uint8Array<SharedArrayBuffer> {
    return this.#free.pop() ?? this.#pool.share(GROUP_BYTES);
  }

  free(bytes: Uint8Array<SharedArrayBuffer>, mayBeReused: boolean): void {
    if (mayBeReused) this.#free.push(bytes);
    else this.#pool.unshare(bytes);
  }

  encode(request: GroupRequest): Promise<GroupChange> {
    return this.#pool.run(request);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#pool[Symbol.asyncDispose]();
  }
}
