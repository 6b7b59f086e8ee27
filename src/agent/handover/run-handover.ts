/** Which task of a handover is carried out by what. */
import type { HandoverTask } from '#/control/handover-tasks.ts';
import type { AgentTask } from '#/control/orders.ts';
import { runFinalCycle } from './final-cycle-task.ts';
import type { HandoverContext } from './handover-context.ts';
import { runShutDown } from './shut-down-task.ts';
import { runStartAgain } from './start-again-task.ts';

export async function runHandover(
  task: HandoverTask,
  context: HandoverContext,
  signal: AbortSignal,
): Promise<Record<string, unknown>> {
  switch (task.kind) {
    case 'shut_down':
      return runShutDown(task, context, signal);
    case 'final_cycle':
      return { ...(await runFinalCycle(task, context, signal)) };
    case 'start_again':
      return runStartAgain(task, context, signal);
  }
}

/** The tasks that a start takes back, and which must have ended before it. */
export function isTakenBackBy(start: HandoverTask, task: AgentTask): boolean {
  if (start.kind !== 'start_again') return false;
  if (task.kind === 'shut_down') return task.id === start.shut_down_task_id;
  return task.kind === 'final_cycle' && task.shut_down_task_id === start.shut_down_task_id;
}
