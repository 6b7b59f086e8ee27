/** Whether a VM that another site had claimed in a migration was given back by it, and is this site's again. */
import type { Claims } from './claims.ts';
import type { Context } from './context.ts';
import { handoverJobId } from './handovers.ts';
import type { Protection } from './store/protection-store.ts';
import { tasksOfJob } from './store/task-store.ts';

export async function isGivenBack(
  { db, identity }: Context,
  claims: Claims,
  { target_site_id: siteId, vm_uuid: vmUuid }: Protection,
): Promise<boolean> {
  const last = (await tasksOfJob(db, handoverJobId(siteId, vmUuid))).at(-1);
  const claim = await claims.find(vmUuid);
  return last?.body.kind === 'start_again' && last.state === 'done' && claim?.site_id === identity.siteId;
}
