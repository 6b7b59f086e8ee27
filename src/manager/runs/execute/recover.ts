/**
 * Brings a VM up by a recovery job of its own, waits until that needs the replica no more, and removes it again.
 *
 * The job's id follows from the run, the step and the try, so a repeated step finds it. A job of an earlier try that
 * still goes on is followed; one that failed is cleaned up before the next begins.
 */
import type { DiskEdit } from '#/control/guest-tasks.ts';
import { failureIn } from '#/lib/failure.ts';
import type { Clock } from '#/lib/clock.ts';
import type { RecoveryRequest, RecoveryView } from '#/api/recoveries.ts';
import type { StepOutcome } from '#/manager/runs/ports.ts';
import type { RunVm } from '#/manager/runs/run-plan.ts';
import { leftOutNote } from '#/manager/runs/vm-steps.ts';
import type { RunStep, StepBody } from '#/manager/runs/run-step.ts';
import { failed, type Executors, type StepCall } from '#/manager/runs/step-executor.ts';
import type { Database } from '#/manager/store/database.ts';

type Body = Extract<StepBody, { kind: 'recover' }>;

/** What of the manager's recoveries a run needs. */
export type RecoveryPort = {
  start(
    asked: RecoveryRequest,
    options: {
      id: string;
      storagePath: string | null;
      edit?: DiskEdit;
      /** The VM is left off. */
      start?: false;
      /** The protected site is known not to answer, and is not asked. */
      isSourceSilent: boolean;
      within: (at: Database) => Promise<void>;
    },
  ): Promise<RecoveryView>;
  find(id: string): Promise<RecoveryView | undefined>;
  cleanUp(id: string): Promise<RecoveryView>;
  /** Goes on with one that failed when its VM had come up. */
  retry(id: string): Promise<RecoveryView>;
};

/** Programs that do not report at the moment may do so soon: the manager may just have started. */
const PATIENCE_MS = 60_000;
/** libguestfs takes some seconds with KVM, a minute without, and more when it starts on a host for the first time. */
const DISK_EDIT_TIMEOUT_MS = 600_000;

export function recoverExecutors(
  recoveries: RecoveryPort,
  clock: Clock,
): Pick<Executors, 'recover' | 'stand_alone' | 'discard'> {
  return {
    recover: (call) => recover(call, recoveries, clock),
    stand_alone: ({ run, step, body, steps }) =>
      standAlone(recoveries, jobIds(run.id, steps.get(body.recover)!), step.startedMs ?? 0),
    discard: ({ run, body, steps }) => discard(recoveries, jobIds(run.id, steps.get(body.recover)!)),
  };
}

/** Of all tries, the newest first. */
export function jobIds(runId: string, step: Pick<RunStep, 'key' | 'attempts'>): string[] {
  const name = runId.replace(/^run-/, '');
  const vm = step.key.replace(/-recover$/, '');
  return Array.from({ length: step.attempts }, (_, index) => `job-${name}-${vm}-${step.attempts - index}`);
}

async function recover(call: StepCall<Body>, recoveries: RecoveryPort, clock: Clock): Promise<StepOutcome> {
  const ids = jobIds(call.run.id, call.step);
  for (const [index, id] of ids.entries()) {
    const job = await recoveries.find(id);
    if (job === undefined || job.state === 'cleaned') continue;
    if (job.state === 'cleaning') return { state: 'waiting', note: 'removes what an earlier try made' };
    if (job.state !== 'failed') return standing(job, vmOf(call), index === 0);
    if (index === 0) return { state: 'failed', failure: job.failure ?? UNKNOWN };
    await recoveries.cleanUp(id);
    return { state: 'waiting', note: 'removes what an earlier try made' };
  }
  if (call.signal.aborted) return { state: 'waiting' };
  try {
    return standing(await start(call, recoveries, ids[0]!), vmOf(call), true);
  } catch (error) {
    const failure = failureIn(error);
    const isYoung = clock.now() - (call.step.startedMs ?? 0) < PATIENCE_MS;
    if (failure === undefined || failure.retry === 'never' || !isYoung) throw error;
    return { state: 'waiting', note: failure.message };
  }
}

const UNKNOWN = { code: 'tool_failed', message: 'the recovery failed', hint: null };

function vmOf({ run, step }: StepCall<Body>): RunVm {
  return run.plan.vms.find(({ vmUuid }) => vmUuid === step.vmUuid)!;
}

function start(call: StepCall<Body>, recoveries: RecoveryPort, id: string) {
  const { run, body, steps, hold } = call;
  const vm = vmOf(call);
  const isTest = run.plan.kind === 'test';
  const point = pointOf(body, steps);
  return recoveries.start(
    {
      vm: vm.replicaId,
      purpose: isTest ? 'test' : 'recovery',
      ...(point === undefined ? {} : { point }),
      ...(vm.hostId === null ? {} : { host_id: vm.hostId }),
      networks: vm.networks,
      ...(isTest ? { test_network: { tag: run.id, ...testNetworks(run.plan.test) } } : { force: true }),
      // Who comes home is protected as before.
      ...(run.plan.kind === 'failback' ? { reprotect: true } : {}),
    },
    {
      id,
      storagePath: vm.storagePath,
      ...editOf(vm),
      ...(vm.start === 'off' ? { start: false } : {}),
      isSourceSilent: vm.isSourceSilent,
      within: hold,
    },
  );
}

