/** The isolated network of one test: a bridge without addresses, that reaches nothing but the test's own guests. */
import type { Libvirt } from '#/libvirt/libvirt.ts';
import { hasLibvirtCode, LibvirtCode } from '#/libvirt/errors.ts';
import type { Network } from '#/libvirt/network.ts';
import { taskTag } from './recover-names.ts';

export function testNetworkName(taskId: string): string {
  return `antipode-test-${taskTag(taskId)}`;
}

export async function ensureTestNetwork(libvirt: Libvirt, taskId: string): Promise<void> {
  const name = testNetworkName(taskId);
  const xml =
    `<network><name>${name}</name><bridge name='apt${taskTag(taskId)}' stp='off' delay='0'/>` +
    `<mac address='52:54:00:00:00:01'/></network>`;
  const network = (await existingNetwork(libvirt, name)) ?? (await libvirt.defineNetwork(xml));
  if (!(await network.isActive())) await network.start();
}

/** Removes the network; nothing happens when it is gone already. */
export async function removeTestNetwork(libvirt: Libvirt, name: string): Promise<void> {
  const network = await existingNetwork(libvirt, name);
  if (network === undefined) return;
  if (await network.isActive()) await network.destroy();
  await network.undefine();
}

async function existingNetwork(libvirt: Libvirt, name: string): Promise<Network | undefined> {
  try {
    return await libvirt.lookupNetworkByName(name);
  } catch (error) {
    if (hasLibvirtCode(error, LibvirtCode.noNetwork)) return undefined;
    throw error;
  }
}
