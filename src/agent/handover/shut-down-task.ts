/**
 * Shuts a VM down for good: through its agent or its power button, asked again every few seconds, or by ending it.
 *
 * Invariant: how it was is on disk before it is asked, and it counts as off only when libvirt said so. Nothing of it
 * has changed when the task fails, but that its guest was asked.
 */
import type { ShutDownTask } from '#/control/handover-tasks.ts';
import { describe, Failure, failureIn } from '#/lib/failure.ts';
import type { Domain } from '#/libvirt/domain.ts';
import { hasLibvirtCode, LibvirtCode } from '#/libvirt/errors.ts';
import type { Note } from '#/agent/step-log.ts';
import { findVm, isConnectionLost, isOff, refuseSaved, type HandoverContext } from './handover-context.ts';
import type { HandoverState } from './handover-state.ts';

/** A guest that boots hears no power button, and an agent that hangs answers nothing: both are asked, in turn. */
const ASK_EVERY_MS = 5000;
const ASK_TIMEOUT_MS = 4000;
const LOOK_MS = 250;
/** A guest whose services take their time to end goes down this late, and is started again then. */
const LATE_MS_MAX = 120_000;

/** Throws timeout (the VM runs on), conflict, not_found, vm_unsupported, libvirt_error. */
export async function runShutDown(
  task: ShutDownTask,
  context: HandoverContext,
  signal: AbortSignal,
): Promise<Record<string, unknown>> {
  const { libvirt, clock, states, steps } = context;
  const domain = await findVm(libvirt, task);
  const kept = await states.read(task.vm_uuid);
  let state =
    kept?.taskId === task.id ? kept : await steps.run('look at the VM', () => begin(domain, task, context));
  const name = task.mode === 'guest' ? 'shut the guest down' : 'power it off';
  if (state.offMs === null && !isOff(await domain.getState())) {
    const end = task.mode === 'guest' ? shutDownGuest : powerOff;
    await steps.run(name, (note) => end(domain, { task, state, context, note }, signal));
  }
  const seen = await domain.getState();
  refuseSaved(seen, task);
  if (!isOff(seen)) throw startedFailure(task);
  if (state.autostart) await domain.setAutostart(false);
  state = { ...state, offMs: state.offMs ?? clock.now() };
  await states.write(state);
  const { wasActive, autostart, offMs } = state;
  return { was_active: wasActive, autostart, off_ms: offMs };
}

async function begin(
  domain: Domain,
  task: ShutDownTask,
  { clock, states }: HandoverContext,
): Promise<HandoverState> {
  if (!(await domain.isPersistent())) {
    throw new Failure(
      'vm_unsupported',
      `VM ${task.vm_name} is transient: once it is off, nothing is left of it`,
      {
        hint: 'Define it (virsh define), so that it can be started again should the migration fail.',
      },
    );
  }
  const before = await domain.getState();
  refuseSaved(before, task);
  const wasPaused = before.state === 'paused' || before.state === 'pmsuspended';
  if (wasPaused && task.mode === 'guest') {
    throw new Failure('conflict', `VM ${task.vm_name} is ${before.state}, and cannot shut itself down`, {
      hint: `Let it go on (virsh resume ${task.vm_name}), or have it powered off: --power-off`,
    });
  }
  const state = {
    taskId: task.id,
    vmUuid: task.vm_uuid,
    beganMs: clock.now(),
    wasActive: !isOff(before),
    wasPaused,
    autostart: await domain.isAutostart(),
    lateMs: task.mode === 'guest' ? Math.min(task.timeout_ms, LATE_MS_MAX) : 0,
    offMs: null,
  };
  await states.write(state);
  return state;
}

type EndParts = { task: ShutDownTask; state: HandoverState; context: HandoverContext; note: Note };

async function shutDownGuest(domain: Domain, parts: EndParts, signal: AbortSignal): Promise<void> {
  const { task, state, context, note } = parts;
  const { clock } = context;
  const endMs = state.beganMs + task.timeout_ms;
  let askAtMs = 0;
  for (let asked = 0; !isOff(await domain.getState());) {
    const nowMs = clock.now();
    if (nowMs >= endMs) throw timeLimit(task, asked);
    if (nowMs >= askAtMs) {
      note(await ask(domain, asked++, signal));
      askAtMs = nowMs + ASK_EVERY_MS;
    }
    await clock.sleep(LOOK_MS, signal);
  }
}

/** First as libvirt sees fit, which is the agent where there is one; then the power button, and so on in turn. */
async function ask(domain: Domain, asked: number, signal: AbortSignal): Promise<string> {
  const how = asked % 2 === 0 ? [] : (['acpi'] as const);
  const times = `asked ${asked + 1} ${asked === 0 ? 'time' : 'times'}`;
  try {
    await domain.shutdown(how, { timeoutMs: ASK_TIMEOUT_MS, signal });
    return times;
  } catch (error) {
    signal.throwIfAborted();
    if (failureIn(error) === undefined || isConnectionLost(error)) throw error;
    // It went down between the look and the call, or its agent does not answer: the next look or asking tells.
    return `${times}; the last one failed: ${describe(error)}`;
  }
}

async function powerOff(domain: Domain, { task }: EndParts): Promise<void> {
  try {
    // QEMU writes what it knows of changed blocks when it is let end by itself.
    await domain.destroy(['graceful']);
  } catch (error) {
    if (isOff(await domain.getState())) return;
    if (!hasLibvirtCode(error, LibvirtCode.operationFailed, LibvirtCode.resourceBusy)) throw error;
    throw new Failure('libvirt_error', `power off VM ${task.vm_name}: QEMU does not end`, {
      cause: error,
      hint: `It may hang on its storage. End it by hand, which costs a comparing cycle: virsh destroy ${task.vm_name}`,
    });
  }
}

function timeLimit(task: ShutDownTask, asked: number): Failure {
  const seconds = Math.round(task.timeout_ms / 1000);
  return new Failure(
    'timeout',
    `VM ${task.vm_name} has not shut down within ${seconds} s, although it was asked ${asked} times; it runs on`,
    {
      hint:
        'It may still follow. See on its console what it waits for, give it longer (--shut-down-timeout), or have it ' +
        'powered off (--power-off), which is as pulling its plug.',
    },
  );
}

function startedFailure(task: ShutDownTask): Failure {
  return new Failure('conflict', `VM ${task.vm_name} was shut down, and started by somebody since`, {
    hint: 'Find out who needs it, and migrate it then.',
  });
}
