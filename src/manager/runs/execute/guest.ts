/** Steps in and around guests of this site: health, programs, addresses, and VMs that make room. */
import type { Guests, StepOutcome, VmPlace } from '#/manager/runs/ports.ts';
import type { RunStep } from '#/manager/runs/run-step.ts';
import { callIds, failed, type Executors } from '#/manager/runs/step-executor.ts';
import { inTurn } from './source.ts';

export function guestExecutors(
  guests: Guests,
): Pick<Executors, 'guest' | 'probe' | 'customize' | 'restore' | 'suspend' | 'resume'> {
  return {
    guest: async ({ id, step, steps, body }) => {
      const { path, arguments: args } = body;
      const program = { path, arguments: args, timeoutMs: step.timeoutMs ?? 0 };
      return at(steps, body.recover, body.vmName, (vm) => guests.execute(id, vm, program));
    },
    probe: async ({ id, steps, body }) =>
      at(steps, body.recover, '', (vm) => guests.probe(id, vm, body.probe)),
    customize: async ({ id, step, steps, body }) => {
      const { hostName, addresses } = body;
      const wanted = { kind: 'apply', hostName, addresses, timeoutMs: step.timeoutMs ?? 0 } as const;
      return at(steps, body.recover, '', (vm) => guests.customize(id, vm, wanted));
    },
    restore: async ({ id, step, steps, body }) =>
      at(steps, body.recover, '', (vm) =>
        guests.customize(id, vm, { kind: 'restore', timeoutMs: step.timeoutMs ?? 0 }),
      ),
    suspend: async ({ id, body }) => guests.suspend(id, body.vm),
    resume: async ({ id, run, body, steps }) =>
      inTurn(callIds(run.id, steps.get(body.suspend)!), (suspendId, index) =>
        guests.resume(`${id}-${index}`, body.vm, suspendId),
      ),
  };
}

/** Where the step `recover` brought the VM up. */
async function at(
  steps: ReadonlyMap<string, RunStep>,
  recover: string | null,
  vmName: string,
  work: (vm: VmPlace) => Promise<StepOutcome>,
): Promise<StepOutcome> {
  const result = recover === null ? null : (steps.get(recover)?.result ?? null);
  const { host_id: hostId, vm_uuid: vmUuid, vm_name: name } = result ?? {};
  if (typeof hostId === 'string' && typeof vmUuid === 'string' && typeof name === 'string') {
    return work({ hostId, vmUuid, vmName: name });
  }
  return failed(
    'conflict',
    `VM ${vmName} is not up yet, so nothing can be done in it`,
    'Move the step behind it.',
  );
}
