/**
 * Writes that are on their way to a file while the next ones are being made: bounded by count and by bytes.
 *
 * Invariant: an error of any write comes out of the next `write` or `drain`, and stays; nothing that is drained can
 * have failed. Bytes handed over must not change until `arrived` is called, or until `drain`. Pure.
 */
import type { File } from '#/disk/file-system.ts';
import { APPEND_BYTES, APPEND_BYTES_FIRST, WRITE_BYTES_IN_FLIGHT, WRITES_IN_FLIGHT } from './limits.ts';

export class WriteQueue {
  readonly #file: File;
  readonly #waiting: (() => void)[] = [];
  #count = 0;
  #bytes = 0;
  #error: { reason: unknown } | undefined;

  constructor(file: File) {
    this.#file = file;
  }

  /** Resolves when the write is on its way, which may be long before it has arrived; only a good one arrives. */
  async write(offset: number, bytes: Uint8Array, arrived?: () => void): Promise<void> {
    while (this.#count >= WRITES_IN_FLIGHT || this.#bytes >= WRITE_BYTES_IN_FLIGHT) await this.#oneDone();
    this.#throwIfFailed();
    this.#count++;
    this.#bytes += bytes.length;
    this.#file.write(offset, bytes).then(
      () => {
        this.#done(bytes.length);
        arrived?.();
      },
      (reason: unknown) => {
        this.#error ??= { reason };
        this.#done(bytes.length);
      },
    );
  }

  /** Resolves when all writes have arrived in the file; they are not durable by that. */
  async drain(): Promise<void> {
    while (this.#count > 0) await this.#oneDone();
    this.#throwIfFailed();
  }

  /** Waits for all writes, whatever became of them: before the file is closed. */
  async settle(): Promise<void> {
    while (this.#count > 0) await this.#oneDone();
  }

  #oneDone(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  #done(bytes: number): void {
    this.#count--;
    this.#bytes -= bytes;
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  #throwIfFailed(): void {
    if (this.#error !== undefined) throw this.#error.reason;
  }
}

/** Appends pieces of any length to a file in few large writes; its memory is as small as what is appended is. */
export class AppendQueue {
  readonly #queue: WriteQueue;
  /** Memory whose write has arrived. */
  readonly #free: Uint8Array[] = [];
  #buffer: Uint8Array = new Uint8Array(APPEND_BYTES_FIRST);
  #used = 0;
  #written: number;

  constructor(file: File, offset: number) {
    this.#queue = new WriteQueue(file);
    this.#written = offset;
  }

  /** Where the next piece goes. */
  get offset(): number {
    return this.#written + this.#used;
  }

  /** Takes a copy of the piece. */
  async append(piece: Uint8Array): Promise<void> {
    for (let at = 0; at < piece.length;) {
      const length = Math.min(piece.length - at, this.#buffer.length - this.#used);
      this.#buffer.set(piece.subarray(at, at + length), this.#used);
      this.#used += length;
      at += length;
      if (this.#used === this.#buffer.length) await this.#flush(APPEND_BYTES);
    }
  }

  /** Resolves when everything appended has arrived in the file. */
  async drain(): Promise<void> {
    if (this.#used > 0) await this.#flush(APPEND_BYTES_FIRST);
    await this.#queue.drain();
  }

  settle(): Promise<void> {
    return this.#queue.settle();
  }

  /** `nextBytes`: what to make ready when no memory is free. */
  async #flush(nextBytes: number): Promise<void> {
    const buffer = this.#buffer;
    const piece = buffer.subarray(0, this.#used);
    const at = this.#written;
    this.#buffer = this.#free.pop() ?? new Uint8Array(nextBytes);
    this.#written += this.#used;
    this.#used = 0;
    await this.#queue.write(at, piece, () => this.#free.push(buffer));
  }
}
