/** Steps at the protected site: shut down, last cycle, and start again when a migration is taken back. */
import { Failure } from '#/lib/failure.ts';
import type { SourceCopies, StepOutcome } from '#/manager/runs/ports.ts';
import { callIds, type Executors, type StepCall } from '#/manager/runs/step-executor.ts';
import type { Database } from '#/manager/store/database.ts';
import { listReplicas, type ReplicaRecord } from '#/manager/store/replica-store.ts';

export function sourceExecutors(
  sources: SourceCopies,
  db: Database,
): Pick<Executors, 'shut_down' | 'last_cycle' | 'start_again'> {
  return {
    shut_down: async (call) => {
      const { mode, timeoutMs } = call.body;
      return sources.shutDown(call.id, await replicaOf(call, db), { mode, timeoutMs });
    },
    last_cycle: async (call) => sources.lastCycle(call.id, await replicaOf(call, db)),
    start_again: async (call) => {
      const { run, body, steps, id } = call;
      const replica = await replicaOf(call, db);
      // Every try of the shutdown may have found something to take back; the first one knows how it was before.
      return inTurn(callIds(run.id, steps.get(body.shutDown)!), (shutDownId, index) =>
        sources.startAgain(`${id}-${index}`, replica, shutDownId),
      );
    },
  };
}

/** Done when all are, one after the other; otherwise what the first one says that is not. */
export async function inTurn(
  ids: readonly string[],
  work: (id: string, index: number) => Promise<StepOutcome>,
): Promise<StepOutcome> {
  let last: StepOutcome = { state: 'done' };
  for (const [index, id] of ids.entries()) {
    last = await work(id, index);
    if (last.state !== 'done') return last;
  }
  return last;
}

async function replicaOf({ run, step }: StepCall, db: Database): Promise<ReplicaRecord> {
  const vm = run.plan.vms.find(({ vmUuid }) => vmUuid === step.vmUuid);
  const replica = (await listReplicas(db)).find(({ id }) => id === vm?.replicaId);
  if (replica !== undefined) return replica;
  throw new Failure('not_found', `the replica of ${vm?.vmName ?? step.vmUuid} was deleted meanwhile`);
}
