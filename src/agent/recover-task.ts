/**
 * Brings a VM up on this host from a recovery point that the replication server serves over NBD.
 *
 * Overlay, firmware, network, define, start, sign of life, pull: each step can be repeated. A recovery pulls its disks
 * until it stands alone; a test stays on its overlays, since it is going to be thrown away.
 */
import type { Libvirt } from '#/libvirt/libvirt.ts';
import type { Clock } from '#/lib/clock.ts';
import type { RecoverTask } from '#/control/orders.ts';
import { adaptDefinition, type Adapted } from '#/recovery/adapt-definition.ts';
import { checkTarget, ownDomain, targetHost } from './recover-check.ts';
import { makeOverlays, readDefinition, restoreFirmware, type FirmwarePaths } from './recover-files.ts';
import { ensureTestNetwork, testNetworkName } from './recover-network.ts';
import { makeIndependent } from './recover-pull.ts';
import type { RecoveryState, RecoveryStates } from './recovery-state.ts';
import { requireSign, startAndWait, type Awakening } from './sign-of-life.ts';
import { taskDirectory, taskUuid } from './recover-names.ts';
import type { StepLog } from './step-log.ts';

export type RecoverContext = {
  libvirt: Libvirt;
  clock: Clock;
  states: RecoveryStates;
  firmware: FirmwarePaths;
  steps: StepLog;
};

export type RecoverResult = {
  vm_uuid: string;
  vm_name: string;
  sequence: number;
  first_instruction_ms: number | null;
  sign_of_life: string | null;
  sign_of_life_ms: number | null;
  console_tail: string;
  independent: boolean;
  directory: string;
  notes: string[];
};

/**
 * Throws Failure already_exists, vm_unsupported, storage_full, timeout (the VM runs, but gave no sign of life),
 * libvirt_error, tool_failed.
 */
export async function runRecover(
  task: RecoverTask,
  context: RecoverContext,
  signal: AbortSignal,
): Promise<RecoverResult> {
  const { steps, libvirt } = context;
  const adapted = await steps.run('check', () => prepare(task, context));
  let state = (await context.states.read(task.id)) ?? newState(task, adapted);
  const existing = await ownDomain(libvirt, task);
  if (existing === undefined && !state.started) {
    await steps.run('check the target', () => checkTarget(task, adapted, libvirt));
    await context.states.write(state);
    await steps.run('make overlays', () => makeOverlays(task, state.directory, signal));
    await steps.run('restore firmware state', () => restoreFirmware(task, state, context.firmware));
  }
  if (state.network !== null)
    await steps.run('make the test network', () => ensureTestNetwork(libvirt, task.id));
  const domain = existing ?? (await steps.run('define', () => libvirt.defineDomain(adapted.xml)));
  state = { ...state, started: true };
  await context.states.write(state);
  const awakening = await steps.run('start', () =>
    startAndWait(domain, { task, context, hasSign: state.sign !== null }, signal),
  );
  state = { ...state, ...remembered(state, awakening) };
  await context.states.write(state);
  if (task.purpose === 'recovery') {
    await steps.run('pull the disks', () => makeIndependent(domain, task, context, signal));
  }
  requireSign(state.sign, awakening, task);
  return result({ task, adapted, state, awakening });
}

async function prepare(task: RecoverTask, context: RecoverContext): Promise<Adapted> {
  const directory = taskDirectory(task);
  const isTest = task.purpose === 'test';
  const hasNvram = task.view.attachments.some((attachment) => attachment.kind === 'nvram');
  return adaptDefinition(
    await readDefinition(task),
    {
      name: task.name,
      ...(isTest ? { uuid: taskUuid(task.id), isolatedNetwork: testNetworkName(task.id) } : {}),
      mark: {
        taskId: task.id,
        replicaId: task.replica_id,
        sequence: task.view.sequence,
        epoch: task.epoch,
        purpose: task.purpose,
      },
      disks: task.view.disks.map((disk) => ({
        key: disk.key,
        overlayPath: `${directory}/${disk.key}.qcow2`,
        socketPath: task.view.socket_path,
        exportName: disk.export_name,
      })),
      networks: task.networks,
      defaultNetwork: task.default_network,
      ...(hasNvram ? { nvramPath: `${directory}/nvram` } : {}),
    },
    await targetHost(context.libvirt),
  );
}

/** A repeated task keeps what the first try saw: a guest that booted long ago says nothing new. */
function remembered(state: RecoveryState, awakening: Awakening): Partial<RecoveryState> {
  return {
    firstInstructionMs: state.firstInstructionMs ?? awakening.firstInstructionMs,
    sign: state.sign ?? awakening.sign,
    signMs: state.signMs ?? awakening.signMs,
  };
}

function newState(task: RecoverTask, adapted: Adapted): RecoveryState {
  return {
    taskId: task.id,
    name: task.name,
    uuid: adapted.uuid,
    directory: taskDirectory(task),
    network: task.purpose === 'test' ? testNetworkName(task.id) : null,
    started: false,
    firstInstructionMs: null,
    sign: null,
    signMs: null,
  };
}

function result(parts: {
  task: RecoverTask;
  adapted: Adapted;
  state: RecoveryState;
  awakening: Awakening;
}): RecoverResult {
  const { task, adapted, state, awakening } = parts;
  return {
    vm_uuid: adapted.uuid,
    vm_name: task.name,
    sequence: task.view.sequence,
    first_instruction_ms: state.firstInstructionMs,
    sign_of_life: state.sign,
    sign_of_life_ms: state.signMs,
    console_tail: awakening.consoleTail,
    independent: task.purpose === 'recovery',
    directory: state.directory,
    notes: adapted.notes,
  };
}
