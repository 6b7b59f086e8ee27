/**
 * Takes a recovered VM and everything its recovery made on this host away again: after a test, or after a recovery
 * that was given up. Only a VM with the mark of that very task is touched. Can be repeated.
 */
import type { DiscardTask } from '#/control/orders.ts';
import type { Domain } from '#/libvirt/domain.ts';
import { hasLibvirtCode, LibvirtCode } from '#/libvirt/errors.ts';
import { markIn } from '#/recovery/recovery-mark.ts';
import { removeFiles } from './recover-files.ts';
import { removeTestNetwork } from './recover-network.ts';
import type { RecoverContext } from './recover-task.ts';

export async function runDiscard(
  task: DiscardTask,
  context: RecoverContext,
): Promise<Record<string, unknown>> {
  const { libvirt, states, steps } = context;
  const state = await states.read(task.recover_task_id);
  const removed = await steps.run('remove the VM', async () => {
    for (const domain of await libvirt.listDomains()) {
      if (await isMadeBy(domain, task.recover_task_id)) {
        await removeDomain(domain);
        return domain.name;
      }
    }
    return null;
  });
  if (state === undefined) return { removed_vm: removed };
  await steps.run('remove its network', async () => {
    if (state.network !== null) await removeTestNetwork(libvirt, state.network);
  });
  await steps.run('remove its files', () => removeFiles(state, context.firmware));
  await states.remove(task.recover_task_id);
  return { removed_vm: removed, removed_directory: state.directory };
}

async function isMadeBy(domain: Domain, taskId: string): Promise<boolean> {
  try {
    return markIn(await domain.getXml(['inactive']))?.taskId === taskId;
  } catch (error) {
    if (hasLibvirtCode(error, LibvirtCode.noDomain)) return false;
    throw error;
  }
}

async function removeDomain(domain: Domain): Promise<void> {
  try {
    if ((await domain.getState()).state !== 'shutoff') await domain.destroy();
    await domain.undefine(['managedSave', 'snapshotsMetadata', 'nvram', 'checkpointsMetadata']);
  } catch (error) {
    if (!hasLibvirtCode(error, LibvirtCode.noDomain)) throw error;
  }
}
