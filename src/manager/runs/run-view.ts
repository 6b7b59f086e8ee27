/** A run as the API shows it. */
import type { RunStepView, RunView, RunVmView } from '#/api/runs.ts';
import type { Run } from '#/manager/store/run-store.ts';
import type { RunVm } from './run-plan.ts';
import { isOver, isWaived, type RunStep } from './run-step.ts';

export function runView(run: Run, steps: readonly RunStep[], options: { hasSteps: boolean }): RunView {
  const shown = steps.filter(({ body }) => body.kind !== 'gate');
  const forward = shown.filter(({ phase }) => phase === 'forward');
  const counted = run.state === 'cleaning' || run.state === 'cleaned' ? shown.filter(isOfUndo) : forward;
  return {
    id: run.id,
    plan: run.plan.planName,
    kind: run.plan.kind,
    state: run.state,
    vms: run.plan.vms.map((vm) => vmView(vm, steps)),
    ...(options.hasSteps ? { steps: shown.map(stepView) } : {}),
    step_count: counted.length,
    done_count: counted.filter(isOver).length,
    up_ms: upMs(forward),
    started_by: run.startedBy,
    warnings: run.warnings,
    failure: run.failure,
    created_ms: run.createdMs,
    updated_ms: run.updatedMs,
    ended_ms: run.endedMs,
  };
}

function isOfUndo({ phase }: RunStep): boolean {
  return phase === 'undo';
}

/** When the last step was over that somebody waits for; disks may still be pulled. */
function upMs(forward: readonly RunStep[]): number | null {
  const awaited = forward.filter(({ body }) => body.kind !== 'stand_alone' && body.kind !== 'resume');
  if (
    awaited.length === 0 ||
    !awaited.every((step) => step.state === 'done' || step.state === 'failed' || isWaived(step))
  )
    return null;
  return Math.max(...awaited.map(({ endedMs }) => endedMs ?? 0));
}

function vmView(vm: RunVm, steps: readonly RunStep[]): RunVmView {
  const own = steps.filter(({ vmUuid }) => vmUuid === vm.vmUuid);
  const recover = own.find(({ body }) => body.kind === 'recover');
  const chain = own.filter(
    ({ phase, body }) =>
      phase === 'forward' && !['stand_alone', 'shut_down', 'last_cycle'].includes(body.kind),
  );
  const isHealthy = chain.length > 0 && chain.every(({ state }) => state === 'done');
  const text = (name: string): string | null => {
    const value = recover?.result?.[name];
    return typeof value === 'string' ? value : null;
  };
  const number = (name: string): number | null => {
    const value = recover?.result?.[name];
    return typeof value === 'number' ? value : null;
  };
  return {
    vm_uuid: vm.vmUuid,
    vm_name: vm.vmName,
    priority: vm.priority,
    job_id: text('job_id'),
    state: vmState(vm, { own, recover, chain, isHealthy }),
    point: number('point'),
    moment_ms: number('moment_ms'),
    up_ms: number('up_ms'),
    healthy_ms: isHealthy && vm.start === 'on' ? Math.max(...chain.map(({ endedMs }) => endedMs ?? 0)) : null,
  };
}

function vmState(
  { start }: RunVm,
  of: {
    own: readonly RunStep[];
    recover: RunStep | undefined;
    chain: readonly RunStep[];
    isHealthy: boolean;
  },
): RunVmView['state'] {
  const { own, recover, chain, isHealthy } = of;
  const is = (kind: string, state: string): boolean =>
    own.some((step) => step.body.kind === kind && step.state === state);
  if (is('discard', 'done')) return 'removed';
  if (own.some(({ phase, state }) => phase === 'forward' && state === 'failed')) {
    return is('stand_alone', 'failed') || chain.some(({ state }) => state === 'failed')
      ? 'failed'
      : 'waiting';
  }
  if (isHealthy && start === 'off') return 'off';
  if (is('stand_alone', 'done') && isHealthy) return 'alone';
  if (isHealthy) return 'healthy';
  if (recover?.state === 'done') return 'up';
  return recover?.state === 'running' ? 'starting' : 'waiting';
}

function stepView(step: RunStep): RunStepView {
  return {
    key: step.key,
    kind: step.body.kind,
    ...(step.body.kind === 'message' ? { text: step.body.text } : {}),
    phase: step.phase,
    name: step.name,
    vm_uuid: step.vmUuid,
    state: step.state,
    after: step.after,
    attempts: step.attempts,
    on_failure: step.onFailure,
    timeout_ms: step.timeoutMs,
    started_ms: step.startedMs,
    ended_ms: step.endedMs,
    failure: step.failure,
    note: step.note,
    result: step.result,
  };
}
