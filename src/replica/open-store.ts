/**
 * Makes the directory of a replica, and opens one: whatever a crash left is completed or taken away first
 * (docs/storage-format.md, section 8). Pure.
 */
import { Failure, hasCode } from '#/lib/failure.ts';
import type { Clock } from '#/lib/clock.ts';
import type { FileSystem } from '#/disk/file-system.ts';
import { deltaName, openDelta, type DeltaFile } from './delta-file.ts';
import { DiskState } from './disk-state.ts';
import { listIfThere, openIfThere, pathIn, readWhole, removeIfThere, writeFileDurably } from './files.ts';
import { recoverFirstCopy } from './first-copy-recovery.ts';
import { HandlePool } from './handle-pool.ts';
import { OPEN_DELTAS_MAX, STORE_LIMITS, SUPERBLOCK_BYTES_MAX, type StoreLimits } from './limits.ts';
import type { DiskEntry } from './log-record.ts';
import { pointAt, type LogState } from './log-state.ts';
import { PointLog } from './point-log.ts';
import type { ReplicaCore } from './replica-core.ts';
import type { ReplicaIdentity } from './replica.ts';
import { basePath, diskDirectory, type StorePlace } from './store-place.ts';
import { decodeSuperblock, encodeSuperblock, replicaTag } from './superblock.ts';

export type ReplicaOptions = {
  files: FileSystem;
  clock: Clock;
  /** The replica's directory below the root of `files`; its root when left out. */
  directory?: string;
  limits?: Partial<StoreLimits>;
};

const SUPERBLOCK = 'superblock';

/** Makes an empty replica, durably. Throws already_exists when the directory holds one. */
export async function createStore(
  { files, directory = '' }: ReplicaOptions,
  identity: ReplicaIdentity,
): Promise<void> {
  await files.makeDirectory(directory);
  const existing = await openIfThere(files, pathIn(directory, SUPERBLOCK), 'read');
  if (existing !== undefined) {
    await existing[Symbol.asyncDispose]();
    throw new Failure('already_exists', `create replica ${identity.replicaId}: the directory holds one`);
  }
  for (const name of ['disks', 'deltas', 'incoming', 'attachments'])
    await files.makeDirectory(pathIn(directory, name));
  await PointLog.create({ files, directory, tag: replicaTag(identity.replicaId) });
  // The superblock comes last: a directory that has one is whole.
  await writeFileDurably(files, { directory, name: SUPERBLOCK }, encodeSuperblock(identity));
  if (directory !== '') await files.syncDirectory(parentOf(directory));
}

/** Throws not_found when the directory holds no replica, storage_corrupt. */
export async function readIdentity(files: FileSystem, directory: string): Promise<ReplicaIdentity> {
  try {
    await using file = await files.open(pathIn(directory, SUPERBLOCK), 'read');
    return decodeSuperblock(await readWhole(file, SUPERBLOCK_BYTES_MAX + 1));
  } catch (error) {
    if (!hasCode(error, 'not_found')) throw error;
    throw new Failure('not_found', `open replica ${directory}: the directory holds none`, { cause: error });
  }
}

/** Opens for reading and writing. The caller holds the directory's lock. */
export async function openCore(options: ReplicaOptions, identity: ReplicaIdentity): Promise<ReplicaCore> {
  const { files, clock, directory = '' } = options;
  const limits = { ...STORE_LIMITS, ...options.limits };
  const tag = replicaTag(identity.replicaId);
  const log = await PointLog.open({ files, directory, tag }, limits.logBytesMin);
  const pool = new HandlePool(files, 'read-write', OPEN_DELTAS_MAX);
  const place: StorePlace = { files, directory, tag, digestKey: identity.digestKey, pool };
  try {
    // A program killed before us may have renamed files without making their names durable.
    for (const name of ['', 'disks', 'deltas', 'attachments'])
      await files.syncDirectory(pathIn(directory, name));
    const { state } = log;
    await sweep(place, state);
    const deltas = await openDeltas(place, state);
    const disks: DiskState[] = [];
    for (const disk of await headDisks(place, state)) disks.push(await DiskState.load(place, disk, deltas));
    let next = state.nextDelta;
    return {
      place,
      clock,
      log,
      limits,
      deltas,
      disks,
      expectedAttachments: new Set(),
      takeDeltaNumber: () => next++,
    };
  } catch (error) {
    await pool[Symbol.asyncDispose]();
    await log[Symbol.asyncDispose]();
    throw error;
  }
}

/** The disks of the newest point, or of the first copy, whose bases are recovered. */
async function headDisks(place: StorePlace, state: LogState): Promise<DiskEntry[]> {
  const head = pointAt(state, state.head);
  if (head !== undefined) return head.disks.map(({ id, key, bytes }) => ({ id, key, bytes }));
  for (const disk of state.firstCopy) await recoverFirstCopy(place, disk);
  return state.firstCopy;
}

async function openDeltas(place: StorePlace, state: LogState): Promise<Map<number, DeltaFile>> {
  const deltas = new Map<number, DeltaFile>();
  for (const entry of state.deltas) {
    try {
      deltas.set(entry.number, await openDelta(place, entry));
    } catch (error) {
      if (!hasCode(error, 'not_found')) throw error;
      const range = `points ${entry.first} to ${entry.last}`;
      throw new Failure('storage_corrupt', `open replica: the delta file of ${range} is missing`, {
        cause: error,
      });
    }
  }
  return deltas;
}

/** Takes away what no record names. */
async function sweep({ files, directory }: StorePlace, state: LogState): Promise<void> {
  const deltas = new Set(state.deltas.map(({ number }) => deltaName(number)));
  for (const name of await listIfThere(files, pathIn(directory, 'deltas'))) {
    if (!deltas.has(name)) await removeIfThere(files, pathIn(pathIn(directory, 'deltas'), name));
  }
  const attachments = new Set(state.points.flatMap((point) => point.attachments.map(({ sha256 }) => sha256)));
  for (const name of await listIfThere(files, pathIn(directory, 'attachments'))) {
    if (!attachments.has(name)) await removeIfThere(files, pathIn(pathIn(directory, 'attachments'), name));
  }
  await sweepDisks(files, directory, state);
}

/** Removes bases that no point and no first copy names. */
export async function sweepDisks(files: FileSystem, directory: string, state: LogState): Promise<void> {
  const ids = new Set(state.firstCopy.map(({ id }) => String(id)));
  for (const point of state.points) for (const { id } of point.disks) ids.add(String(id));
  for (const name of await listIfThere(files, pathIn(directory, 'disks'))) {
    if (!ids.has(name)) await removeBase(files, directory, Number(name));
    else if (state.head > 0) await removeIfThere(files, basePath(directory, Number(name), 'base.marks'));
  }
}

async function removeBase(files: FileSystem, directory: string, diskId: number): Promise<void> {
  const own = diskDirectory(directory, diskId);
  for (const name of await listIfThere(files, own)) await removeIfThere(files, pathIn(own, name));
  await files.removeDirectory(own);
}

function parentOf(path: string): string {
  const at = path.lastIndexOf('/');
  return at < 0 ? '' : path.slice(0, at);
}
