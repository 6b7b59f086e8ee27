/**
 * Runs a program in a guest through its agent, to its end, with bounded output and a time limit.
 *
 * In guests with a shell the limit is also kept inside, by `timeout` where the guest has it: a program that nobody
 * waits for any more does not stay. The output is cut inside too: libvirt gives an agent up that answers too much.
 */
import { Type } from 'typebox';
import type { Clock } from '#/lib/clock.ts';
import { Failure, failureIn } from '#/lib/failure.ts';
import type { Domain } from '#/libvirt/domain.ts';
import { callAgent } from './agent-call.ts';

export const OUTPUT_BYTES_MAX = 64 * 1024;
const POLL_FIRST_MS = 50;
const POLL_MAX_MS = 1000;
/** The program's own end at its limit is reported in this time. */
const GRACE_MS = 5000;

export type Program = { path: string; arguments: readonly string[]; timeoutMs: number };
export type Ended = { exitCode: number | null; signal: number | null; output: string };

/** Where the process of a program that was begun is kept, so that a repeated task waits for it and begins no other. */
export type ProcessRecord = { pid: number | undefined; begun(pid: number): Promise<void> };
const NO_RECORD: ProcessRecord = { pid: undefined, begun: () => Promise.resolve() };

const Begun = Type.Object({ pid: Type.Integer() });
const Status = Type.Object({
  exited: Type.Boolean(),
  exitcode: Type.Optional(Type.Integer()),
  signal: Type.Optional(Type.Integer()),
  'out-data': Type.Optional(Type.String()),
  'err-data': Type.Optional(Type.String()),
});

/** Throws timeout, vm_unsupported, libvirt_error; a program that ends with another status than 0 is no failure here. */
export async function runProgram(
  domain: Domain,
  program: Program,
  { clock, signal, record = NO_RECORD }: { clock: Clock; signal: AbortSignal; record?: ProcessRecord },
): Promise<Ended> {
  const endMs = clock.monotonicMs() + program.timeoutMs;
  let { pid } = record;
  if (pid === undefined) {
    pid = (await callAgent(domain, beginCommand(program), Begun, signal)).pid;
    await record.begun(pid);
  }
  for (let pollMs = POLL_FIRST_MS; ; pollMs = Math.min(pollMs * 2, POLL_MAX_MS)) {
    const status = await ask(domain, pid, signal);
    if (status.exited) return ended(status);
    if (clock.monotonicMs() > endMs + GRACE_MS) throw overdue(domain, program);
    await clock.sleep(pollMs, signal);
  }
}

async function ask(domain: Domain, pid: number, signal: AbortSignal) {
  const command = { execute: 'guest-exec-status', arguments: { pid } };
  try {
    return await callAgent(domain, command, Status, signal);
  } catch (error) {
    const failure = failureIn(error);
    // It is what an agent says that was started anew, as by a reboot of the guest.
    if (failure?.code !== 'libvirt_error' || !/PID \d+ does not exist|parameter 'pid'/i.test(failure.message))
      throw error;
    throw new Failure(
      'tool_failed',
      `the guest agent of ${domain.name} knows nothing of the program it began`,
      {
        cause: error,
        hint: 'The guest was restarted meanwhile: look whether the program has done its work.',
      },
    );
  }
}

function ended(status: {
  exitcode?: number;
  signal?: number;
  'out-data'?: string;
  'err-data'?: string;
}): Ended {
  const text = [status['out-data'], status['err-data']].map((data) => Buffer.from(data ?? '', 'base64'));
  const output = Buffer.concat(text).subarray(0, OUTPUT_BYTES_MAX).toString('utf8');
  return { exitCode: status.exitcode ?? null, signal: status.signal ?? null, output };
}

function overdue(domain: Domain, { path, timeoutMs }: Program): Failure {
  return new Failure('timeout', `${path} in ${domain.name} did not end within ${timeoutMs} ms`);
}

/** Exit status and output of the program, kept apart; what is said beyond the bound is read and dropped. */
const WRAPPER = `limit=$1; bytes=$2; shift 2
command -v timeout >/dev/null 2>&1 && set -- timeout -s KILL "$limit" "$@"
exec 3>&1
status=$({ { "$@" 2>&1 </dev/null; echo $? >&4; } | { head -c "$bytes"; cat >/dev/null; } >&3; } 4>&1)
exit "$status"`;

/** Paths of other systems than those with a shell begin otherwise. */
function beginCommand({ path, arguments: args, timeoutMs }: Program) {
  const seconds = String(Math.ceil(timeoutMs / 1000));
  const begin = path.startsWith('/')
    ? { path: '/bin/sh', arg: ['-c', WRAPPER, 'sh', seconds, String(OUTPUT_BYTES_MAX), path, ...args] }
    : { path, arg: [...args] };
  return { execute: 'guest-exec', arguments: { ...begin, 'capture-output': true } };
}
