/** The report of one recovery or test of a VM, as a report of its own or as a part of a plan run's. Pure. */
import type { RecoveryView } from '#/api/recoveries.ts';
import type { ReportStep, ReportVm } from '#/api/run-reports.ts';

const NAMES: Record<string, string> = {
  raise_epoch: 'Raise the epoch',
  stop_source: 'Make the old copy yield',
  open_view: 'Open the recovery point',
  recover: 'Bring the VM up',
  close_view: 'Close the recovery point',
  discard: 'Remove the VM',
};

export type VmPart = {
  view: RecoveryView;
  vmUuid: string;
  hostName: string;
  priority: number | null;
  wantedRpoMs: number | null;
  picture: { png: string } | { failure: string };
  /** When the run was asked for. */
  startedMs: number;
};

export function vmReport({ view, startedMs, picture, ...known }: VmPart): ReportVm {
  const upMs = signOfLifeMs(view);
  return {
    vm_uuid: known.vmUuid,
    vm_name: view.vm_name,
    name: view.name,
    host_name: known.hostName,
    priority: known.priority,
    state: upMs === null ? view.state : view.state === 'failed' ? 'up, then failed' : 'up',
    point: view.point,
    moment_ms: view.moment_ms,
    wanted_rpo_ms: known.wantedRpoMs,
    rpo_ms: view.moment_ms === null ? null : Math.max(0, startedMs - view.moment_ms),
    rto_ms: upMs === null ? null : Math.max(0, upMs - startedMs),
    steps: stepsOf(view),
    failure: view.failure?.message ?? null,
    hint: view.failure?.hint ?? null,
    picture: 'png' in picture ? picture.png : null,
    picture_failure: 'failure' in picture ? picture.failure.slice(0, 4096) : null,
  };
}

/** The agent's own word for it. A test's step ends with it. */
function signOfLifeMs({ purpose, result, steps }: RecoveryView): number | null {
  const told = result?.['sign_of_life_ms'];
  if (typeof told === 'number') return told;
  if (result?.['left_off'] === true) return null;
  const recover = steps.find(({ name }) => name === 'recover');
  return purpose === 'test' && recover?.state === 'done' ? recover.ended_ms : null;
}

function stepsOf({ steps }: RecoveryView): ReportStep[] {
  return steps.flatMap((step) => {
    const own: ReportStep = {
      name: NAMES[step.name] ?? step.name,
      state: step.state,
      started_ms: step.started_ms,
      ended_ms: step.ended_ms,
      note: null,
      failure: step.failure?.message ?? null,
    };
    const details = step.details.map((detail): ReportStep => ({
      name: `- ${detail.name}`.slice(0, 4096),
      state: detail.ended_ms === null ? 'open' : 'done',
      started_ms: detail.started_ms,
      ended_ms: detail.ended_ms,
      note: detail.note,
      failure: null,
    }));
    return [own, ...details];
  });
}
