/**
 * Processes by an identity that survives the reuse of numbers: the pid together with the kernel's start time.
 *
 * The lab ends only processes that it recorded, or that are inside a network namespace it made.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { Failure } from '#/lib/failure.ts';
import { systemClock } from '#/lib/system-clock.ts';

export interface ProcessIdentity {
  readonly pid: number;
  /** Field 22 of /proc/PID/stat, in ticks since the machine's boot. */
  readonly start_ticks: number;
}

const DEATH_MS = 30_000;
const KILL_ROUNDS = 600;
const KILL_PAUSE_MS = 50;

/** Undefined when there is no such process, or only its remains. */
export function identify(pid: number): ProcessIdentity | undefined {
  const fields = statFields(pid);
  if (fields === undefined || fields[0] === 'X') return undefined;
  // The first thread of a killed program may be gone while others still hold its files.
  if (fields[0] === 'Z' && Number(fields[17]) <= 1) return undefined;
  return { pid, start_ticks: Number(fields[19]) };
}

export function isAlive(identity: ProcessIdentity): boolean {
  return identify(identity.pid)?.start_ticks === identity.start_ticks;
}

/** Fields of /proc/PID/stat from the third on. The second, the name, may hold spaces and parentheses. */
function statFields(pid: number): string[] | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return text.slice(text.lastIndexOf(')') + 2).split(' ');
  } catch {
    return undefined;
  }
}

/** Sends `signal` if the process still is the recorded one. */
export function signalProcess(identity: ProcessIdentity, signal: NodeJS.Signals): void {
  if (!isAlive(identity)) return;
  try {
    process.kill(identity.pid, signal);
  } catch (error) {
    // It ended between the look and the signal.
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** Resolves when the process is gone; what stays longer than a stuck kernel call explains is a Failure. */
export async function waitForDeath(identity: ProcessIdentity, limitMs = DEATH_MS): Promise<void> {
  const end = systemClock.monotonicMs() + limitMs;
  while (isAlive(identity)) {
    if (systemClock.monotonicMs() > end) {
      throw new Failure(
        'timeout',
        `process ${identity.pid} is still there ${limitMs} ms after it was told to end`,
      );
    }
    await systemClock.sleep(10);
  }
}

/**
 * Every process inside the network namespace that is mounted at `path`; none when there is no such
 * namespace.
 */
export function processesInNetwork(path: string): ProcessIdentity[] {
  const wanted = inode(path);
  if (wanted === undefined) return [];
  const found: ProcessIdentity[] = [];
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    if (inode(`/proc/${entry}/ns/net`) !== wanted) continue;
    const identity = identify(Number(entry));
    if (identity !== undefined) found.push(identity);
  }
  return found;
}

function inode(path: string): string | undefined {
  try {
    const { dev, ino } = statSync(path);
    return `${dev}:${ino}`;
  } catch {
    return undefined;
  }
}

/**
 * SIGKILL to all that is in the namespace, again until nothing is left: a process may fork while it is
 * looked for.
 */
export async function killAllInNetwork(path: string): Promise<number> {
  const killed = new Map<number, ProcessIdentity>();
  for (let round = 0; round < KILL_ROUNDS; round++) {
    const found = processesInNetwork(path);
    if (found.length === 0) {
      // A dying process leaves its namespace before it lets go of its files.
      for (const identity of killed.values()) await waitForDeath(identity);
      return killed.size;
    }
    for (const identity of found) {
      killed.set(identity.pid, identity);
      signalProcess(identity, 'SIGKILL');
    }
    await systemClock.sleep(KILL_PAUSE_MS);
  }
  throw new Failure('timeout', `processes in ${path} do not end: ${[...killed.keys()].join(' ')}`);
}
