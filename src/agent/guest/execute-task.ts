/** A program in a guest, run once for its task: the process that was begun is on disk, and a repeat waits for it. */
import type { ExecuteTask } from '#/control/guest-tasks.ts';
import { Failure } from '#/lib/failure.ts';
import { domainOf, type GuestContext } from './guest-context.ts';
import type { GuestRecords } from './guest-records.ts';
import { runProgram, type Ended } from './run-program.ts';

const TOLD_LENGTH_MAX = 300;

/** Throws Failure tool_failed when it ended otherwise than with 0, timeout, vm_unsupported, libvirt_error. */
export async function runExecute(
  task: ExecuteTask,
  context: GuestContext & { records: GuestRecords },
  signal: AbortSignal,
): Promise<Record<string, unknown>> {
  const { clock, records, steps } = context;
  const domain = await domainOf(task, context);
  return await steps.run(`run ${task.path}`, async () => {
    const record = {
      pid: (await records.read(task.id))?.pid,
      begun: (pid: number) => records.write(task.id, { pid }),
    };
    const program = { path: task.path, arguments: task.arguments, timeoutMs: task.timeout_ms };
    const ended = await runProgram(domain, program, { clock, signal, record });
    if (ended.exitCode === 0) return { exit_status: 0, output: ended.output };
    throw new Failure('tool_failed', `${task.path} in ${task.vm_name} ended with ${statusOf(ended)}`, {
      hint: `It said: ${ended.output.trim().slice(-TOLD_LENGTH_MAX) || 'nothing'}`,
    });
  });
}

/** 137 is the status of a program that `timeout` has killed, as shells tell it. */
export function statusOf({ exitCode, signal }: Ended): string {
  if (exitCode === 137) return 'status 137: it was killed, most likely at its time limit';
  return exitCode === null ? `signal ${signal ?? 'unknown'}` : `status ${exitCode}`;
}
