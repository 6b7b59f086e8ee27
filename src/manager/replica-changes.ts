/**
 * A replica's protection is changed at the site of the VM: what that site tells, and what it asks before.
 *
 * A change carries the revision of the protection. An older one that comes late changes nothing; one that comes again
 * is answered as before.
 */
import type { ReplicaChange, ReplicaChanged, RetentionQuestion } from '#/api/peer.ts';
import type { PointsLost } from '#/api/protections.ts';
import { isLasting } from '#/control/orders.ts';
import { Failure } from '#/lib/failure.ts';
import { wantedPoints } from '#/lib/wanted-points.ts';
import type { Context } from './context.ts';
import { listReplicas, reviseReplica, type ReplicaRecord } from './store/replica-store.ts';

export async function changeReplica(
  context: Context,
  siteId: string,
  change: ReplicaChange,
): Promise<ReplicaChanged> {
  const { changes, db, events } = context;
  const replica = await find(context, siteId, change.protection_id);
  const { protection_id: _, ...wanted } = change;
  if (change.revision <= replica.revision) {
    return { revision: replica.revision, is_taken: isAsTaken(replica, change) };
  }
  const isTaken = await db.transaction().execute(async (at) => {
    if (!(await reviseReplica(at, { id: replica.id, from: replica.revision }, wanted))) return false;
    await events.record(at, {
      kind: 'replica.changed',
      severity: 'info',
      subject: { kind: 'replica', id: replica.id },
      message: `how ${replica.vm_name} is protected was changed at its site`,
    });
    return true;
  });
  if (!isTaken) {
    throw new Failure(
      'replica_busy',
      `the replica of ${replica.vm_name} was changed by another call meanwhile`,
    );
  }
  changes.notify('orders');
  return { revision: change.revision, is_taken: true };
}

/** By the newest points, which are those that the server tells of. */
export async function pointsLost(
  context: Context,
  siteId: string,
  question: RetentionQuestion,
): Promise<PointsLost> {
  const { clock, inventory } = context;
  const nowMs = clock.now();
  const replica = await find(context, siteId, question.protection_id);
  const { report } = inventory.replicaReport(replica.server_id, replica.id);
  const points = (report?.points ?? []).map(({ moment_ms: momentMs, sequence }) => ({ momentMs, sequence }));
  const { keep_all_ms: keepAllMs, tiers } = question.retention;
  const policy = {
    keepAllMs,
    tiers: tiers.map((tier) => ({ everyMs: tier.every_ms, forMs: tier.for_ms })),
    kept: replica.bookmarks.filter((one) => isLasting(one, nowMs)).map(({ sequence }) => sequence),
  };
  const wanted = wantedPoints(points, policy, nowMs);
  const lost = points.filter(({ sequence }) => !wanted.has(sequence));
  return {
    looked_at: points.length,
    total: report?.point_count ?? 0,
    count: lost.length,
    oldest_ms: lost[0]?.momentMs ?? null,
    newest_ms: lost.at(-1)?.momentMs ?? null,
  };
}

async function find(context: Context, siteId: string, protectionId: string): Promise<ReplicaRecord> {
  const replica = (await listReplicas(context.db)).find(
    (known) => known.protection_id === protectionId && known.source_site_id === siteId,
  );
  if (replica !== undefined && ['active', 'seeding'].includes(replica.state)) return replica;
  throw new Failure('not_found', `site ${context.config.siteName} keeps no replica of that protection`);
}

/** What its disks will take is told anew each time, and makes it no other change. */
function isAsTaken(replica: ReplicaRecord, change: ReplicaChange): boolean {
  const keys = (disks: ReplicaChange['disks']): string =>
    (disks ?? replica.disks).map(({ key }) => key).join();
  const told = [change.revision, change.rpo_ms, change.retention, keys(change.disks)];
  return sorted(told) === sorted([replica.revision, replica.rpo_ms, replica.retention, keys(replica.disks)]);
}

/** As text that does not depend on the order of fields. */
function sorted(value: unknown): string {
  return JSON.stringify(value, (_key, part: unknown) =>
    typeof part === 'object' && part !== null && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).toSorted(([a], [b]) => (a < b ? -1 : 1)))
      : part,
  );
}
