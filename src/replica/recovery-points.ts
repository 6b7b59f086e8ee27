/** Recovery points as the rest of the program sees them. Pure. */
import { Failure } from '#/lib/failure.ts';
import type { PointEntry } from './log-record.ts';
import type { LogState } from './log-state.ts';
import type { RecoveryPoint } from './replica.ts';

/** Ascending. A point takes what its own delta files take, and what was merged into them. */
export function recoveryPoints(state: LogState, isOffered: (sequence: number) => boolean): RecoveryPoint[] {
  const points: RecoveryPoint[] = [];
  let delta = 0;
  for (const entry of state.points) {
    let bytes = entry.sequence <= state.base ? entry.bytes : 0;
    for (; delta < state.deltas.length && state.deltas[delta]!.last <= entry.sequence; delta++) {
      bytes += state.deltas[delta]!.bytes;
    }
    if (isOffered(entry.sequence)) points.push(recoveryPoint(entry, bytes));
  }
  return points;
}

export function recoveryPoint(entry: PointEntry, deltaBytes: number): RecoveryPoint {
  return {
    sequence: entry.sequence,
    stamp: entry.stamp,
    momentMs: entry.momentMs,
    acknowledgedMs: entry.acknowledgedMs,
    epoch: entry.epoch,
    consistency: entry.consistency,
    disks: entry.disks.map(({ key, bytes, root }) => ({ key, bytes, root })),
    attachments: entry.attachments,
    deltaBytes,
  };
}

/** What to say of a sequence that the log does not name. */
export function absent(sequence: number, head: number): Failure {
  return sequence >= 1 && sequence <= head
    ? new Failure('point_expired', `open point ${sequence}: retention has merged it away`)
    : new Failure('not_found', `open point ${sequence}: the newest is ${head}`);
}
