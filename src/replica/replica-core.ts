/** What the parts of an open replica share: its files, its log, its delta files and the disks of its head. Pure. */
import { Failure } from '#/lib/failure.ts';
import type { Clock } from '#/lib/clock.ts';
import type { DiskSpec } from '#/wire/messages.ts';
import type { DeltaFile } from './delta-file.ts';
import type { DiskState } from './disk-state.ts';
import type { StoreLimits } from './limits.ts';
import type { DiskEntry } from './log-record.ts';
import type { PointLog } from './point-log.ts';
import type { StorePlace } from './store-place.ts';

export type ReplicaCore = {
  readonly place: StorePlace;
  readonly clock: Clock;
  readonly log: PointLog;
  readonly limits: StoreLimits;
  /** By number, in order. */
  readonly deltas: Map<number, DeltaFile>;
  /** The disks of the newest point, or of the first copy, in its order. */
  disks: DiskState[];
  /** Hashes of attachments that a coming point may name. */
  readonly expectedAttachments: Set<string>;
  /** A number for a delta file that no other file has or had since the replica was opened. */
  takeDeltaNumber(): number;
};

/** Refuses to take in more when only compaction may still write. */
export async function checkSpace({ place, limits: { reserveBytes } }: ReplicaCore): Promise<void> {
  const free = await place.files.freeBytes();
  if (free >= reserveBytes) return;
  throw new Failure(
    'storage_full',
    `receive a recovery point: ${free} bytes are free, ${reserveBytes} are kept for compaction`,
    { hint: 'Make room at the replica, or keep fewer recovery points.' },
  );
}

/** The disks of a point with their ids: a key that the replica has keeps its disk, another one is a new disk. */
export function assignIds(
  specs: readonly DiskSpec[],
  known: readonly DiskEntry[],
  nextDisk: number,
): DiskEntry[] {
  let next = nextDisk;
  return specs.map(({ key, bytes }) => ({
    id: known.find((disk) => disk.key === key)?.id ?? next++,
    key,
    bytes,
  }));
}

/** Throws `conflict` where the sender's root differs from what is here. */
export function checkRoots(
  disks: readonly DiskEntry[],
  own: readonly string[],
  roots: readonly string[],
): void {
  if (own.length !== roots.length) {
    throw new Failure('conflict', `commit: ${roots.length} roots for ${own.length} disks`);
  }
  for (const [index, root] of own.entries()) {
    if (root === roots[index]) continue;
    throw new Failure(
      'conflict',
      `commit: the root of ${disks[index]?.key} is ${root} here and ${roots[index]} at the source`,
    );
  }
}
