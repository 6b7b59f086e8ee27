/**
 * A pool of threads that all run one exported function of one module: how hashing and compressing leave the main
 * thread.
 *
 * Requests and results are structured clones; bytes in a SharedArrayBuffer (`allocateShared`) go over without a copy,
 * in memory of the pool (`share`) for next to nothing, where their blocks are digested without a copy as well, and a
 * result's own buffers are transferred. The function is synchronous and keeps nothing.
 * Bounds: two requests on each thread, so that none waits for the main thread, and `queueMax` more in the queue.
 */
import { strict as assert } from 'node:assert';
import { Worker } from 'node:worker_threads';
import { Failure } from '#/lib/failure.ts';
import { sharedDigestMemory } from './digest-memory.ts';
import { SharedMemory } from './shared-memory.ts';
import type { ThreadReply, ThreadRequest } from './worker-pool-thread.ts';

export type WorkerPoolOptions = {
  /** URL of the module, `new URL('./name.ts', import.meta.url)`. */
  module: URL;
  /** The exported function: one argument, a result, no promise. */
  name: string;
  threads: number;
  /** Requests that may wait; default 64. */
  queueMax?: number;
};

const REQUESTS_PER_THREAD = 2;

type Job = { request: unknown; resolve: (result: never) => void; reject: (reason: unknown) => void };
type Thread = { worker: Worker; jobs: Map<number, Job> };

export class WorkerPool<Request, Result> implements AsyncDisposable {
  readonly #threads: Thread[];
  readonly #queue: Job[] = [];
  readonly #queueMax: number;
  readonly #name: string;
  readonly #memory = new SharedMemory();
  #nextId = 0;
  #nextMemory = 0;
  #broken: unknown;

  constructor({ module, name, threads, queueMax = 64 }: WorkerPoolOptions) {
    assert(threads >= 1);
    this.#queueMax = queueMax;
    this.#name = name;
    this.#threads = Array.from({ length: threads }, () => this.#startThread(module));
  }

  /**
   * Runs the function on a thread. `limit_exceeded` when the queue is full, a Failure the function threw as itself.
   * Shared memory of the request is not touched any more once this settled.
   */
  run(request: Request): Promise<Result> {
    return new Promise<Result>((resolve, reject) => {
      if (this.#broken !== undefined) throw this.#broken;
      const job: Job = { request, resolve, reject };
      const thread = this.#idlest();
      if (thread.jobs.size < REQUESTS_PER_THREAD) this.#give(thread, job);
      else if (this.#queue.length < this.#queueMax) this.#queue.push(job);
      else throw new Failure('limit_exceeded', `run ${this.#name} behind ${this.#queueMax} others`);
    });
  }

  /** Memory that all threads know; views of it may be parts of requests and results. */
  share(bytes: number): Uint8Array<SharedArrayBuffer> {
    const shared = sharedDigestMemory(bytes, this.#threads.length);
    const number = this.#nextMemory++;
    this.#memory.add(number, shared.bytes.buffer);
    for (const [index, thread] of this.#threads.entries()) {
      post(thread, { kind: 'share', number, memory: shared.memory, thread: index });
    }
    return shared.bytes;
  }

  /** The pool forgets memory that is in no request under way; who has a view of it keeps it. */
  unshare(memory: Uint8Array<SharedArrayBuffer>): void {
    const number = this.#memory.remove(memory.buffer);
    if (number === undefined) return;
    for (const thread of this.#threads) post(thread, { kind: 'unshare', number });
  }

  /** Ends the threads; what has no result yet fails with `cancelled`. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#fail(new Failure('cancelled', `run ${this.#name} on a pool that is closed`));
    await Promise.all(this.#threads.map((thread) => thread.worker.terminate()));
  }

  #startThread(module: URL): Thread {
    const worker = new Worker(new URL('./worker-pool-thread.ts', import.meta.url), {
      workerData: { module: module.href, name: this.#name },
    });
    const thread: Thread = { worker, jobs: new Map() };
    worker.on('message', (reply: ThreadReply) => this.#take(thread, reply));
    // Only a bug gets here: a thread reports Failures. It is handed to whoever waits, and nothing runs here any more.
    worker.on('error', (error) => this.#fail(error));
    worker.on('exit', () => this.#fail(new Failure('cancelled', `run ${this.#name}: its thread ended`)));
    return thread;
  }

  #take(thread: Thread, reply: ThreadReply): void {
    const job = thread.jobs.get(reply.id);
    if (job === undefined) return;
    thread.jobs.delete(reply.id);
    const next = this.#queue.shift();
    if (next !== undefined) this.#give(thread, next);
    if (reply.kind === 'result') job.resolve(this.#memory.unpack(reply.result) as never);
    else job.reject(new Failure(reply.code, reply.message));
  }

  #give(thread: Thread, job: Job): void {
    const id = this.#nextId++;
    thread.jobs.set(id, job);
    post(thread, { kind: 'run', id, request: this.#memory.pack(job.request) });
  }

  #idlest(): Thread {
    let idlest = this.#threads[0]!;
    for (const thread of this.#threads) if (thread.jobs.size < idlest.jobs.size) idlest = thread;
    return idlest;
  }

  #fail(reason: unknown): void {
    this.#broken ??= reason;
    for (const job of this.#queue.splice(0)) job.reject(reason);
    for (const thread of this.#threads) {
      for (const job of thread.jobs.values()) job.reject(reason);
      thread.jobs.clear();
    }
  }
}

function post(thread: Thread, message: ThreadRequest): void {
  thread.worker.postMessage(message);
}

/** Memory that threads see without a copy. */
export function allocateShared(bytes: number): Uint8Array<SharedArrayBuffer> {
  return new Uint8Array(new SharedArrayBuffer(bytes));
}
