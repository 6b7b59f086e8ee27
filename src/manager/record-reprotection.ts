/**
 * The intent to protect a recovered VM to the site that it came from, in deltas against the old copy there: what a
 * recovery with `reprotect` leaves in the transaction that ends it, and what the reprotection of a plan records of each
 * of its VMs. It is asked for until that site answers, like any protection that is requested (protections.ts), so a
 * site that is away is protected to when it is back.
 */
import { DEFAULT_SCRATCH_BYTES } from '#/api/protections.ts';
import type { Context } from './context.ts';
import { newId } from './ids.ts';
import type { Database } from './store/database.ts';
import { addProtection, dropProtection, listProtections, type Protection } from './store/protection-store.ts';
import { listReplicas } from './store/replica-store.ts';

/** What is protected: the VM that was recovered from the replica, as it is here. No disks named means all. */
export type Reprotected = { replicaId: string; vmName: string; hostId: string; disks: string[] };

/** Nothing when the VM is protected to that site already. */
export async function recordReprotection(at: Database, context: Context, vm: Reprotected): Promise<void> {
  const { clock, events, random } = context;
  const replica = (await listReplicas(at)).find(({ id }) => id === vm.replicaId);
  if (replica === undefined) return;
  const former = (await listProtections(at)).find(
    (known) => known.vm_uuid === replica.vm_uuid && known.target_site_id === replica.source_site_id,
  );
  if (former !== undefined && former.state !== 'superseded') return;
  if (former !== undefined) await dropProtection(at, former.id);
  const protection: Protection = {
    // As it was, when the VM has been protected from here before.
    disks: former?.disks ?? vm.disks,
    rpo_ms: former?.rpo_ms ?? replica.rpo_ms,
    added_disks: former?.added_disks ?? 'report',
    retention: former?.retention ?? replica.retention,
    scratch_bytes: former?.scratch_bytes ?? DEFAULT_SCRATCH_BYTES,
    id: newId(random, 'protection'),
    vm_uuid: replica.vm_uuid,
    vm_name: vm.vmName,
    host_id: vm.hostId,
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
