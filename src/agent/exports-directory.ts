/**
 * Where QEMU makes the sockets of a cycle's exports. QEMU itself binds them, as the user that libvirt runs it as, so
 * the directory belongs to that user; and to nothing else, since who may write beside the manager's socket could put
 * another in its place.
 */
import { chown, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { Failure } from '#/lib/failure.ts';

/** Leaves the group as it is. */
const SAME_GROUP = -1;

/** Its path. `user` is undefined on a host that has no QEMU of libvirt's yet. Throws storage_io. */
export async function makeExportsDirectory(runDirectory: string, user: number | undefined): Promise<string> {
  // Short: the path of a socket has 107 bytes.
  const path = join(runDirectory, 'exports');
  try {
    await mkdir(path, { recursive: true, mode: 0o700 });
    if (user !== undefined) await chown(path, user, SAME_GROUP);
    return path;
  } catch (cause) {
    throw new Failure('storage_io', `make ${path}, where QEMU serves what a cycle reads`, { cause });
  }
}
