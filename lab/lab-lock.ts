/**
 * One command at a time changes a lab: a lock file that names its holder, so that a dead holder holds
 * nothing.
 */
import { linkSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { Failure } from '#/lib/failure.ts';
import { systemClock } from '#/lib/system-clock.ts';
import { identify, isAlive, type ProcessIdentity } from './processes.ts';

const WAIT_MS = 120_000;

/** `path` is the lock file. It is beside the lab's directory, since `down` removes that. */
export async function withLabLock<T>(path: string, action: () => Promise<T>): Promise<T> {
  mkdirSync(dirname(path), { recursive: true });
  const own = `${path}.${process.pid}`;
  writeFileSync(own, JSON.stringify(identify(process.pid)));
  const end = systemClock.monotonicMs() + WAIT_MS;
  try {
    while (!take(own, path)) {
      const holder = readHolder(path);
      if (holder !== undefined && !isAlive(holder)) {
        rmSync(path, { force: true });
      } else if (systemClock.monotonicMs() > end) {
        throw new Failure('conflict', `another command has changed this lab for ${WAIT_MS / 1000} s`, {
          hint: `It is process ${holder?.pid ?? 'unknown'}; the lock is ${path}.`,
        });
      }
      await systemClock.sleep(50);
    }
  } finally {
    rmSync(own, { force: true });
  }
  try {
    return await action();
  } finally {
    rmSync(path, { force: true });
  }
}

/** A link is made whole or not at all, so the lock is never there without its holder's name. */
function take(own: string, path: string): boolean {
  try {
    linkSync(own, path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

function readHolder(path: string): ProcessIdentity | undefined {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as ProcessIdentity;
  } catch {
    // It was let go between the two looks.
    return undefined;
  }
}
