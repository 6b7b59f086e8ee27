/**
 * Memory of one connection's replies, used again: fresh memory for every read costs the kernel a fault per page.
 *
 * Bound: keeps at most `keepBytes`. Buffers come in powers of two, so that any read of about the same length fits.
 */
export class BufferPool {
  readonly #free = new Map<number, ArrayBuffer[]>();
  readonly #keepBytes: number;
  #keptBytes = 0;

  constructor(keepBytes: number) {
    this.#keepBytes = keepBytes;
  }

  /** `bytes` of memory with unknown content. */
  take(bytes: number): Uint8Array<ArrayBuffer> {
    const size = 2 ** Math.ceil(Math.log2(Math.max(4096, bytes)));
    const used = this.#free.get(size)?.pop();
    if (used !== undefined) this.#keptBytes -= size;
    return new Uint8Array(used ?? Buffer.allocUnsafeSlow(size).buffer, 0, bytes);
  }

  /** Takes memory back that nobody reads or writes any more. */
  give(memory: Uint8Array<ArrayBuffer>): void {
    const { buffer } = memory;
    if (this.#keptBytes + buffer.byteLength > this.#keepBytes) return;
    this.#keptBytes += buffer.byteLength;
    const free = this.#free.get(buffer.byteLength);
    if (free === undefined) this.#free.set(buffer.byteLength, [buffer]);
    else free.push(buffer);
  }
}
