/**
 * What a recovery with `reprotect` leaves when it is done: the intent to protect its VM to the site that it came from,
 * in deltas against the old copy there, in the same transaction. It is asked for until that site answers, like any
 * protection that is requested (protections.ts), so a site that is away is protected to when it is back.
 */
import { DEFAULT_SCRATCH_BYTES } from '#/api/protections.ts';
import type { Context } from './context.ts';
import { newId } from './ids.ts';
import type { Database } from './store/database.ts';
import type { Job } from './store/job-store.ts';
import { addProtection, dropProtection, listProtections, type Protection } from './store/protection-store.ts';
import { listReplicas } from './store/replica-store.ts';

/** Nothing when the VM is protected to that site already. */
export async function recordReprotection(at: Database, context: Context, job: Job): Promise<void> {
  const { clock, events, random } = context;
  const replica = (await listReplicas(at)).find(({ id }) => id === job.replica_id);
  if (replica === undefined) return;
  const former = (await listProtections(at)).find(
    (known) => known.vm_uuid === replica.vm_uuid && known.target_site_id === replica.source_site_id,
  );
  if (former !== undefined && former.state !== 'superseded') return;
  if (former !== undefined) await dropProtection(at, former.id);
  const protection: Protection = {
    // As it was, when the VM has been protected from here before.
    disks: former?.disks ?? [],
    rpo_ms: former?.rpo_ms ?? replica.rpo_ms,
    added_disks: former?.added_disks ?? 'report',
    retention: former?.retention ?? replica.retention,
    scratch_bytes: former?.scratch_bytes ?? DEFAULT_SCRATCH_BYTES,
    id: newId(random, 'protection'),
    vm_uuid: replica.vm_uuid,
    vm_name: job.request.name,
    host_id: job.request.host_id,
    target_site_id: replica.source_site_id,
    state: 'requested',
    replica_id: null,
    epoch: replica.epoch,
    server: null,
    delete_replica: 0,
    created_ms: clock.now(),
    from_old_copy: 1,
  };
  await addProtection(at, protection);
  await events.record(at, {
    kind: 'protection.requested',
    severity: 'info',
    subject: { kind: 'vm', id: protection.vm_uuid },
    message: `VM ${protection.vm_name} is to be protected to the site that it came from`,
  });
}
