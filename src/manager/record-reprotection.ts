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
import { listReplicas, type ReplicaRecord } from './store/replica-store.ts';

/** What is protected: the VM that was recovered from the replica, as it is here. No disks named means all. */
export type Reprotected = { replicaId: string; vmName: string; hostId: string; disks: string[] };

/**
 * Also to the other sites that the VM was protected to from here before it went away, as it was. What is protected
 * already stays so.
 */
export async function recordReprotection(at: Database, context: Context, vm: Reprotected): Promise<void> {
  const replica = (await listReplicas(at)).find(({ id }) => id === vm.replicaId);
  if (replica === undefined) return;
  const formers = (await listProtections(at)).filter(({ vm_uuid: uuid }) => uuid === replica.vm_uuid);
  const others = formers.filter(({ target_site_id: id }) => id !== replica.source_site_id);
  for (const former of others.filter(({ state }) => state === 'superseded')) {
    await dropProtection(at, former.id);
    await request(at, context, { ...former, ...anew(context, vm, replica), from_old_copy: 0 });
  }
  const former = formers.find(({ target_site_id: id }) => id === replica.source_site_id);
  if (former !== undefined && former.state !== 'superseded') return;
  if (former !== undefined) await dropProtection(at, former.id);
  await request(at, context, {
    ...settings(former, vm, replica),
    target_site_id: replica.source_site_id,
    ...anew(context, vm, replica),
    from_old_copy: 1,
  });
}

/** As it was, when the VM has been protected from here before. */
function settings(former: Protection | undefined, { disks }: Reprotected, replica: ReplicaRecord) {
  if (former !== undefined) return former;
  const { retention, rpo_ms } = replica;
  const scratch = { scratch_bytes: DEFAULT_SCRATCH_BYTES };
  return { disks, rpo_ms, added_disks: 'report' as const, retention, ...scratch };
}

function anew({ clock, random }: Context, { hostId, vmName }: Reprotected, replica: ReplicaRecord) {
  return {
    id: newId(random, 'protection'),
    vm_uuid: replica.vm_uuid,
    vm_name: vmName,
    host_id: hostId,
    state: 'requested',
    replica_id: null,
    epoch: replica.epoch,
    server: null,
    delete_replica: 0,
    created_ms: clock.now(),
    revision: 1,
    told_revision: 1,
  } as const;
}

async function request(at: Database, { events }: Context, protection: Protection): Promise<void> {
  await addProtection(at, protection);
  const which =
    protection.from_old_copy === 1 ? 'to its former site' : 'to another site, as it was before it went away';
  await events.record(at, {
    kind: 'protection.requested',
    severity: 'info',
    subject: { kind: 'vm', id: protection.vm_uuid },
    message: `VM ${protection.vm_name} is to be protected ${which}`,
  });
}
