/** The first thing every disk does with a range: refuse what leaves it. */
import { Failure } from '#/lib/failure.ts';

/** Throws `usage_invalid` when `length` bytes at `offset` are not all on the disk. */
export function checkRange(disk: { readonly bytes: number }, offset: number, length: number): void {
  if (!Number.isSafeInteger(offset) || offset < 0 || !(length >= 0) || offset + length > disk.bytes) {
    throw new Failure('usage_invalid', `range of ${length} bytes at ${offset} of a disk of ${disk.bytes}`);
  }
}
