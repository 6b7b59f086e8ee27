/** Every kind of step, and what carries it out. */
import type { Clock } from '#/lib/clock.ts';
import type { Guests, SourceCopies } from '#/manager/runs/ports.ts';
import type { StepKind } from '#/manager/runs/run-step.ts';
import type { StepWork } from '#/manager/runs/step-executor.ts';
import type { Database } from '#/manager/store/database.ts';
import { runCommand } from './command.ts';
import { guestExecutors } from './guest.ts';
import { callHttp } from './http.ts';
import { awaitAnswer } from './message.ts';
import { recoverExecutors, type RecoveryPort } from './recover.ts';
import { sourceExecutors } from './source.ts';

const IN_GUESTS: readonly StepKind[] = ['guest', 'probe', 'customize', 'restore'];

export type ExecutorParts = {
  db: Database;
  clock: Clock;
  recoveries: RecoveryPort;
  sources: SourceCopies;
  guests: Guests;
  /** Null: no program of a plan is run on this manager. */
  commandsDirectory: string | null;
};

export function stepWork(parts: ExecutorParts): StepWork {
  const executors = {
    gate: async () => ({ state: 'done' }) as const,
    message: awaitAnswer,
    http: callHttp,
    command: (call: Parameters<typeof runCommand>[0]) => runCommand(call, parts.commandsDirectory),
    ...recoverExecutors(parts.recoveries, parts.clock),
    ...guestExecutors(parts.guests),
    ...sourceExecutors(parts.sources, parts.db),
  };
  return {
    executors,
    cancel: async (id, kind) => {
      if (IN_GUESTS.includes(kind)) await parts.guests.cancel(id);
    },
  };
}
