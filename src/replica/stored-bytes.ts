/** How much room a replica takes. Pure. */
import { listIfThere, openIfThere, pathIn } from './files.ts';
import type { LogState } from './log-state.ts';
import type { StorePlace } from './store-place.ts';

/** Bytes on disk; the holes of a base count only where the file system cannot tell them. */
export async function storedBytes({ files, directory }: StorePlace, state: LogState): Promise<number> {
  let bytes = state.deltas.reduce((sum, delta) => sum + delta.bytes, 0);
  for (const name of ['attachments', 'incoming']) {
    bytes += await bytesIn(name);
  }
  for (const id of await listIfThere(files, pathIn(directory, 'disks')))
    bytes += await bytesIn(`disks/${id}`);
  return bytes;

  async function bytesIn(folder: string): Promise<number> {
    const own = pathIn(directory, folder);
    let sum = 0;
    for (const name of await listIfThere(files, own)) {
      const file = await openIfThere(files, pathIn(own, name), 'read');
      if (file === undefined) continue;
      sum += await (file.allocatedBytes?.() ?? file.bytes());
      await file[Symbol.asyncDispose]();
    }
    return sum;
  }
}
