/**
 * Whether the last point of a VM that was shut down is at the recovery site what it is at the protected one, by the
 * roots of the digest trees of its disks: a pure function of what both say.
 */
import type { FinalPoint } from '#/control/handover-tasks.ts';
import type { ReplicaReport } from '#/control/reports.ts';

type Point = ReplicaReport['points'][number];
export type Proof =
  /** Equal, as of this point, which is the last one or a later one of the same content. */
  | { kind: 'equal'; sequence: number; momentMs: number }
  /** The replication server has not told of the point yet. */
  | { kind: 'not_told' }
  | { kind: 'differs'; message: string };

export function proveEqual(last: FinalPoint, points: readonly Point[]): Proof {
  const since = points.filter(({ sequence }) => sequence >= last.sequence);
  if (since.length === 0) return { kind: 'not_told' };
  const started = since.find(({ consistency }) => consistency !== 'off');
  if (started !== undefined) {
    const message = `point ${started.sequence} is of a VM that runs: it was started after it had been shut down`;
    return { kind: 'differs', message };
  }
  // Its server tells roots of the newest points alone. The VM stays off, so later ones have the same content.
  const told = since.filter(({ roots }) => roots !== undefined);
  for (const point of told) {
    const message = differenceOf(last, point);
    if (message !== undefined) return { kind: 'differs', message };
  }
  const first = told[0];
  if (first === undefined) return { kind: 'not_told' };
  return { kind: 'equal', sequence: first.sequence, momentMs: first.moment_ms };
}

function differenceOf(last: FinalPoint, point: Point): string | undefined {
  if (point.sequence === last.sequence && point.stamp !== last.stamp) {
    return `point ${point.sequence} is ${last.stamp} at the protected site and ${point.stamp} here`;
  }
  const roots = new Map(point.roots?.map(({ key, root }) => [key, root]));
  if (roots.size !== last.disks.length) {
    return `point ${point.sequence} has ${last.disks.length} disks at the protected site and ${roots.size} here`;
  }
  const other = last.disks.find(({ key, root }) => roots.get(key) !== root);
  if (other === undefined) return undefined;
  const { key, root } = other;
  const here = `and ${roots.get(key)} in point ${point.sequence} here`;
  return `the digests of ${key} have the root ${root} at the protected site, ${here}`;
}
