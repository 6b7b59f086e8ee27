/** Opens the disks of one recovery point from the files it is made of (docs/storage-format.md, section 7). Pure. */
import { Failure } from '#/lib/failure.ts';
import type { DeltaFile } from './delta-file.ts';
import { DiskState } from './disk-state.ts';
import type { PointEntry } from './log-record.ts';
import { SegmentCache } from './segment-cache.ts';
import type { StorePlace } from './store-place.ts';
import { ViewDisk } from './view-disk.ts';

/** The disks of a point. `deltas` are those up to it, in order; `confirm` is called after everything read. */
export async function openDisks(
  place: StorePlace,
  { point, deltas }: { point: PointEntry; deltas: DeltaFile[] },
  confirm: () => Promise<void>,
): Promise<ViewDisk[]> {
  const byNumber = new Map(deltas.map((delta) => [delta.entry.number, delta]));
  const cache = new SegmentCache();
  const disks: ViewDisk[] = [];
  for (const disk of point.disks) {
    const state = await DiskState.load(place, disk, byNumber);
    await confirm();
    if (state.tree.root !== disk.root) {
      throw new Failure(
        'storage_corrupt',
        `open point ${point.sequence}: the digest tree of ${disk.key} has root ${state.tree.root}, not ${disk.root}`,
        { hint: 'Check the replica with `antipode replica verify`; other points may be good.' },
      );
    }
    disks.push(await ViewDisk.open({ state, deltas, cache, confirm }));
  }
  return disks;
}
