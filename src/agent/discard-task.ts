/**
 * Takes a recovered VM and everything its recovery made on this host away again: after a test, or after a recovery
 * that was given up. Only a VM with the mark of that very task is touched. Can be repeated.
 */
import type { DiscardTask } from '#/control/orders.ts';
import { Failure } from '#/lib/failure.ts';
import type { Domain } from '#/libvirt/domain.ts';
import { hasLibvirtCode, LibvirtCode } from '#/libvirt/errors.ts';
import type { Libvirt } from '#/libvirt/libvirt.ts';
import { markIn } from '#/recovery/recovery-mark.ts';
import { removeFiles } from './recover-files.ts';
import type { RecoverContext } from './recover-task.ts';
import type { RecoveryState } from './recovery-state.ts';

/** Throws Failure conflict when a VM without the mark uses the files of the recovery. */
export async function runDiscard(
  task: DiscardTask,
  context: Pick<
    RecoverContext,
    'libvirt' | 'states' | 'networks' | 'steps' | 'firmware' | 'retired' | 'baselines'
  >,
  signal: AbortSignal,
): Promise<Record<string, unknown>> {
  const { libvirt, states, steps } = context;
  const taskId = task.recover_task_id;
  const state = await states.read(taskId);
  const removed = await steps.run('remove the VM', () => removeVm(libvirt, taskId, signal));
  signal.throwIfAborted();
  if (state === undefined) {
    await restoreOldCopy(taskId, context);
    return { removed_vm: removed };
  }
  await steps.run('remove its files', async () => {
    const other = await otherVm(libvirt, state);
    // The TPM's state lies where libvirt looks for it by the VM's UUID.
    const { tracking, uuid } = state;
    const isOurs = tracking !== undefined && (await context.baselines.tracking(uuid)) === tracking;
    if (isOurs) await context.baselines.remove(uuid);
    await removeFiles({ ...state, hasTpm: state.hasTpm && other === undefined }, context.firmware);
  });
  await restoreOldCopy(taskId, context);
  signal.throwIfAborted();
  // Last, and with the record of the recovery: until both are gone a repeated discard finds what is left.
  await steps.run('remove its networks', async (note) => {
    const staying = await context.networks.release(libvirt, state, () => states.remove(taskId));
    if (staying.length > 0) note(`Other VMs are still on ${staying.join(', ')}.`);
  });
  return { removed_vm: removed, removed_directory: state.directory };
}

/** The copy that made room for the recovery is defined again, as it was; it does not start by that. */
async function restoreOldCopy(
  taskId: string,
  { libvirt, retired, steps }: Pick<RecoverContext, 'libvirt' | 'retired' | 'steps'>,
): Promise<void> {
  if (!(await retired.has(taskId))) return;
  await steps.run('define the old copy again', () => retired.restore(taskId, libvirt));
}

async function removeVm(libvirt: Libvirt, taskId: string, signal: AbortSignal): Promise<string | null> {
  for (const domain of await libvirt.listDomains()) {
    signal.throwIfAborted();
    if (!(await isMadeBy(domain, taskId))) continue;
    await removeDomain(domain);
    return domain.name;
  }
  return null;
}

/** The VM that has the UUID of the recovered one now, and is another. */
async function otherVm(libvirt: Libvirt, state: RecoveryState): Promise<Domain | undefined> {
  try {
    const other = await libvirt.lookupDomainByUuid(state.uuid);
    if (!(await other.getXml(['inactive'])).includes(state.directory)) return other;
    throw new Failure(
      'conflict',
      `discard ${state.name}: VM ${other.name} uses files in ${state.directory}`,
      {
        hint: 'Somebody took the mark of the recovery out of its definition: keep the VM, or undefine it.',
      },
    );
  } catch (error) {
    if (hasLibvirtCode(error, LibvirtCode.noDomain)) return undefined;
    throw error;
  }
}

async function isMadeBy(domain: Domain, taskId: string): Promise<boolean> {
  try {
    return markIn(await domain.getXml(['inactive']))?.taskId === taskId;
  } catch (error) {
    if (hasLibvirtCode(error, LibvirtCode.noDomain)) return false;
    throw error;
  }
}

/** The definition goes last: it carries the mark by which a repeated discard finds the VM. */
async function removeDomain(domain: Domain): Promise<void> {
  try {
    if ((await domain.getState()).state !== 'shutoff') await domain.destroy();
  } catch (error) {
    // It went down by itself between the question and the call.
    if (!hasLibvirtCode(error, LibvirtCode.operationInvalid, LibvirtCode.noDomain)) throw error;
  }
  try {
    await domain.undefine(['managedSave', 'snapshotsMetadata', 'nvram', 'checkpointsMetadata']);
  } catch (error) {
    if (!hasLibvirtCode(error, LibvirtCode.noDomain)) throw error;
  }
}
