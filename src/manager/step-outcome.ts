/** What came of carrying a step of a recovery out once, in the words of those who do it. */
import type { FailureReport, TaskReport } from '#/control/reports.ts';
import type { StepOutcome } from './runs/ports.ts';
import type { Job } from './store/job-store.ts';
import type { Task } from './store/task-store.ts';

/** What came of carrying out a step once: still under way, done (with words about it), or failed. */
export type Outcome =
  | 'waiting'
  | { waiting: string }
  | 'done'
  | { note: string; point?: number }
  | FailureReport;

/** Between its last cycle and the claim somebody started it: it may have written what is not here. */
export function startedMeanwhile({ id, request }: Job, siteName: string, message: string): FailureReport {
  return {
    code: 'conflict',
    message: `VM ${request.vm_name} was started at site ${siteName} after its last cycle (${message})`,
    hint: `What it has written since is there alone. Give it back with: antipode cleanup ${id}`,
  };
}

export function fromStep(outcome: StepOutcome): Outcome {
  switch (outcome.state) {
    case 'waiting':
      return outcome.note === undefined ? 'waiting' : { waiting: outcome.note };
    case 'failed':
      return outcome.failure;
    case 'done': {
      const point = outcome.result?.['sequence'];
      return { note: outcome.note ?? 'done', ...(typeof point === 'number' ? { point } : {}) };
    }
  }
}

export function outcomeOf(task: Task): Outcome | undefined {
  const report: TaskReport | null = task.report;
  if (task.state === 'done') return 'done';
  if (task.state !== 'failed') return undefined;
  return report?.failure ?? { code: 'tool_failed', message: `${task.body.kind} failed`, hint: null };
}
