/**
 * Keeps a second program off a directory that has one owner at a time.
 *
 * A symbolic link names the owner by process id and start time, so that neither a crash nor a reused process id leaves
 * the directory locked. It is made whole or not at all, and takes no space for contents: a program must be able to
 * start on a file system that is full, for that is how people get at what is there.
 * Invariant: of two programs that start at the same time at most one gets the lock.
 */
import { mkdir, readFile, readlink, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { Failure } from './failure.ts';

/** Field 22 of /proc/PID/stat, counted after the command name, which may hold anything. */
const START_TIME_FIELD = 19;
const TRIES_MAX = 5;

/** Dispose it to give the directory free. Throws conflict when a living program holds it. */
export async function lockDirectory(directory: string): Promise<AsyncDisposable> {
  const path = join(directory, '.lock');
  const own = `${process.pid} ${await startTime(process.pid)}`;
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    for (let tries = 0; tries < TRIES_MAX; tries++) {
      if (await isTaken(own, path)) return { [Symbol.asyncDispose]: () => rm(path, { force: true }) };
      await removeIfStale(path, directory);
    }
    throw new Error('others keep taking it');
  } catch (error) {
    if (error instanceof Failure) throw error;
    throw new Failure('storage_io', `lock ${directory}`, { cause: error });
  }
}

async function isTaken(owner: string, path: string): Promise<boolean> {
  try {
    await symlink(owner, path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

async function removeIfStale(path: string, directory: string): Promise<void> {
  const holder = await readlink(path).catch((error: NodeJS.ErrnoException) => {
    // Given free meanwhile, or a file of that name that names nobody.
    if (error.code === 'ENOENT' || error.code === 'EINVAL') return '';
    throw error;
  });
  const [pid, since] = holder.split(' ');
  if (holder !== '' && (await startTime(Number(pid))) === since) {
    throw new Failure('conflict', `use ${directory}: process ${pid} is using it`, {
      hint: 'Stop that program, or give this one a directory of its own.',
    });
  }
  await rm(path, { force: true });
}

/** When the process was started, in clock ticks since boot; empty when there is none. */
async function startTime(pid: number): Promise<string> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[START_TIME_FIELD] ?? '';
  } catch {
    // Gone, or never there: nobody holds anything by this id.
    return '';
  }
}