/** Before its first instruction, also of a VM that is left off. */
function editOf({ customize }: RunVm): { edit?: DiskEdit } {
  if (customize?.by !== 'disk') return {};
  const { hostName, addresses, onFailure } = customize;
  return {
    edit: {
      host_name: hostName,
      addresses,
      timeout_ms: DISK_EDIT_TIMEOUT_MS,
      on_failure: onFailure ?? 'abort',
    },
  };
}

function testNetworks({ networks, router }: StepCall['run']['plan']['test']) {
  return { networks, ...(Object.keys(router).length === 0 ? {} : { router }) };
}

/** Undefined means the newest when the view is opened, when nobody can write into the replica any more. */
function pointOf(body: Body, steps: ReadonlyMap<string, RunStep>): number | undefined {
  const last = body.lastCycle === null ? undefined : steps.get(body.lastCycle)?.result?.['sequence'];
  if (typeof last === 'number') return last;
  return body.point.from === 'sequence' ? body.point.sequence : undefined;
}

/** Up is up, and left off is off: its disks are pulled while the plan goes on. */
function standing(job: RecoveryView, vm: RunVm, isNewest: boolean): StepOutcome {
  const upMs = job.result?.['up_ms'];
  const isOff = job.result?.['left_off'] === true;
  const isUp = typeof upMs === 'number' || isOff || job.state === 'ready' || job.state === 'done';
  if (!isUp) return notUp(job, isNewest);
  const note = standingNote(job, vm);
  return {
    state: 'done',
    ...(note === null ? {} : { note }),
    result: {
      job_id: job.id,
      host_id: job.host_id,
      vm_uuid: job.result?.['vm_uuid'] ?? null,
      vm_name: job.name,
      point: job.point,
      moment_ms: job.moment_ms,
      first_instruction_ms: job.result?.['first_instruction_ms'] ?? null,
      up_ms: isOff ? null : typeof upMs === 'number' ? upMs : job.updated_ms,
    },
  };
}

/** What of the plan was not done. */
function standingNote({ result }: RecoveryView, vm: RunVm): string | null {
  const notEdited = result?.['not_edited'];
  const said = [leftOutNote(vm), typeof notEdited === 'string' ? notEdited : null];
  return said.filter((text) => text !== null).join('; ') || null;
}

function notUp(job: RecoveryView, isNewest: boolean): StepOutcome {
  if (job.state === 'failed') return { state: 'failed', failure: job.failure ?? UNKNOWN };
  const silence = job.result?.['no_sign'];
  // Of an earlier try this is what it failed by: it ends when its disks are pulled, and is removed then.
  if (typeof silence === 'string' && isNewest) return failed('timeout', silence);
  const note = noteOf(job);
  return { state: 'waiting', ...(note === null ? {} : { note }) };
}

function noteOf(job: RecoveryView): string | null {
  const step = job.steps.findLast(({ state }) => state === 'running');
  if (step === undefined) return null;
  const detail = step.details.findLast(({ ended_ms: ended }) => ended === null);
  return detail === undefined ? step.name.replaceAll('_', ' ') : detail.name;
}

/** What failed before this try began is gone on with: the VM is up, and the point is still open for it. */
async function standAlone(
  recoveries: RecoveryPort,
  ids: readonly string[],
  startedMs: number,
): Promise<StepOutcome> {
  for (const id of ids) {
    const job = await recoveries.find(id);
    if (job === undefined || job.state === 'cleaned') continue;
    if (job.state === 'done' || job.state === 'ready') return { state: 'done' };
    if (job.state === 'failed' && job.updated_ms > startedMs)
      return { state: 'failed', failure: job.failure ?? UNKNOWN };
    if (job.state === 'failed') {
      await recoveries.retry(id);
      return { state: 'waiting', note: 'what failed is begun again' };
    }
    const progress = job.steps.at(-1)?.progress ?? null;
    if (progress === null || progress.total_bytes === 0) return { state: 'waiting' };
    const percent = Math.floor((progress.done_bytes / progress.total_bytes) * 100);
    return { state: 'waiting', note: `disks are still being pulled: ${percent} %` };
  }
  return failed('not_found', 'the recovery was cleaned up meanwhile');
}

async function discard(recoveries: RecoveryPort, ids: readonly string[]): Promise<StepOutcome> {
  let isGone = true;
  for (const id of ids) {
    const job = await recoveries.find(id);
    if (job === undefined || job.state === 'cleaned') continue;
    isGone = false;
    if (job.state !== 'cleaning') await recoveries.cleanUp(id);
  }
  return isGone ? { state: 'done' } : { state: 'waiting' };
}
