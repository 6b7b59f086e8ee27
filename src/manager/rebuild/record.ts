/** Records what was gathered, all of it in one transaction, in which the rebuild ends. What is here already stays. */
import type { DocumentTold } from '#/api/peer.ts';
import { supersedes } from '#/lib/epoch-claim.ts';
import type { Context } from '#/manager/context.ts';
import { findClaim, putClaim } from '#/manager/store/claim-store.ts';
import type { Database } from '#/manager/store/database.ts';
import { renameMember, setRevision } from '#/manager/store/member-store.ts';
import { addProtection, listProtections } from '#/manager/store/protection-store.ts';
import { addReplica, listReplicas } from '#/manager/store/replica-store.ts';
import { restoreDocuments } from './documents.ts';
import { recordLeftOvers, type LeftOver } from './left-over.ts';
import type { Merged } from './merge.ts';
import { dropOutdated, type Answered } from './drop-outdated.ts';
import { readRebuild, writeRebuild } from './rebuild-state.ts';

export type Recorded = { replicas: number; protections: number; claims: number; documents: number };

export async function record(
  context: Context,
  merged: Merged & { documents: readonly DocumentTold[]; left: readonly LeftOver[]; told: Answered },
): Promise<Recorded> {
  const { authority, clock, db, events, identity, inventory } = context;
  const nowMs = clock.now();
  const names: { id: string; name: string }[] = [];
  const counts = await db.transaction().execute(async (at) => {
    const { isRestored, members } = await readRebuild(at);
    if (isRestored === true) await dropOutdated(at, merged);
    for (const id of members) {
      const name = inventory.agent(id)?.report?.host.hostname ?? inventory.server(id)?.report?.hostname;
      if (name !== undefined) names.push({ id, name });
      // Orders are numbered on from the time in seconds, which no count of changes has reached: a program must not
      // take the first of this database for those that it has.
      await setRevision(at, id, Math.floor(nowMs / 1000));
    }
    for (const { id, name } of names) await renameMember(at, id, name);
    const recorded: Recorded = {
      replicas: await addReplicas(at, merged),
      protections: await addProtections(at, merged),
      claims: await addClaims(at, merged),
      documents: await restoreDocuments(at, authority.caPem, merged.documents),
    };
    await recordLeftOvers(at, context, merged.left);
    await writeRebuild(at, { state: 'none', members: [] });
    await events.record(at, {
      kind: 'site.rebuilt',
      severity: 'warning',
      subject: { kind: 'site', id: identity.siteId },
      message:
        `the database was rebuilt: ${members.length} programs, ${recorded.replicas} replicas, ` +
        `${recorded.protections} protections, ${recorded.claims} epochs, ${recorded.documents} of plans, ` +
        `groups and mappings`,
    });
    return recorded;
  });
  for (const { id, name } of names) {
    const member = inventory.agent(id) ?? inventory.server(id);
    if (member !== undefined) member.name = name;
  }
  return counts;
}

async function addReplicas(at: Database, { replicas }: Merged): Promise<number> {
  const known = await listReplicas(at);
  const fresh = replicas.filter(
    (row) =>
      !known.some(
        (one) =>
          one.id === row.id ||
          one.protection_id === row.protection_id ||
          (one.vm_uuid === row.vm_uuid && one.source_site_id === row.source_site_id),
      ),
  );
  for (const row of fresh) await addReplica(at, row);
  return fresh.length;
}

async function addProtections(at: Database, { protections }: Merged): Promise<number> {
  const known = await listProtections(at);
  const fresh = protections.filter(
    (row) =>
      !known.some(
        (one) =>
          one.id === row.id || (one.vm_uuid === row.vm_uuid && one.target_site_id === row.target_site_id),
      ),
  );
  for (const row of fresh) await addProtection(at, row);
  return fresh.length;
}

async function addClaims(at: Database, { claims }: Merged): Promise<number> {
  let count = 0;
  for (const row of claims) {
    const known = await findClaim(at, row.vm_uuid);
    if (known !== undefined && !supersedes(row, known)) continue;
    await putClaim(at, row);
    count++;
  }
  return count;
}
