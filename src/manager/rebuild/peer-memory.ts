/** What this site knows of a paired one that asks because it has lost its database. */
import type { PeerMemory } from '#/api/peer.ts';
import type { Context } from '#/manager/context.ts';
import { claimOf, listClaims } from '#/manager/store/claim-store.ts';
import { findPeerDocument } from '#/manager/store/peer-document-store.ts';
import { listProtections, type Protection } from '#/manager/store/protection-store.ts';
import { listReplicas, type ReplicaRecord } from '#/manager/store/replica-store.ts';

/** Nothing of another site than the asking one is told. */
export async function peerMemory(context: Context, siteId: string): Promise<PeerMemory> {
  const { config, db, identity, inventory } = context;
  const document = await findPeerDocument(db, siteId);
  const replicas = (await listReplicas(db)).filter((replica) => replica.source_site_id === siteId);
  const protections = (await listProtections(db)).filter((one) => one.target_site_id === siteId);
  const claims = (await listClaims(db)).filter(
    (record) =>
      record.is_withdrawn === 0 && (record.site_id === siteId || record.related_site_ids.includes(siteId)),
  );
  return {
    site_name: config.siteName,
    replicas: replicas.map((replica) => {
      const { disks, id, server_id: serverId } = replica;
      const endpoint = inventory.server(serverId)?.report?.endpoint;
      const server =
        endpoint === undefined ? null : { site_id: identity.siteId, server_id: serverId, ...endpoint };
      const { protection_id } = replica;
      return { ...shared(replica), protection_id, replica_id: id, disks, server };
    }),
    protections: protections.map((protection) => {
      const { id, replica_id, server } = protection;
      return { ...shared(protection), protection_id: id, replica_id, server };
    }),
    claims: claims.map((record) => ({ claim: claimOf(record), vm_name: record.vm_name })),
    document: document === undefined ? null : { document: document.document, signature: document.signature },
  };
}

function shared(row: Protection | ReplicaRecord) {
  const { created_ms, epoch, retention, rpo_ms, state, vm_name, vm_uuid } = row;
  return { created_ms, epoch, retention, rpo_ms, state, vm_name, vm_uuid };
}
