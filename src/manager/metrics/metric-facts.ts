/** What the metrics are made of: what alarms are judged by, and what programs last reported of replicas and cycles. */
import type { Alarms } from '#/manager/alarms/alarms.ts';
import { siteFacts, type FactParts } from '#/manager/alarms/site-facts.ts';
import type { Context } from '#/manager/context.ts';
import { listProtections } from '#/manager/store/protection-store.ts';
import type { MetricFacts } from './metrics.ts';

export async function metricFacts(
  context: Context,
  parts: FactParts & { alarms: Alarms },
): Promise<MetricFacts> {
  const { config, db, inventory } = context;
  const protections = await listProtections(db);
  const names = new Map(protections.map((one) => [one.replica_id, one.vm_name]));
  return {
    ...(await siteFacts(context, parts)),
    siteName: config.siteName,
    alarms: await parts.alarms.counts(),
    replicas: inventory
      .servers()
      .filter((server) => inventory.isFresh(server))
      .flatMap(({ report }) => report?.replicas ?? [])
      .map((one) => ({
        replicaId: one.replica_id,
        vmName: one.vm_name,
        points: one.point_count,
        storedBytes: one.stored_bytes,
      })),
    cycles: inventory
      .agents()
      .filter((agent) => inventory.isFresh(agent))
      .flatMap(({ report }) => report?.replications ?? [])
      .flatMap(({ replica_id: replicaId, last_cycle: cycle }) =>
        cycle === null
          ? []
          : [
              {
                replicaId,
                vmName: names.get(replicaId) ?? '',
                durationMs: cycle.duration_ms,
                readBytes: cycle.read_bytes,
                changedBytes: cycle.changed_bytes,
                wireBytes: cycle.wire_bytes,
              },
            ],
      ),
  };
}
