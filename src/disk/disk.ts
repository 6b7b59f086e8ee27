/**
 * A disk as everything here reads it: bytes at offsets, and a map of what is known to be zero.
 *
 * Sources (NBD exports), files, and recovery points are all a Disk; throttle, fault and count are wrappers of one.
 * Every implementation and wrapper passes `disk-contract.ts`.
 */

/** The unit of comparison, transfer and digest. The last block of a disk is padded with zeroes to this length. */
export const BLOCK_BYTES = 4096;

/** What a range holds: `zero` reads as zeroes without reading it; `data` may hold anything. */
export type Extent = { offset: number; length: number; kind: 'data' | 'zero' };

export interface Disk extends AsyncDisposable {
  /** Length of the disk in bytes; a multiple of 512. */
  readonly bytes: number;
  /**
   * Fills all of `target` from `offset`. Many calls may be in flight.
   * Throws Failure (nbd_error, storage_io, storage_corrupt, unreachable) for this read alone; `usage_invalid` when
   * the range leaves the disk.
   */
  read(offset: number, target: Uint8Array, signal?: AbortSignal): Promise<void>;
  /**
   * Extents that start at `offset`, in order, without gaps, none empty. They may end before `offset + length`
   * (ask again from there) and never after it. At most EXTENTS_MAX of them.
   */
  extents(offset: number, length: number, signal?: AbortSignal): Promise<Extent[]>;
}

/** Most extents one `extents` call returns: a bound on memory whatever the disk looks like. */
export const EXTENTS_MAX = 4096;

/** Blocks in a disk of this many bytes, the padded last one included. */
export function blockCount(diskBytes: number): number {
  return Math.ceil(diskBytes / BLOCK_BYTES);
}
