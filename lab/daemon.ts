/** Starts a long-running program that outlives this process, and waits until it says that it is ready. */
import { spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync } from 'node:fs';
import type { Server } from 'node:net';
import { dirname } from 'node:path';
import { Failure } from '#/lib/failure.ts';
import { systemClock } from '#/lib/system-clock.ts';
import { identify, isAlive, type ProcessIdentity } from './processes.ts';

export interface DaemonOptions {
  readonly argv: readonly string[];
  /** Its output is appended here. */
  readonly log: string;
  readonly env?: Readonly<Record<string, string>>;
  /** The program is ready when this file is there. One from before is removed first. */
  readonly readyFile?: string;
  readonly readyMs?: number;
  /** A listening socket of this process that the program inherits as descriptor 3. */
  readonly socket?: Server;
}

const READY_MS = 15_000;
const LOG_CHARACTERS = 800;
const POLL_MS = 10;
/** What every daemon sees of this process's environment. */
const INHERITED = ['PATH', 'HOME', 'LANG', 'TMPDIR'];

export async function startDaemon(options: DaemonOptions): Promise<ProcessIdentity> {
  if (options.readyFile !== undefined) rmSync(options.readyFile, { force: true });
  mkdirSync(dirname(options.log), { recursive: true });
  const log = openSync(options.log, 'a');
  const env: Record<string, string> = { ...options.env };
  for (const name of INHERITED) env[name] ??= process.env[name] ?? '';
  // Services write pid files and sockets for themselves alone; a terminal's signals are not for them.
  const child = spawn(options.argv[0]!, options.argv.slice(1), {
    cwd: '/',
    detached: true,
    env,
    stdio: ['ignore', log, log, ...(options.socket === undefined ? [] : [options.socket as never])],
  });
  closeSync(log);
  let spawnError: Error | undefined;
  child.on('error', (error) => (spawnError = error));
  child.unref();
  const identity = child.pid === undefined ? undefined : identify(child.pid);
  const isReady = (): boolean => options.readyFile === undefined || existsSync(options.readyFile);
  const end = systemClock.monotonicMs() + (options.readyMs ?? READY_MS);
  while (true) {
    if (spawnError !== undefined || identity === undefined || !isAlive(identity)) {
      throw new Failure(
        'tool_failed',
        `start ${name(options.argv)}: ended at once: ${lastWords(options.log)}`,
        {
          cause: spawnError,
        },
      );
    }
    if (isReady()) return identity;
    if (systemClock.monotonicMs() > end) {
      process.kill(identity.pid, 'SIGKILL');
      throw new Failure(
        'timeout',
        `start ${name(options.argv)}: not ready in time: ${lastWords(options.log)}`,
      );
    }
    await systemClock.sleep(POLL_MS);
  }
}

function name(argv: readonly string[]): string {
  const own = argv.indexOf('--');
  return argv.slice(own + 1, own + 4).join(' ');
}

function lastWords(log: string): string {
  return readFileSync(log, 'utf8').trim().slice(-LOG_CHARACTERS);
}
