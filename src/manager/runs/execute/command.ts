/**
 * A program on the manager. Only the machine's root says which there are: a regular file of the directory that the
 * configuration names, which nobody but root can write. It is run without a shell and with next to no environment, and
 * ended with all its children when its time is up.
 *
 * Carried out at least once: after the manager was killed in the middle it is run again, and ANTIPODE_ATTEMPT says so.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { constants } from 'node:fs';
import { lstat, type FileHandle } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { describe, Failure } from '#/lib/failure.ts';
import type { StepOutcome } from '#/manager/runs/ports.ts';
import type { StepBody } from '#/manager/runs/run-step.ts';
import { failed, type StepCall } from '#/manager/runs/step-executor.ts';

type Body = Extract<StepBody, { kind: 'command' }>;
const OUTPUT_BYTES_MAX = 64 * 1024;
const OTHERS_WRITE = constants.S_IWGRP | constants.S_IWOTH;
const EXECUTABLE = constants.S_IXUSR;

export async function runCommand(call: StepCall<Body>, directory: string | null): Promise<StepOutcome> {
  const { body, signal } = call;
  if (directory === null) return failed('forbidden', noPrograms(body.command), HINT);
  const path = await checkProgram(body.command, directory);
  signal.throwIfAborted();
  const child = spawn(path, body.arguments, {
    cwd: '/',
    detached: true,
    env: environment(call),
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const output = new Output();
  child.stdout.on('data', (chunk: Buffer) => output.take(chunk));
  child.stderr.on('data', (chunk: Buffer) => output.take(chunk));
  const ended = await end(child, signal);
  const result = { output: output.text(), output_was_cut: output.isCut };
  if (ended instanceof Error) return failed('tool_failed', `start ${path}: ${describe(ended)}`);
  const { code, by } = ended;
  if (code === 0) return { state: 'done', result };
  const last = result.output.trim().slice(-500);
  const how = code === null ? `was ended by ${by}` : `ended with ${code}`;
  return failed('tool_failed', `${body.command} ${how}${last === '' ? '' : `; it said: ${last}`}`);
}

const HINT = 'The administrator names their directory in the configuration: plan_commands_directory.';

const noPrograms = (command: string): string =>
  `program ${command}: no programs of plans are run on this manager`;

/** Where the program is. Throws forbidden, not_found. */
export async function checkProgram(command: string, directory: string | null): Promise<string> {
  if (directory === null) {
    throw new Failure('forbidden', noPrograms(command), { hint: HINT });
  }
  const path = join(directory, command);
  for (const at of [directory, path]) {
    let found: Awaited<ReturnType<FileHandle['stat']>>;
    try {
      found = await lstat(at);
    } catch (error) {
      throw new Failure('not_found', `program ${at}`, { cause: error, hint: HINT });
    }
    const isRight = at === directory ? found.isDirectory() : found.isFile();
    const problem =
      (!isRight && (at === directory ? 'is no directory' : 'is no regular file')) ||
      (found.uid !== 0 && 'does not belong to root') ||
      ((found.mode & OTHERS_WRITE) !== 0 && 'can be written by others than root') ||
      (at === path && (found.mode & EXECUTABLE) === 0 && 'cannot be executed');
    if (problem === false) continue;
    throw new Failure('forbidden', `program ${at} ${problem}`, {
      hint: `It must be a regular file of root in ${dirname(path)}, with mode 0755 or less.`,
    });
  }
  return path;
}

function environment({ run, step }: StepCall<Body>): NodeJS.ProcessEnv {
  return {
    PATH: '/usr/sbin:/usr/bin:/sbin:/bin',
    ANTIPODE_RUN: run.id,
    ANTIPODE_KIND: run.plan.kind,
    ANTIPODE_PLAN: run.plan.planName,
    ANTIPODE_STEP: step.key,
    ANTIPODE_ATTEMPT: String(step.attempts),
    ANTIPODE_VM: run.plan.vms.find(({ vmUuid }) => vmUuid === step.vmUuid)?.vmName ?? '',
  };
}

/** When the signal aborts, the whole process group is killed: a script's children hold its output open. */
function end(
  child: ChildProcess,
  signal: AbortSignal,
): Promise<{ code: number | null; by: string | null } | Error> {
  return new Promise((resolve) => {
    const kill = (): void => {
      try {
        if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
      } catch {
        // The group is gone already.
      }
    };
    signal.addEventListener('abort', kill, { once: true });
    if (signal.aborted) kill();
    const settle = (value: { code: number | null; by: string | null } | Error): void => {
      signal.removeEventListener('abort', kill);
      // Children that it left behind are not waited for, and do not stay.
      kill();
      resolve(value);
    };
    child.once('error', settle);
    child.once('exit', (code, by) => settle({ code, by }));
  });
}

/** The beginning of what a program says, on both of its outputs. */
class Output {
  readonly #chunks: Buffer[] = [];
  #bytes = 0;
  isCut = false;

  take(chunk: Buffer): void {
    const rest = OUTPUT_BYTES_MAX - this.#bytes;
    if (chunk.length > rest) this.isCut = true;
    if (rest <= 0) return;
    this.#chunks.push(chunk.subarray(0, rest));
    this.#bytes += Math.min(rest, chunk.length);
  }

  text(): string {
    return Buffer.concat(this.#chunks).toString('utf8');
  }
}
