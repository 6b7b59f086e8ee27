/**
 * The recovery points of a replica, in the order of their moments. All of them are asked for once; as new ones come
 * only the newest are, and all again when enough of the old ones were merged away to be worth it.
 */
import { useMemo } from 'react';
import type { Point } from '#/api/types.ts';
import { useCall } from '#/api/use-call.ts';

const ALL = 1000;
const NEWEST = 20;

export function usePoints(replicaId: string): { points: readonly Point[]; error: Error | null } {
  const newest = useCall('GET /api/v1/points', ['reports'], {
    query: { replica: replicaId, limit: NEWEST },
  });
  const total = newest.data?.total ?? 0;
  const newestSequence = newest.data?.items[0]?.sequence ?? 0;
  // Of every twenty points one asking for all, and one for each page of a thousand.
  const era = Math.floor(newestSequence / NEWEST);
  const first = useCall('GET /api/v1/points', [], {
    query: { replica: replicaId, limit: ALL, offset: 0 },
    isEnabled: newest.data !== undefined,
    era,
  });
  const second = useCall('GET /api/v1/points', [], {
    query: { replica: replicaId, limit: ALL, offset: ALL },
    isEnabled: total > ALL,
    era,
  });
  const points = useMemo(() => {
    const known = new Map<number, Point>();
    for (const point of [
      ...(second.data?.items ?? []),
      ...(first.data?.items ?? []),
      ...(newest.data?.items ?? []),
    ]) {
      known.set(point.sequence, point);
    }
    return [...known.values()].toSorted((a, b) => a.sequence - b.sequence);
  }, [first.data, newest.data, second.data]);
  return { points, error: newest.error ?? first.error };
}
