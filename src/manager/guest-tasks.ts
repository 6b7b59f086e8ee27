/**
 * What plan runs do to the VMs of this site, as tasks of their hosts' agents (src/control/guest-tasks.ts). A task's id
 * follows from the step's, so that asking again, also by another manager, orders nothing new and finds how it stands.
 */
import { createHash } from 'node:crypto';
import { Check } from 'typebox/value';
import { DEFAULT_PROBE_TIMEOUT_MS, DEFAULT_STEP_TIMEOUT_MS, type HealthProbe } from '#/api/plans.ts';
import { GuestTask, type Probe } from '#/control/guest-tasks.ts';
import type { FailureReport } from '#/control/reports.ts';
import type { Context } from './context.ts';
import type { Guests, StepOutcome, VmPlace } from './runs/ports.ts';
import { addTask, findTask, withdrawTask, type Task } from './store/task-store.ts';

/** A host that has said nothing for so long is given up. */
const LOST_AFTER_MS = 5 * 60_000;
const TASK_ID = /^[0-9a-z][0-9a-z-]{0,63}$/;

type Customization = Parameters<Guests['customize']>[2];

export class GuestTasks implements Guests {
  readonly #context: Context;
  readonly #startedMs: number;

  constructor(context: Context) {
    this.#context = context;
    this.#startedMs = context.clock.now();
  }

  probe(id: string, vm: VmPlace, probe: HealthProbe): Promise<StepOutcome> {
    const timeoutMs = probe.timeout_ms ?? DEFAULT_PROBE_TIMEOUT_MS;
    return this.#order(id, vm, { kind: 'probe', probe: probeOf(probe), timeout_ms: timeoutMs });
  }

  execute(id: string, vm: VmPlace, program: Parameters<Guests['execute']>[2]): Promise<StepOutcome> {
    const { path, arguments: args, timeoutMs } = program;
    return this.#order(id, vm, {
      kind: 'execute',
      path,
      arguments: [...args],
      timeout_ms: limitOf(timeoutMs),
    });
  }

  customize(id: string, vm: VmPlace, wanted: Customization): Promise<StepOutcome> {
    const body =
      wanted.kind === 'restore'
        ? ({ kind: 'restore' } as const)
        : { kind: wanted.kind, host_name: wanted.hostName, addresses: [...wanted.addresses] };
    return this.#order(id, vm, { kind: 'customize', wanted: body, timeout_ms: limitOf(wanted.timeoutMs) });
  }

  suspend(id: string, vm: VmPlace): Promise<StepOutcome> {
    return this.#order(id, vm, { kind: 'suspend' });
  }

  resume(id: string, vm: VmPlace, suspendId: string): Promise<StepOutcome> {
    return this.#order(id, vm, { kind: 'resume', suspend_id: taskIdOf(suspendId) });
  }

  async cancel(id: string): Promise<void> {
    const { changes, db } = this.#context;
    await withdrawTask(db, taskIdOf(id));
    changes.notify('orders');
  }

  async #order(id: string, vm: VmPlace, what: Ordered): Promise<StepOutcome> {
    const { changes, clock, db } = this.#context;
    const known = await findTask(db, taskIdOf(id));
    if (known !== undefined) return this.#outcomeOf(known);
    const body = { id: taskIdOf(id), vm_uuid: vm.vmUuid, vm_name: vm.vmName, ...what };
    // An agent takes its orders as a whole or not at all: what it would not understand must not get into them.
    if (!Check(GuestTask, body)) {
      const message = `${what.kind} of VM ${vm.vmName} is not of the form that agents understand`;
      return failed({ code: 'usage_invalid', message, hint: 'Look at its settings in the plan.' });
    }
    await addTask(db, { id: body.id, member_id: vm.hostId, job_id: null, body, created_ms: clock.now() });
    changes.notify('orders');
    return { state: 'waiting' };
  }

  #outcomeOf(task: Task): StepOutcome {
    const { report, state } = task;
    if (state === 'done') return { state: 'done', ...noteOf(task), result: report?.result ?? {} };
    if (state === 'failed') return failed(report?.failure ?? unknownFailure(task));
    if (state === 'withdrawn') {
      return failed({ code: 'cancelled', message: `${task.body.kind} was cancelled`, hint: null });
    }
    return this.#lost(task) ?? { state: 'waiting', ...noteOf(task) };
  }

  #lost(task: Task): StepOutcome | undefined {
    const { clock, inventory } = this.#context;
    const host = inventory.agent(task.member_id);
    if (host === undefined) {
      return failed({ code: 'unreachable', message: `host ${task.member_id} left this site`, hint: null });
    }
    const lastMs = Math.max(host.reportMs ?? 0, task.created_ms, this.#startedMs);
    if (clock.now() - lastMs < LOST_AFTER_MS) return undefined;
    return failed({
      code: 'unreachable',
      message: `host ${host.name} has not reported for ${LOST_AFTER_MS / 60_000} minutes`,
      hint: 'Start its agent again, and repeat the step.',
    });
  }
}

/** A step without a limit of its own has the one of all steps. */
function limitOf(timeoutMs: number): number {
  return timeoutMs > 0 ? timeoutMs : DEFAULT_STEP_TIMEOUT_MS;
}

/** A task without what all of them have. */
type Ordered = GuestTask extends infer Each
  ? Each extends GuestTask
    ? Omit<Each, 'id' | 'vm_uuid' | 'vm_name'>
    : never
  : never;

function probeOf(probe: HealthProbe): Probe {
  switch (probe.kind) {
    case 'agent':
      return { kind: 'agent' };
    case 'tcp':
      return { kind: 'tcp', port: probe.port, ...addressOf(probe) };
    case 'http': {
      const status = probe.status === undefined ? {} : { status: probe.status };
      return {
        kind: 'http',
        port: probe.port ?? 80,
        path: probe.path ?? '/',
        ...status,
        ...addressOf(probe),
      };
    }
    case 'serial':
      return { kind: 'serial', text: probe.text };
    case 'script':
      return { kind: 'script', path: probe.path, arguments: probe.arguments ?? [] };
  }
}

function addressOf({ address }: { address?: string }): { address?: string } {
  return address === undefined ? {} : { address };
}

/** Steps are named by people and plans; tasks have a narrower form. */
function taskIdOf(id: string): string {
  if (TASK_ID.test(id)) return id;
  return `guest-${createHash('sha256').update(id).digest('hex').slice(0, 40)}`;
}

/** The last that the agent noted. */
function noteOf({ report }: Task): { note?: string } {
  const note = report?.steps.findLast((step) => step.note !== null)?.note ?? undefined;
  return note === undefined ? {} : { note };
}

function failed(failure: FailureReport): StepOutcome {
  return { state: 'failed', failure };
}

function unknownFailure(task: Task): FailureReport {
  return { code: 'tool_failed', message: `${task.body.kind} failed`, hint: null };
}
