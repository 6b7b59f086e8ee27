/**
 * Which recovery points are wanted (docs/storage-format.md, section 9): all that are young; those that somebody has
 * bookmarked; then one for each interval, as long as it is young enough for its tier. Pure.
 *
 * An interval's point is its oldest one, so that a choice once made stays: a newer point never takes its place.
 * Intervals are counted from the Unix epoch, so that those of a larger tier hold whole ones of a smaller tier.
 */

export type AgedPoint = { sequence: number; momentMs: number };
/** All points younger than `keepAllMs`, then one in each interval of each tier. */
export type Wanted = {
  readonly keepAllMs: number;
  readonly tiers: readonly { readonly everyMs: number; readonly forMs: number }[];
  /** Sequences of points that are kept whatever their age. */
  readonly kept?: readonly number[];
};

/** Sequences of the points to keep. `points` ascend; the newest is always kept. */
export function wantedPoints(points: readonly AgedPoint[], policy: Wanted, nowMs: number): Set<number> {
  const wanted = new Set<number>();
  const kept = new Set(policy.kept);
  const newest = points.at(-1);
  if (newest !== undefined) wanted.add(newest.sequence);
  for (const { sequence, momentMs } of points) {
    if (nowMs - momentMs < policy.keepAllMs || kept.has(sequence)) wanted.add(sequence);
  }
  for (const { everyMs, forMs } of policy.tiers) {
    const taken = new Set<number>();
    for (const { sequence, momentMs } of points) {
      const interval = Math.floor(momentMs / everyMs);
      if (nowMs - momentMs >= forMs || taken.has(interval)) continue;
      taken.add(interval);
      wanted.add(sequence);
    }
  }
  return wanted;
}
