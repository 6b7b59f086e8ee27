/**
 * Takes a shut-down for a handover back: the VM is again as it was found. What was not done is not undone, so it can
 * be asked for whatever came of the shut-down.
 */
import type { StartAgainTask } from '#/control/handover-tasks.ts';
import { describe, Failure, failureIn } from '#/lib/failure.ts';
import type { Domain } from '#/libvirt/domain.ts';
import type { Note } from '#/agent/step-log.ts';
import type { HandoverState } from './handover-state.ts';
import { findVm, isConnectionLost, isOff, type HandoverContext } from './handover-context.ts';

const RETRY_MS = 1000;
const LOOK_MS = 500;
/** A VM that was given back by the other site is refused by the start hook until its definition has the new mark. */
const PATIENCE_MS = 30_000;

/** Throws not_found, libvirt_error. */
export async function runStartAgain(
  task: StartAgainTask,
  context: HandoverContext,
  signal: AbortSignal,
): Promise<Record<string, unknown>> {
  const { libvirt, states, steps } = context;
  const state = await states.read(task.vm_uuid);
  if (state?.taskId !== task.shut_down_task_id) return { started: false, vm_state: null };
  const domain = await findVm(libvirt, task);
  if (state.autostart && !(await domain.isAutostart())) {
    await steps.run('turn its autostart on', () => domain.setAutostart(true));
  }
  const wasAsked = state.wasActive && state.offMs === null && state.lateMs > 0;
  if (wasAsked)
    await steps.run('see that it stays up', (note) => watch(domain, { state, context, note }, signal));
  const isNeeded = state.wasActive && isOff(await domain.getState());
  if (isNeeded) {
    await steps.run('start it', (note) =>
      start(domain, { isPaused: state.wasPaused, context, note }, signal),
    );
  }
  const { state: vmState } = await domain.getState();
  // From here on it is nobody's business but its owner's.
  await states.remove(task.vm_uuid);
  return { started: isNeeded, vm_state: vmState };
}

/** It was asked to shut down, and may follow after its time: until it is off, or can be thought to stay up. */
async function watch(
  domain: Domain,
  parts: { state: HandoverState; context: HandoverContext; note: Note },
  signal: AbortSignal,
): Promise<void> {
  const { state, context, note } = parts;
  const { clock } = context;
  const endMs = clock.monotonicMs() + state.lateMs;
  note('it was asked to shut down, and may still follow');
  while (clock.monotonicMs() < endMs && !isOff(await domain.getState())) await clock.sleep(LOOK_MS, signal);
  note(null);
}

async function start(
  domain: Domain,
  parts: { isPaused: boolean; context: HandoverContext; note: Note },
  signal: AbortSignal,
): Promise<void> {
  const { isPaused, context, note } = parts;
  const { clock } = context;
  const endMs = clock.monotonicMs() + PATIENCE_MS;
  for (;;) {
    try {
      await domain.start(isPaused ? ['paused'] : []);
      return note(null);
    } catch (error) {
      if (failureIn(error) === undefined || isConnectionLost(error)) throw error;
      if (!isOff(await domain.getState())) return note(null);
      if (clock.monotonicMs() > endMs) {
        throw new Failure('libvirt_error', `start VM ${domain.name} again`, {
          cause: error,
          hint: `See why it does not start, and start it by hand: virsh start ${domain.name}`,
        });
      }
      note(`refused, tried again: ${describe(error)}`);
    }
    await clock.sleep(RETRY_MS, signal);
  }
}
