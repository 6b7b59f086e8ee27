/** What the recovery site is asked to keep for a protection. */
import type { ReplicaRequest } from '#/api/peer.ts';
import type { Protection } from './store/protection-store.ts';

export function replicaRequest(protection: Protection, disks: ReplicaRequest['disks']): ReplicaRequest {
  return {
    protection_id: protection.id,
    vm_uuid: protection.vm_uuid,
    vm_name: protection.vm_name,
    rpo_ms: protection.rpo_ms,
    retention: protection.retention,
    disks,
    ...(protection.from_old_copy === 1 ? { from_old_copy: true } : {}),
  };
}
