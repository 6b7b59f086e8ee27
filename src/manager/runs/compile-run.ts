/**
 * Turns a plan into the steps of one run: a pure function, so that the same plan always runs the same way.
 *
 * Forward: the plan's steps before; VMs of this site make room; what runs at the protected site is shut down, in the
 * reverse of the order of starting, with a last cycle of each; then priority by priority the VMs; the plan's steps
 * after. A VM starts when what it depends on is healthy, whatever the priorities: what is depended on takes the
 * priority of whom depends on it, if that is the earlier one. A priority waits for the VMs of the one before to be
 * healthy or to have failed; only a dependency keeps a VM from starting.
 *
 * Undo: of a test all that it made; of a migration that has not brought up anything the sources start again. A
 * disaster recovery is not undone.
 */
import type { RunKind } from '#/api/runs.ts';
import { priorityGroups } from './priorities.ts';
import type { RunPlan, RunVm } from './run-plan.ts';
import type { StepSpec } from './run-step.ts';
import { add, planSteps, type Front, type Draft } from './step-draft.ts';
import { vmSteps } from './vm-steps.ts';

/** A disaster does not wait longer than this for a guest of a site that is going down. */
const DISASTER_SHUT_DOWN_MS = 120_000;
const DISASTER_LAST_CYCLE_MS = 120_000;
const LAST_CYCLE_MS = 6 * 3_600_000;
/** What another program ends by its own time limit is given so much more, so that its own word is what is recorded. */
const MARGIN_MS = 30_000;
const SUSPEND_MS = 120_000;

/** Throws usage_invalid for a plan that cannot be ordered. */
export function compileRun(plan: RunPlan): StepSpec[] {
  const names = new Map(plan.vms.map((vm, index) => [vm.vmUuid, `vm${index + 1}`]));
  const groups = priorityGroups(plan.vms);
  const draft: Draft = { plan, names, groups, steps: [] };
  let front: Front = { after: [], needs: [] };
  front = planSteps(draft, { list: plan.before, prefix: 'plan-before', front });
  front = suspend(draft, front);
  if (plan.kind !== 'test') front = takeFromSource(draft, front);
  front = bringUp(draft, front);
  front = planSteps(draft, { list: plan.after, prefix: 'plan-after', front });
  if (plan.kind !== 'test') resume(draft, { front, phase: 'forward' });
  undo(draft);
  return draft.steps;
}

function suspend(draft: Draft, front: Front): Front {
  const keys = draft.plan.suspend.map((vm, index) =>
    add(draft, {
      key: `suspend-${index + 1}`,
      name: `suspend ${vm.vmName}`,
      body: { kind: 'suspend', vm },
      ...front,
      timeoutMs: SUSPEND_MS,
      // A run that finds less room than it might have is better than none.
      onFailure: 'continue',
    }),
  );
  return keys.length === 0 ? front : gate(draft, { key: 'suspended', name: 'room is made', front, keys });
}

/** Everything of `keys` is waited for by whoever comes after; of what `front` needs nothing is forgotten. */
function gate(draft: Draft, of: { key: string; name: string; front: Front; keys: string[] }): Front {
  const { key, name, front, keys } = of;
  const after = [...new Set([...front.after, ...keys])];
  add(draft, { key, name, body: { kind: 'gate' }, after, needs: front.needs });
  return { after: [key], needs: [key] };
}

/**
 * Shut down in the reverse order, then a last cycle of each. A migration goes on only when all of that is so; a
 * disaster takes what it can get, within its time, from sites that answer.
 */
function takeFromSource(draft: Draft, start: Front): Front {
  const isDisaster = draft.plan.kind === 'disaster';
  const failing = { onFailure: isDisaster ? 'continue' : 'abort' } as const;
  let front = start;
  const cycles: string[] = [];
  for (const group of draft.groups.toReversed()) {
    const asked = group.vms.filter((vm) => !(isDisaster && vm.isSourceSilent)).toReversed();
    if (asked.length === 0) continue;
    const downs = asked.map((vm) => shutDown(draft, vm, { front, failing }));
    for (const vm of asked) {
      const down = `${draft.names.get(vm.vmUuid)!}-shut-down`;
      cycles.push(
        add(draft, {
          key: `${draft.names.get(vm.vmUuid)!}-last-cycle`,
          name: `last cycle of ${vm.vmName}`,
          vmUuid: vm.vmUuid,
          body: { kind: 'last_cycle' },
          after: [down],
          // Of a VM that runs on there is no last cycle, and a disaster has points as they are.
          needs: [down],
          timeoutMs: isDisaster ? DISASTER_LAST_CYCLE_MS : LAST_CYCLE_MS,
          ...failing,
        }),
      );
    }
    const name = `priority ${group.priority} is shut down at the protected site`;
    front = gate(draft, { key: `down-${group.priority}`, name, front, keys: downs });
    if (!isDisaster) draft.steps.at(-1)!.needs.push(...downs.filter((key) => !front.needs.includes(key)));
  }
  if (isDisaster || cycles.length === 0) return front;
  // The boundary of a migration: before it nothing has changed that is not taken back, after it only forward.
  const after = [...front.after, ...cycles];
  add(draft, {
    key: 'all-equal',
    name: 'all VMs are shut down and equal',
    body: { kind: 'gate' },
    after,
    needs: after,
  });
  return { after: ['all-equal'], needs: ['all-equal'] };
}

