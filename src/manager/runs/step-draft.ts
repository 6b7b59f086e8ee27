/** The steps of a run while they are put together: what a later one waits for, and what people wrote. Pure. */
import assert from 'node:assert/strict';
import { DEFAULT_MESSAGE_TIMEOUT_MS, DEFAULT_STEP_TIMEOUT_MS, type PlanStep } from '#/api/plans.ts';
import type { PriorityGroup } from './priorities.ts';
import type { RunPlan } from './run-plan.ts';
import type { StepBody, StepSpec } from './run-step.ts';

export type Draft = {
  plan: RunPlan;
  /** What the keys of a VM's steps begin with, by its UUID. */
  names: ReadonlyMap<string, string>;
  groups: readonly PriorityGroup[];
  steps: StepSpec[];
};

/** What the next step waits for. */
export type Front = { after: string[]; needs: string[] };

/** Adds a step and answers its key. */
export function add(draft: Draft, step: Pick<StepSpec, 'key' | 'name' | 'body'> & Partial<StepSpec>): string {
  assert(!draft.steps.some((known) => known.key === step.key), `two steps ${step.key}`);
  draft.steps.push({
    phase: 'forward',
    vmUuid: null,
    undoes: null,
    timeoutMs: null,
    retries: 0,
    onFailure: 'abort',
    ...step,
    after: [...(step.after ?? [])],
    needs: [...(step.needs ?? [])],
  });
  return step.key;
}

/** Steps that people wrote, one after the other, of those that belong to this kind of run. */
export function planSteps(
  draft: Draft,
  of: { list: readonly PlanStep[]; prefix: string; front: Front; vmUuid?: string },
): Front {
  let { front } = of;
  for (const [index, step] of of.list.entries()) {
    if (step.in !== undefined && !step.in.includes(draft.plan.kind)) continue;
    const isMessage = step.kind === 'message';
    const key = add(draft, {
      key: `${of.prefix}-${index + 1}`,
      name: step.name,
      vmUuid: of.vmUuid ?? null,
      body: bodyOf(draft, step, of.vmUuid),
      ...front,
      timeoutMs: step.timeout_ms ?? (isMessage ? DEFAULT_MESSAGE_TIMEOUT_MS : DEFAULT_STEP_TIMEOUT_MS),
      retries: step.retries ?? 0,
      onFailure: step.on_failure ?? 'abort',
    });
    front = { after: [key], needs: [key] };
  }
  return front;
}

function bodyOf(draft: Draft, step: PlanStep, ownVm: string | undefined): StepBody {
  switch (step.kind) {
    case 'command':
      return { kind: 'command', command: step.command, arguments: step.arguments ?? [] };
    case 'message':
      return { kind: 'message', text: step.text };
    case 'http':
      return {
        kind: 'http',
        method: step.method ?? 'GET',
        url: step.url,
        body: step.body ?? null,
        status: step.status ?? null,
      };
    case 'guest': {
      const vm = draft.plan.vms.find(({ vmUuid, vmName }) =>
        step.vm === undefined ? vmUuid === ownVm : step.vm === vmName || step.vm === vmUuid,
      );
      return {
        kind: 'guest',
        recover: vm === undefined ? null : `${draft.names.get(vm.vmUuid)!}-recover`,
        vmName: vm?.vmName ?? step.vm ?? '',
        path: step.path,
        arguments: step.arguments ?? [],
      };
    }
  }
}
