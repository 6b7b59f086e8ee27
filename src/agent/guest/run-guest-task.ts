/** Which task on a guest is carried out by what. */
import type { GuestTask } from '#/control/guest-tasks.ts';
import { runCustomize } from './customize-task.ts';
import { runExecute } from './execute-task.ts';
import type { GuestContext } from './guest-context.ts';
import type { GuestRecords } from './guest-records.ts';
import { runProbe } from './probe-task.ts';
import { runResume, runSuspend } from './suspend-task.ts';

export async function runGuestTask(
  task: GuestTask,
  context: GuestContext & { records: GuestRecords },
  signal: AbortSignal,
): Promise<Record<string, unknown>> {
  switch (task.kind) {
    case 'probe':
      return runProbe(task, context, signal);
    case 'execute':
      return runExecute(task, context, signal);
    case 'customize':
      return runCustomize(task, context, signal);
    case 'suspend':
      return runSuspend(task, context);
    case 'resume':
      return runResume(task, context);
  }
}
