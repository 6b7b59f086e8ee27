/**
 * RPO is a law about age (design: scheduling): the newest usable recovery point may never be older than the RPO. From
 * the points and the time alone this says when violations began and ended, exactly, however late it is asked.
 */

/** What is remembered between two looks. */
export type RpoRecord = {
  /** Moment of the newest point taken into account; undefined before the first. */
  momentMs: number | undefined;
  sequence: number;
  /** When the violation that goes on began. */
  beganMs: number | undefined;
};

export type RpoPoint = { sequence: number; momentMs: number; acknowledgedMs: number };
export type RpoTurn = { kind: 'began' | 'ended'; atMs: number };

export const NO_RECORD: RpoRecord = { momentMs: undefined, sequence: 0, beganMs: undefined };

/** `points` ascending; those that were taken into account before are passed over. */
export function advanceRpo(
  record: RpoRecord,
  points: readonly RpoPoint[],
  at: { rpoMs: number; nowMs: number },
): { record: RpoRecord; turns: RpoTurn[] } {
  const turns: RpoTurn[] = [];
  let { beganMs, momentMs, sequence } = record;
  const beginAfter = (moment: number, untilMs: number): void => {
    const deadlineMs = moment + at.rpoMs;
    if (beganMs !== undefined || untilMs <= deadlineMs) return;
    beganMs = deadlineMs;
    turns.push({ kind: 'began', atMs: deadlineMs });
  };
  for (const point of points) {
    if (point.sequence <= sequence) continue;
    // Until this point was durable, the one before was the newest that could be used.
    if (momentMs !== undefined) beginAfter(momentMs, point.acknowledgedMs);
    const isFresh = point.acknowledgedMs - point.momentMs <= at.rpoMs;
    if (beganMs !== undefined && isFresh && point.acknowledgedMs > beganMs) {
      turns.push({ kind: 'ended', atMs: point.acknowledgedMs });
      beganMs = undefined;
    }
    ({ momentMs, sequence } = point);
  }
  if (momentMs !== undefined) beginAfter(momentMs, at.nowMs);
  return { record: { momentMs, sequence, beganMs }, turns };
}
