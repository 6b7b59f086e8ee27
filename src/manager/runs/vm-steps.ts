/**
 * The steps that bring one VM up: its own before, the recovery, its health, its addresses, its own after.
 * Of one that is left off only the recovery and what is before it: there is no guest to ask or to change. Pure.
 */
import { DEFAULT_PROBE_TIMEOUT_MS } from '#/api/plans.ts';
import type { RunVm } from './run-plan.ts';
import { add, planSteps, type Draft, type Front } from './step-draft.ts';

/** What another program ends by its own time limit is given so much more, so that its own word is what is recorded. */
const MARGIN_MS = 30_000;
const CUSTOMIZE_MS = 120_000;
/** These say that the guest runs; the others need its addresses. */
const BEFORE_ADDRESSES: readonly string[] = ['agent', 'serial'];

/** Answers the keys that the VM's health is made of, and puts them into `ends` for those that depend on it. */
export function vmSteps(
  draft: Draft,
  vm: RunVm,
  { front: start, ends }: { front: Front; ends: Map<string, string[]> },
): string[] {
  const name = draft.names.get(vm.vmUuid)!;
  const { vmUuid } = vm;
  const dependencies = vm.dependsOn.flatMap((uuid) => ends.get(uuid) ?? []);
  let front: Front = {
    after: [...new Set([...start.after, ...dependencies])],
    needs: [...new Set([...start.needs, ...dependencies])],
  };
  const first = draft.steps.length;
  front = planSteps(draft, { list: vm.before, prefix: `${name}-before`, front, vmUuid });
  const recover = recoverStep(draft, vm, front);
  front = { after: [recover], needs: [recover] };
  if (vm.start === 'on') {
    const early = vm.health.filter(({ kind }) => BEFORE_ADDRESSES.includes(kind));
    const late = vm.health.filter(({ kind }) => !BEFORE_ADDRESSES.includes(kind));
    front = probes(draft, vm, { list: early, prefix: `${name}-sign`, front });
    if (vm.customize?.by === 'agent') {
      const { hostName, addresses, onFailure = 'abort' } = vm.customize;
      const key = add(draft, {
        key: `${name}-addresses`,
        name: `give ${vm.vmName} its addresses`,
        vmUuid,
        body: { kind: 'customize', recover, hostName, addresses },
        ...front,
        timeoutMs: CUSTOMIZE_MS + MARGIN_MS,
        onFailure,
      });
      front = { after: [key], needs: [key] };
    }
    if (vm.restore === true) {
      const key = add(draft, {
        key: `${name}-own-addresses`,
        name: `give ${vm.vmName} its own addresses back`,
        vmUuid,
        body: { kind: 'restore', recover },
        ...front,
        timeoutMs: CUSTOMIZE_MS + MARGIN_MS,
      });
      front = { after: [key], needs: [key] };
    }
    front = probes(draft, vm, { list: late, prefix: `${name}-probe`, front });
    front = planSteps(draft, { list: vm.after, prefix: `${name}-after`, front, vmUuid });
  }
  const keys = draft.steps.slice(first).map(({ key }) => key);
  ends.set(vmUuid, keys);
  if (draft.plan.kind !== 'test') standAlone(draft, vm, recover);
  return keys;
}

/** What the plan says of the VM and the run does not do, for people; null when there is nothing. */
export function leftOutNote({ start, customize, restore, health, after }: RunVm): string | null {
  if (start === 'on') return null;
  // What is changed in its disks is changed without it.
  const unchanged = customize?.by === 'agent' ? ['addresses were not changed'] : [];
  if (restore === true) unchanged.push('its own addresses were not given back');
  const out = [
    ...(health.length > 0 ? ['its probes'] : []),
    ...(after.length > 0 ? ['its steps after'] : []),
  ];
  const skipped = out.length === 0 ? [] : [`${out.join(' and ')} were left out`];
  return ['left off', ...skipped, ...unchanged].join('; ');
}

function recoverStep(draft: Draft, vm: RunVm, front: Front): string {
  const name = draft.names.get(vm.vmUuid)!;
  const cycle = `${name}-last-cycle`;
  const lastCycle = draft.steps.some(({ key }) => key === cycle) ? cycle : null;
  return add(draft, {
    key: `${name}-recover`,
    name: vm.start === 'off' ? `define ${vm.vmName} and leave it off` : `bring up ${vm.vmName}`,
    vmUuid: vm.vmUuid,
    body: { kind: 'recover', point: vm.point, lastCycle },
    // A disaster waits for the last cycle of this very VM to be over; a migration has waited for all.
    after: lastCycle === null ? front.after : [...new Set([...front.after, lastCycle])],
    needs: front.needs,
  });
}

function probes(draft: Draft, vm: RunVm, of: { list: RunVm['health']; prefix: string; front: Front }): Front {
  const recover = `${draft.names.get(vm.vmUuid)!}-recover`;
  const keys = of.list.map((probe, index) =>
    add(draft, {
      key: `${of.prefix}-${index + 1}`,
      name: `health of ${vm.vmName}: ${probe.kind}`,
      vmUuid: vm.vmUuid,
      body: { kind: 'probe', recover, probe },
      ...of.front,
      timeoutMs: (probe.timeout_ms ?? DEFAULT_PROBE_TIMEOUT_MS) + MARGIN_MS,
    }),
  );
  return keys.length === 0 ? of.front : { after: keys, needs: keys };
}

/** Nothing of the plan waits for disks to be pulled, but the run does not end before. */
function standAlone(draft: Draft, vm: RunVm, recover: string): void {
  add(draft, {
    key: `${draft.names.get(vm.vmUuid)!}-alone`,
    name: `${vm.vmName} needs the replica no more`,
    vmUuid: vm.vmUuid,
    body: { kind: 'stand_alone', recover },
    after: [recover],
    needs: [recover],
  });
}
