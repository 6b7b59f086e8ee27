/**
 * The sites that have, or had, a copy of a VM: those that it is protected to, those that its replicas here come from,
 * those that the protected site has told of, and those that its claim names. With three sites the third knows of the
 * second by the first, which may be gone when it matters.
 */
import { findClaim } from './store/claim-store.ts';
import type { Database } from './store/database.ts';
import { listProtections } from './store/protection-store.ts';
import { listReplicas } from './store/replica-store.ts';
import { vmFactsOf } from './store/vm-facts-store.ts';

/** May name this site too. */
export async function relatedSites(db: Database, vmUuid: string): Promise<Set<string>> {
  const claim = await findClaim(db, vmUuid);
  const sites = new Set(claim?.related_site_ids);
  if (claim !== undefined) sites.add(claim.site_id);
  for (const row of await listProtections(db)) {
    if (row.vm_uuid === vmUuid) sites.add(row.target_site_id);
  }
  for (const row of await listReplicas(db)) {
    if (row.vm_uuid !== vmUuid) continue;
    sites.add(row.source_site_id);
    for (const siteId of (await vmFactsOf(db, row.id))?.copy_site_ids ?? []) sites.add(siteId);
  }
  return sites;
}
