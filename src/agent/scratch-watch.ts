/**
 * Keeps the scratch space of a backup from filling up (I3): a guest whose overwritten bytes find no room is paused
 * with an I/O error, so the moment is given up before that.
 *
 * Two bounds: what was ordered for the moment, and a reserve of the file system that others write to as well.
 */
import { stat, statfs } from 'node:fs/promises';
import type { Clock } from '#/lib/clock.ts';
import { Failure } from '#/lib/failure.ts';
import { SCRATCH_LOOK_MS, SCRATCH_RESERVE_BYTES } from './limits.ts';

const SECTOR_BYTES = 512;

export type ScratchWatchOptions = {
  vm: string;
  /** In the file system of the scratch files. */
  directory: string;
  files: readonly string[];
  boundBytes: number;
  clock: Clock;
};

/** Resolves with the reason once a bound is reached, or with undefined when the signal aborts. */
export async function watchScratch(
  options: ScratchWatchOptions,
  signal: AbortSignal,
): Promise<Failure | undefined> {
  while (!signal.aborted) {
    const reason = await scratchReason(options);
    if (reason !== undefined) return reason;
    await options.clock.sleep(SCRATCH_LOOK_MS, signal).catch(() => undefined);
  }
  return undefined;
}

async function scratchReason({
  vm,
  directory,
  files,
  boundBytes,
}: ScratchWatchOptions): Promise<Failure | undefined> {
  const { bavail, blocks, bsize } = await statfs(directory);
  const freeBytes = bavail * bsize;
  const reserveBytes = Math.min(SCRATCH_RESERVE_BYTES, (blocks * bsize) / 5);
  const used = await Promise.all(files.map(allocatedBytes));
  const usedBytes = used.reduce((sum, bytes) => sum + bytes, 0);
  if (usedBytes >= boundBytes) {
    return new Failure('scratch_full', `VM ${vm}: scratch has grown to ${usedBytes} of ${boundBytes} bytes`, {
      hint: 'Allow the protection more scratch, or give the link more bandwidth.',
    });
  }
  if (freeBytes < reserveBytes) {
    return new Failure('scratch_full', `VM ${vm}: ${freeBytes} bytes are free in ${directory}`, {
      hint: 'Give scratch_directory more room.',
    });
  }
  return undefined;
}

async function allocatedBytes(path: string): Promise<number> {
  try {
    return (await stat(path)).blocks * SECTOR_BYTES;
  } catch (error) {
    // libvirt makes the file when the backup begins and removes it when it ends.
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return 0;
    throw error;
  }
}
