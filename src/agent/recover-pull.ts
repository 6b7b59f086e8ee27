/**
 * Pulls a recovered VM's disks out of the served recovery point until it stands alone.
 *
 * While it still reads from the replica, a restart of the replication server makes QEMU stop the guest on a failed
 * read; it is resumed here as soon as the server answers again, and a pull that failed is begun anew. What counts as
 * done is the definition of the running VM: no disk of it has a backing image.
 */
import type { RecoverTask } from '#/control/orders.ts';
import { Failure } from '#/lib/failure.ts';
import type { Domain } from '#/libvirt/domain.ts';
import { hasLibvirtCode, LibvirtCode } from '#/libvirt/errors.ts';
import { attributeOf, childOf, childrenOf, parseXml, serializeXml, setAttributes } from '#/libvirt/xml.ts';
import type { RecoverContext } from './recover-task.ts';

const POLL_MS = 500;

export async function makeIndependent(
  domain: Domain,
  task: RecoverTask,
  context: RecoverContext,
  signal: AbortSignal,
): Promise<void> {
  const total = task.view.disks.reduce((sum, disk) => sum + disk.bytes, 0);
  for (;;) {
    signal.throwIfAborted();
    const { state, reason } = await domain.getState();
    if (state === 'shutoff' || state === 'crashed') {
      throw new Failure('conflict', `recover ${task.name}: the VM stopped before its disks were pulled`, {
        hint: 'Start it again: its disks go on reading from the replica, and repeat the recovery to pull them.',
      });
    }
    if (state === 'paused' && reason === 'io-error') await domain.resume();
    const dependent = await dependentDisks(domain);
    if (dependent.length === 0) break;
    let pulled = total;
    for (const key of dependent) {
      const disk = task.view.disks.find((wanted) => wanted.key === key);
      if (disk !== undefined) pulled -= disk.bytes - (await pull(domain, key));
    }
    context.steps.setProgress(Math.max(0, pulled), total);
    await context.clock.sleep(POLL_MS, signal);
  }
  context.steps.setProgress(total, total);
  await restorePolicies(domain, context);
}

/** Bytes pulled so far; begins the pull when none is under way. */
async function pull(domain: Domain, key: string): Promise<number> {
  const job = await domain.disk(key).getJob();
  if (job !== undefined) return job.currentUnits;
  try {
    await domain.disk(key).pull();
  } catch (error) {
    // A job that ended or began between the question and the call; the next round sees which.
    if (!hasLibvirtCode(error, LibvirtCode.blockCopyActive, LibvirtCode.operationInvalid)) throw error;
  }
  return 0;
}

async function dependentDisks(domain: Domain): Promise<string[]> {
  const devices = childOf(
    parseXml(await domain.getXml(), `the definition of ${domain.name}`, 'domain'),
    'devices',
  );
  const disks = devices === undefined ? [] : childrenOf(devices, 'disk');
  return disks
    .filter((disk) => attributeOf(childOf(disk, 'backingStore'), 'type') !== undefined)
    .map((disk) => attributeOf(childOf(disk, 'target'), 'dev') ?? '');
}

/** Stopping on errors was for the time on the replica; from its next start on the VM has libvirt's usual policies. */
async function restorePolicies(domain: Domain, context: RecoverContext): Promise<void> {
  const definition = parseXml(
    await domain.getXml(['inactive', 'secure']),
    `the definition of ${domain.name}`,
    'domain',
  );
  const devices = childOf(definition, 'devices');
  for (const disk of devices === undefined ? [] : childrenOf(devices, 'disk')) {
    const driver = childOf(disk, 'driver');
    if (driver !== undefined) setAttributes(driver, { error_policy: undefined, rerror_policy: undefined });
  }
  await context.libvirt.defineDomain(serializeXml(definition));
}
