/**
 * The last cycle of a VM that was shut down to run at another site: a recovery point of its disks as they stay.
 *
 * Invariant: the cycle began after the VM was seen off, its moment is of a powered-off VM, and the VM was off before
 * and after it. So whatever the guest has written is in that point.
 */
import type { FinalCycleTask, FinalPoint } from '#/control/handover-tasks.ts';
import { Failure, isFailureCode } from '#/lib/failure.ts';
import type { Domain } from '#/libvirt/domain.ts';
import type { CycleResult } from '#/replication/cycle.ts';
import type { Note } from '#/agent/step-log.ts';
import { findVm, isOff, refuseSaved, type HandoverContext } from './handover-context.ts';

const LOOK_MS = 500;
/** An agent that has just started has its protections in a moment. */
const PROTECTION_WAIT_MS = 30_000;
/** Replication that has failed for so long, try after try, will not come to a last point by itself. */
const FAILING_MS = 60_000;

/** Throws conflict when somebody started the VM, not_found without a protection, and what replication fails with. */
export async function runFinalCycle(
  task: FinalCycleTask,
  context: HandoverContext,
  signal: AbortSignal,
): Promise<FinalPoint> {
  const { libvirt, states, steps } = context;
  const state = await states.read(task.vm_uuid);
  if (state?.taskId !== task.shut_down_task_id || state.offMs === null) {
    throw new Failure('conflict', `VM ${task.vm_name} was not shut down for this migration`);
  }
  const domain = await findVm(libvirt, task);
  await requireOff(domain, task);
  const cycle = await steps.run('last cycle', (note) => watched(domain, { task, context, note }, signal));
  await requireOff(domain, task);
  if (cycle.consistency !== 'off') throw startedFailure(task);
  const { sequence, stamp } = cycle.point;
  const disks = cycle.disks.map(({ key }, index) => ({ key, root: cycle.roots[index]! }));
  return { sequence, stamp, moment_ms: cycle.momentMs, disks };
}

type Parts = { task: FinalCycleTask; context: HandoverContext; note: Note };

/** The cycle, for as long as the VM stays off and replication does not fail for too long. */
async function watched(domain: Domain, parts: Parts, signal: AbortSignal): Promise<CycleResult> {
  const { task, context } = parts;
  await protectionOf(parts, signal);
  const stop = new AbortController();
  const either = AbortSignal.any([signal, stop.signal]);
  const cycle = context.replication.nextCycle(task.replica_id, either);
  try {
    return await Promise.race([cycle, watch(domain, parts, either)]);
  } finally {
    stop.abort(new Failure('cancelled', `the last cycle of VM ${task.vm_name} is over`));
    await Promise.allSettled([cycle]);
  }
}

async function protectionOf({ task, context, note }: Parts, signal: AbortSignal): Promise<void> {
  const { clock, replication } = context;
  const endMs = clock.monotonicMs() + PROTECTION_WAIT_MS;
  while (replication.report(task.replica_id) === undefined) {
    if (clock.monotonicMs() > endMs) {
      throw new Failure('not_found', `VM ${task.vm_name} is not replicated to that site any more`, {
        hint: `Protect it again: antipode protect ${task.vm_name}`,
      });
    }
    note('waits for its protection');
    await clock.sleep(LOOK_MS, signal);
  }
  note(null);
}

/** Never resolves. */
async function watch(domain: Domain, { task, context, note }: Parts, signal: AbortSignal): Promise<never> {
  const { clock, replication, steps } = context;
  let failingSinceMs: number | undefined;
  for (;;) {
    await clock.sleep(LOOK_MS, signal);
    await requireOff(domain, task);
    const report = replication.report(task.replica_id);
    const progress = report?.progress;
    if (progress !== undefined && progress !== null)
      steps.setProgress(progress.done_bytes, progress.total_bytes);
    const failure = report?.failure ?? null;
    note(failure === null ? null : `tried again: ${failure.message}`);
    failingSinceMs = failure === null ? undefined : (failingSinceMs ?? clock.monotonicMs());
    if (failure === null || failingSinceMs === undefined) continue;
    if (clock.monotonicMs() - failingSinceMs < FAILING_MS) continue;
    const code = isFailureCode(failure.code) ? failure.code : 'tool_failed';
    throw new Failure(code, `the last cycle of VM ${task.vm_name}: ${failure.message}`, {
      hint: failure.hint ?? 'See how its replication stands: antipode status',
    });
  }
}

async function requireOff(domain: Domain, task: FinalCycleTask): Promise<void> {
  const state = await domain.getState();
  refuseSaved(state, task);
  if (!isOff(state)) throw startedFailure(task);
}

function startedFailure(task: FinalCycleTask): Failure {
  return new Failure(
    'conflict',
    `VM ${task.vm_name} was started by somebody after it had been shut down for its migration`,
    { hint: 'Find out who needs it, and migrate it then.' },
  );
}
