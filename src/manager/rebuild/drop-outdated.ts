/**
 * Of a database that was restored from a backup: rows of replicas and protections that those who keep them tell
 * otherwise make place for what they tell. What nobody was asked about stays, and is said to people.
 */
import type { Database } from '#/manager/store/database.ts';
import { dropProtection, listProtections } from '#/manager/store/protection-store.ts';
import { dropReplica, listReplicas } from '#/manager/store/replica-store.ts';
import type { Merged } from './merge.ts';

/** Which replication servers of this site, and which paired sites, have told what they keep. */
export type Answered = { servers: ReadonlySet<string>; sites: ReadonlySet<string> };

export async function dropOutdated(at: Database, merged: Merged & { told: Answered }): Promise<void> {
  await dropReplicas(at, merged);
  await dropProtections(at, merged);
}

async function dropReplicas(
  at: Database,
  { notes, replicas, told }: Merged & { told: Answered },
): Promise<void> {
  for (const row of await listReplicas(at)) {
    const isTold = replicas.some(
      (one) =>
        one.id === row.id ||
        one.protection_id === row.protection_id ||
        (one.vm_uuid === row.vm_uuid && one.source_site_id === row.source_site_id),
    );
    if (isTold || told.servers.has(row.server_id)) await dropReplica(at, row.id);
    const what = `replica ${row.id} of ${row.vm_name}`;
    if (!isTold && told.servers.has(row.server_id))
      notes.push(`${what}: it is in the backup, and is gone since`);
    if (!isTold && !told.servers.has(row.server_id))
      notes.push(`${what}: as in the backup; its server was not asked`);
  }
}

async function dropProtections(
  at: Database,
  { notes, protections, told }: Merged & { told: Answered },
): Promise<void> {
  for (const row of await listProtections(at)) {
    const isTold = protections.some(
      (one) =>
        one.id === row.id || (one.vm_uuid === row.vm_uuid && one.target_site_id === row.target_site_id),
    );
    const hasAnswered = told.sites.has(row.target_site_id);
    if (isTold || hasAnswered) await dropProtection(at, row.id);
    const what = `protection ${row.id} of ${row.vm_name}`;
    if (!isTold && hasAnswered) notes.push(`${what}: it is in the backup, and is gone since`);
    if (!isTold && !hasAnswered)
      notes.push(`${what}: as in the backup; the site that keeps it was not asked`);
  }
}
