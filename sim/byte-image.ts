/**
 * The contents of a file as pages that are never changed once they are there, so that a copy of an image is a copy
 * of its page table.
 */

export const PAGE_BYTES = 4096;

/** One change of a file that a crash may keep, lose or tear. */
export type FileChange =
  | { kind: 'write'; offset: number; bytes: Uint8Array }
  | { kind: 'truncate'; bytes: number }
  | { kind: 'punch'; offset: number; length: number };

export class ByteImage {
  #pages: Map<number, Uint8Array>;
  #bytes: number;

  constructor(pages: Map<number, Uint8Array> = new Map(), bytes = 0) {
    this.#pages = pages;
    this.#bytes = bytes;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Bytes it takes on the medium: holes take none. */
  get storedBytes(): number {
    return this.#pages.size * PAGE_BYTES;
  }

  clone(): ByteImage {
    return new ByteImage(new Map(this.#pages), this.#bytes);
  }

  apply(change: FileChange): void {
    switch (change.kind) {
      case 'write':
        this.#write(change.offset, change.bytes);
        break;
      case 'truncate':
        this.#truncate(change.bytes);
        break;
      case 'punch':
        this.#zero(change.offset, Math.min(this.#bytes, change.offset + change.length));
        break;
    }
  }

  /** Bytes read: fewer than asked only at the end. */
  read(offset: number, target: Uint8Array): number {
    const end = Math.min(this.#bytes, offset + target.length);
    for (let at = offset; at < end;) {
      const index = Math.floor(at / PAGE_BYTES);
      const stop = Math.min(end, (index + 1) * PAGE_BYTES);
      const page = this.#pages.get(index);
      const into = target.subarray(at - offset, stop - offset);
      if (page) into.set(page.subarray(at - index * PAGE_BYTES, stop - index * PAGE_BYTES));
      else into.fill(0);
      at = stop;
    }
    return Math.max(0, end - offset);
  }

  #write(offset: number, bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length;) {
      const index = Math.floor((offset + at) / PAGE_BYTES);
      const inPage = offset + at - index * PAGE_BYTES;
      const length = Math.min(bytes.length - at, PAGE_BYTES - inPage);
      const page = this.#pages.get(index)?.slice() ?? new Uint8Array(PAGE_BYTES);
      page.set(bytes.subarray(at, at + length), inPage);
      this.#pages.set(index, page);
      at += length;
    }
    this.#bytes = Math.max(this.#bytes, offset + bytes.length);
  }

  #truncate(bytes: number): void {
    if (bytes < this.#bytes) {
      this.#zero(bytes, this.#bytes);
      for (const index of this.#pages.keys()) if (index * PAGE_BYTES >= bytes) this.#pages.delete(index);
    }
    this.#bytes = bytes;
  }

  #zero(from: number, end: number): void {
    for (const [index, old] of this.#pages) {
      const start = index * PAGE_BYTES;
      if (start >= end || start + PAGE_BYTES <= from) continue;
      if (from <= start && end >= start + PAGE_BYTES) {
        this.#pages.delete(index);
        continue;
      }
      const page = old.slice();
      page.fill(0, Math.max(0, from - start), Math.min(PAGE_BYTES, end - start));
      this.#pages.set(index, page);
    }
  }
}
