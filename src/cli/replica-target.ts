/** Opens the replica directory that a command names, as it is: without a manager, a server, or a lock. */
import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { NodeFileSystem } from '#/disk/node-file-system.ts';
import { Failure, hasCode } from '#/lib/failure.ts';
import { BareReplica } from '#/replica/bare-replica.ts';

/** Throws not_found when there is no such directory, or no replica in it. */
export async function openBareReplica(directory: string): Promise<BareReplica> {
  const path = resolve(directory);
  if (!(await isDirectory(path))) {
    throw new Failure('not_found', `open replica ${path}: there is no such directory`, { hint: FIND });
  }
  try {
    return await BareReplica.open(new NodeFileSystem(path));
  } catch (error) {
    if (!hasCode(error, 'not_found')) throw error;
    throw new Failure('not_found', `open replica ${path}: the directory holds none`, { hint: FIND });
  }
}

const FIND =
  'List the replicas in a store with: antipode replica list STORE; store_directory of the replication server names it.';

export async function isDirectory(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw new Failure('storage_io', `look at ${path}`, { cause: error });
  }
}

/** The point that a command names, or the newest. */
export async function choosePoint(replica: BareReplica, sequence: string | undefined): Promise<number> {
  if (sequence !== undefined) {
    if (/^[1-9]\d{0,14}$/.test(sequence)) return Number(sequence);
    throw new Failure('usage_invalid', `"${sequence}" is no recovery point`, {
      hint: 'Points are numbers; list them with: antipode replica points DIRECTORY',
    });
  }
  const head = (await replica.points()).at(-1);
  if (head !== undefined) return head.sequence;
  throw new Failure('not_found', 'the replica has no recovery point yet: its first copy is not complete');
}
