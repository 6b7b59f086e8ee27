/** Starts a long-running program that outlives this process, and waits until it says that it is ready. */
import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync } from 'node:fs';
import type { Server } from 'node:net';
import { dirname } from 'node:path';
import { Failure, type FailureCode } from '#/lib/failure.ts';
import { systemClock } from '#/lib/system-clock.ts';
import { identify, isAlive, signalProcess, type ProcessIdentity } from './processes.ts';

export interface DaemonOptions {
  readonly argv: readonly string[];
  /** Its output is appended here. */
  readonly log: string;
  readonly env?: Readonly<Record<string, string>>;
  /** The program is ready when this file is there. One from before is removed first. */
  readonly readyFile?: string;
  readonly readyMs?: number;
  /** A listening socket of this process, sent to the program as its first message. */
  readonly socket?: Server;
}

const READY_MS = 60_000;
const LOG_CHARACTERS = 800;
const POLL_MS = 10;
/** What every daemon sees of this process's environment. */
const INHERITED = ['PATH', 'HOME', 'LANG', 'TMPDIR'];
/** And where libguestfs finds what its appliance boots, and Node what it has compiled before, when they are told. */
const TOLD = /^(LIBGUESTFS_|SUPERMIN_|NODE_COMPILE_CACHE$)/;

export async function startDaemon(options: DaemonOptions): Promise<ProcessIdentity> {
  if (options.readyFile !== undefined) rmSync(options.readyFile, { force: true });
  const child = spawnDetached(options);
  let spawnError: Error | undefined;
  child.on('error', (error) => (spawnError = error));
  if (options.socket !== undefined) child.send('socket', options.socket);
  const identity = child.pid === undefined ? undefined : identify(child.pid);
  const failed = (code: FailureCode, what: string): Failure => {
    const message = `start ${name(options.argv)}: ${what}: ${lastWords(options.log)}`;
    return new Failure(code, message, { cause: spawnError });
  };
  const end = systemClock.monotonicMs() + (options.readyMs ?? READY_MS);
  while (true) {
    // An event of the child comes only when this function waits.
    await systemClock.sleep(POLL_MS);
    if (spawnError !== undefined || identity === undefined || !isAlive(identity)) {
      throw failed('tool_failed', 'ended at once');
    }
    if (options.readyFile === undefined || existsSync(options.readyFile)) {
      // What is left of the channel would keep this process from ending.
      if (child.connected) child.disconnect();
      return identity;
    }
    if (systemClock.monotonicMs() > end) {
      signalProcess(identity, 'SIGKILL');
      throw failed('timeout', 'not ready in time');
    }
  }
}

/** Services write pid files and sockets for themselves alone; a terminal's signals are not for them. */
function spawnDetached(options: DaemonOptions): ChildProcess {
  mkdirSync(dirname(options.log), { recursive: true });
  const log = openSync(options.log, 'a');
  const env: Record<string, string> = { ...options.env };
  for (const variable of INHERITED) env[variable] ??= process.env[variable] ?? '';
  for (const [variable, value] of Object.entries(process.env)) {
    if (TOLD.test(variable) && value !== undefined) env[variable] ??= value;
  }
  const channel = options.socket === undefined ? [] : ['ipc' as const];
  const child = spawn(options.argv[0]!, options.argv.slice(1), {
    cwd: '/',
    detached: true,
    env,
    stdio: ['ignore', log, log, ...channel],
  });
  closeSync(log);
  child.unref();
  return child;
}

function name(argv: readonly string[]): string {
  const own = argv.indexOf('--');
  return argv.slice(own + 1, own + 4).join(' ');
}

function lastWords(log: string): string {
  return readFileSync(log, 'utf8').trim().slice(-LOG_CHARACTERS);
}