function shutDown(
  draft: Draft,
  vm: RunVm,
  { front, failing }: { front: Front; failing: Pick<StepSpec, 'onFailure'> },
): string {
  const { names, plan } = draft;
  const isDisaster = plan.kind === 'disaster';
  const timeoutMs = isDisaster
    ? Math.min(vm.shutDown.timeoutMs, DISASTER_SHUT_DOWN_MS)
    : vm.shutDown.timeoutMs;
  const key = `${names.get(vm.vmUuid)!}-shut-down`;
  // Who depends on it goes down before it.
  const dependents = plan.vms
    .filter((other) => other.dependsOn.includes(vm.vmUuid))
    .map((other) => `${names.get(other.vmUuid)!}-shut-down`)
    .filter((other) => draft.steps.some((step) => step.key === other));
  return add(draft, {
    key,
    name: `shut down ${vm.vmName} at the protected site`,
    vmUuid: vm.vmUuid,
    body: { kind: 'shut_down', mode: vm.shutDown.mode, timeoutMs },
    after: [...front.after, ...dependents],
    needs: front.needs,
    timeoutMs: timeoutMs + MARGIN_MS,
    ...failing,
  });
}

function bringUp(draft: Draft, start: Front): Front {
  const { plan } = draft;
  let front = start;
  const ends = new Map<string, string[]>();
  for (const group of draft.groups) {
    const { priority } = group;
    const around = plan.priorities[String(priority)] ?? { before: [], after: [] };
    front = planSteps(draft, { list: around.before, prefix: `p${priority}-before`, front });
    const keys = group.vms.flatMap((vm) => vmSteps(draft, vm, { front, ends }));
    front = gate(draft, { key: `p${priority}-up`, name: `priority ${priority} is up`, front, keys });
    front = planSteps(draft, { list: around.after, prefix: `p${priority}-after`, front });
  }
  return front;
}

function resume(draft: Draft, { front, phase }: { front: Front; phase: 'forward' | 'undo' }): void {
  for (const [index, vm] of draft.plan.suspend.entries()) {
    const suspended = `suspend-${index + 1}`;
    add(draft, {
      key: `${phase === 'undo' ? 'undo-' : ''}resume-${index + 1}`,
      name: `resume ${vm.vmName}`,
      phase,
      body: { kind: 'resume', vm, suspend: suspended },
      after: front.after,
      // Whatever became of the run, they come back.
      needs: [],
      undoes: phase === 'undo' ? suspended : null,
      timeoutMs: SUSPEND_MS,
      retries: 3,
      onFailure: phase === 'undo' ? 'abort' : 'continue',
    });
  }
}

function undo(draft: Draft): void {
  const kind: RunKind = draft.plan.kind;
  if (kind === 'disaster') return;
  const front = kind === 'test' ? discardAll(draft) : startAllAgain(draft);
  resume(draft, { front, phase: 'undo' });
}

function discardAll(draft: Draft): Front {
  const keys = draft.plan.vms.map((vm) => {
    const recover = `${draft.names.get(vm.vmUuid)!}-recover`;
    return add(draft, {
      key: `${draft.names.get(vm.vmUuid)!}-discard`,
      name: `remove the copy of ${vm.vmName}`,
      phase: 'undo',
      vmUuid: vm.vmUuid,
      body: { kind: 'discard', recover },
      undoes: recover,
    });
  });
  return { after: keys, needs: [] };
}

function startAllAgain(draft: Draft): Front {
  let after: string[] = [];
  for (const group of draft.groups) {
    const keys = group.vms.map((vm) => {
      const name = draft.names.get(vm.vmUuid)!;
      const dependencies = vm.dependsOn.map((uuid) => `${draft.names.get(uuid)!}-start-again`);
      return add(draft, {
        key: `${name}-start-again`,
        name: `start ${vm.vmName} again at the protected site`,
        phase: 'undo',
        vmUuid: vm.vmUuid,
        body: { kind: 'start_again', shutDown: `${name}-shut-down` },
        after: [...new Set([...after, ...dependencies])],
        undoes: `${name}-shut-down`,
        timeoutMs: vm.shutDown.timeoutMs + MARGIN_MS,
        retries: 10,
      });
    });
    const key = `again-${group.priority}`;
    add(draft, {
      key,
      name: `priority ${group.priority} runs again at the protected site`,
      phase: 'undo',
      body: { kind: 'gate' },
      after: keys,
    });
    after = [key];
  }
  return { after, needs: [] };
}
