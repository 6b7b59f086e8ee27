/** The report of a plan's run, from how the run and the recoveries of its VMs stand. Pure. */
import type { ReportStep, ReportVm, RunReport } from '#/api/run-reports.ts';
import type { RunStepView, RunView } from '#/api/runs.ts';

/** States in which everything is known that a report tells. */
export function isReportable({ state }: Pick<RunView, 'state'>): boolean {
  return state !== 'running' && state !== 'cleaning';
}

export function planReport(
  run: RunView,
  site: { site_id: string; site_name: string },
  recovered: readonly ReportVm[],
): RunReport {
  const steps = run.steps ?? [];
  const vms = run.vms.map((vm): ReportVm => {
    const own = recovered.find(({ vm_uuid: uuid }) => uuid === vm.vm_uuid);
    const ofVm = steps.filter(({ vm_uuid: uuid, phase }) => uuid === vm.vm_uuid && phase === 'forward');
    const failed = ofVm.find(({ state }) => state === 'failed');
    const failure = failed?.failure ?? null;
    return {
      ...(own ?? unrecovered(vm, run.created_ms)),
      priority: vm.priority,
      state: vm.state,
      steps: [
        ...ofVm.map(stepOf),
        ...(own?.steps ?? []).map((step) => ({ ...step, name: `- ${step.name}` })),
      ],
      failure: failure === null ? null : `${failed!.name}: ${failure.message}`.slice(0, 4096),
      hint: failure?.hint ?? null,
    };
  });
  // What a person skipped has failed all the same: the run is no proof of it.
  const hasFailed =
    run.failure !== null ||
    steps.some(
      ({ phase, state, failure }) =>
        phase === 'forward' && (state === 'failed' || (state === 'skipped' && failure !== null)),
    );
  return {
    version: 1,
    id: run.id,
    ...site,
    kind: run.kind,
    plan: run.plan,
    started_by: run.started_by.slice(0, 4096),
    outcome: hasFailed || run.up_ms === null ? 'failed' : 'passed',
    started_ms: run.created_ms,
    ended_ms: Math.max(run.created_ms, run.ended_ms ?? run.up_ms ?? run.updated_ms),
    failure: run.failure?.message.slice(0, 4096) ?? null,
    warnings: run.warnings,
    vms,
    steps: steps.filter(({ vm_uuid: uuid }) => uuid === null).map(stepOf),
  };
}

function unrecovered(
  vm: RunView['vms'][number],
  startedMs: number,
): Omit<ReportVm, 'steps' | 'failure' | 'hint'> {
  return {
    vm_uuid: vm.vm_uuid,
    vm_name: vm.vm_name,
    name: vm.vm_name,
    host_name: 'no host',
    priority: vm.priority,
    state: vm.state,
    point: vm.point,
    moment_ms: vm.moment_ms,
    wanted_rpo_ms: null,
    rpo_ms: vm.moment_ms === null ? null : Math.max(0, startedMs - vm.moment_ms),
    rto_ms: null,
    picture: null,
    picture_failure: 'it was not brought up',
  };
}

function stepOf(step: RunStepView): ReportStep {
  const { ended_ms, failure, name, note, started_ms, state } = step;
  return {
    name: name.slice(0, 4096),
    state,
    started_ms,
    ended_ms,
    note: note?.slice(0, 4096) ?? null,
    failure: failure?.message.slice(0, 4096) ?? null,
  };
}
