/** The block codec on worker threads: hashing and compressing cost more than one core gives. */
import { strict as assert } from 'node:assert';
import { WorkerPool } from '#/disk/worker-pool.ts';
import type { BlockCodec, GroupChange, GroupRequest } from '#/replication/block-codec.ts';
import { GROUP_BYTES, GROUPS_IN_FLIGHT } from '#/replication/limits.ts';

/** Memory of as many groups as one cycle has in flight. */
type Arena = {
  bytes: Uint8Array<SharedArrayBuffer>;
  /** None any more once a group's memory may not be lent again. */
  free: Uint8Array<SharedArrayBuffer>[] | undefined;
  lentCount: number;
};

export class CodecWorkers implements BlockCodec, AsyncDisposable {
  readonly #pool: WorkerPool<GroupRequest, GroupChange>;
  readonly #arenas = new Set<Arena>();

  /** `queueMax` covers all groups that all cycles together may have in flight. */
  constructor({ threads, queueMax }: { threads: number; queueMax: number }) {
    const module = new URL('../replication/block-codec.ts', import.meta.url);
    this.#pool = new WorkerPool({ module, name: 'encodeGroup', threads, queueMax });
  }

  allocate(): Uint8Array<SharedArrayBuffer> {
    for (const arena of this.#arenas) {
      const bytes = arena.free?.pop();
      if (bytes === undefined) continue;
      arena.lentCount++;
      return bytes;
    }
    this.#arenas.add(this.#newArena());
    return this.allocate();
  }

  free(bytes: Uint8Array<SharedArrayBuffer>, mayBeReused: boolean): void {
    const arena = this.#arenas.values().find((each) => each.bytes.buffer === bytes.buffer);
    assert(arena !== undefined, 'memory given back that was not lent');
    arena.lentCount--;
    if (mayBeReused) arena.free?.push(bytes);
    else arena.free = undefined;
    if (arena.free !== undefined || arena.lentCount > 0) return;
    this.#arenas.delete(arena);
    this.#pool.unshare(arena.bytes);
  }

  encode(request: GroupRequest): Promise<GroupChange> {
    return this.#pool.run(request);
  }

  #newArena(): Arena {
    const bytes = this.#pool.share(GROUPS_IN_FLIGHT * GROUP_BYTES);
    const free = Array.from({ length: GROUPS_IN_FLIGHT }, (_, index) =>
      bytes.subarray(index * GROUP_BYTES, (index + 1) * GROUP_BYTES),
    );
    return { bytes, free, lentCount: 0 };
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#pool[Symbol.asyncDispose]();
  }
}
