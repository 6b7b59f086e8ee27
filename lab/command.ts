/**
 * Runs a program to its end: bounded output, a time limit, and a Failure that says what it was and what it
 * said.
 */
import { spawn } from 'node:child_process';
import { Failure } from '#/lib/failure.ts';

export interface RunOptions {
  readonly cwd?: string;
  readonly input?: string | undefined;
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal | undefined;
  readonly env?: NodeJS.ProcessEnv;
  /** The caller looks at `code` itself. */
  readonly allowFailure?: boolean;
}

export interface RunResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

const OUTPUT_BYTES_MAX = 16 * 1024 * 1024;
const TIMEOUT_MS = 60_000;
const MESSAGE_CHARACTERS = 600;

/**
 * `argv[0]` is looked up in PATH. Rejects with tool_failed when the program fails, is missing, or runs too
 * long.
 */
export async function run(argv: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  const timeoutMs = options.timeoutMs ?? TIMEOUT_MS;
  const limit = AbortSignal.timeout(timeoutMs);
  const signal = options.signal === undefined ? limit : AbortSignal.any([limit, options.signal]);
  const child = spawn(argv[0]!, argv.slice(1), {
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    env: { ...process.env, LC_ALL: 'C', ...options.env },
    stdio: ['pipe', 'pipe', 'pipe'],
    signal,
    killSignal: 'SIGKILL',
  });
  // A program that ends without reading its input is judged by its exit code.
  child.stdin.on('error', () => undefined);
  child.stdin.end(options.input ?? '');
  const stdout = collect(child.stdout);
  const stderr = collect(child.stderr);
  const code = await new Promise<number>((resolve, reject) => {
    child.on('error', (error) => {
      const what = limit.aborted ? `did not end within ${timeoutMs} ms` : 'could not be run';
      reject(
        new Failure(limit.aborted ? 'timeout' : 'tool_failed', `${argv.join(' ')} ${what}`, { cause: error }),
      );
    });
    child.on('close', (exitCode, killedBy) => resolve(exitCode ?? (killedBy === null ? -1 : 128)));
  });
  const result = { code, stdout: stdout(), stderr: stderr() };
  if (code !== 0 && options.allowFailure !== true) {
    const said = (result.stderr || result.stdout).trim().slice(-MESSAGE_CHARACTERS);
    throw new Failure('tool_failed', `${argv.join(' ')} ended with ${code}: ${said}`);
  }
  return result;
}

function collect(stream: NodeJS.ReadableStream): () => string {
  const parts: Buffer[] = [];
  let bytes = 0;
  stream.on('data', (part: Buffer) => {
    if (bytes < OUTPUT_BYTES_MAX) parts.push(part);
    bytes += part.length;
  });
  return () => Buffer.concat(parts).toString('utf8');
}
