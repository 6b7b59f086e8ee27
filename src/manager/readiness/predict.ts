/** What a run of the plan would lose and take, by what was measured. Pure. */
import type { PointTimes, VmSituation } from './situation.ts';

/**
 * A disaster is worst right before a point is acknowledged: then the one before is what there is. The greatest such
 * age among the last points, and never less than the age now. Null without a point.
 */
export function predictRpo(points: readonly PointTimes[], nowMs: number): number | null {
  const newest = points.at(-1);
  if (newest === undefined) return null;
  const worst = points.slice(1).map((point, index) => point.acknowledgedMs - points[index]!.momentMs);
  return Math.max(0, nowMs - newest.momentMs, ...worst);
}

/** The longest of its last starts; null when it was never tested. */
export function predictStart({ startsMs }: Pick<VmSituation, 'startsMs'>): number | null {
  return startsMs.length === 0 ? null : Math.max(...startsMs);
}

/** The priorities one after the other, the VMs of each together. Null while one that starts was never tested. */
export function predictRto(vms: readonly VmSituation[]): number | null {
  const slowest = new Map<number, number>();
  for (const vm of vms.filter(({ starts }) => starts)) {
    const ms = predictStart(vm);
    if (ms === null) return null;
    slowest.set(vm.priority, Math.max(slowest.get(vm.priority) ?? 0, ms));
  }
  return slowest.size === 0 ? null : [...slowest.values()].reduce((all, ms) => all + ms, 0);
}
