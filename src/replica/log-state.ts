/**
 * What a log of recovery points says when its records are taken in order. Pure.
 *
 * Invariants: points ascend; delta files follow each other; no delta file reaches over a point that is kept; the
 * base is at or below the oldest point.
 */
import { Failure } from '#/lib/failure.ts';
import { corrupt } from './bytes.ts';
import type { DeltaEntry, LogRecord, LogSummary, PointEntry } from './log-record.ts';

export type LogState = LogSummary;

export const EMPTY_STATE: LogState = {
  epoch: 0,
  head: 0,
  base: 0,
  nextDisk: 1,
  nextDelta: 1,
  firstCopy: [],
  deltas: [],
  points: [],
};

/** The state after one more record. Throws storage_corrupt when the record cannot follow. */
export function applyRecord(state: LogState, record: LogRecord): LogState {
  switch (record.kind) {
    case 'epoch':
      return { ...state, epoch: Math.max(state.epoch, record.epoch) };
    case 'first_copy':
      expect(state.head === 0, 'first_copy record after a point');
      return { ...state, firstCopy: record.disks, nextDisk: nextId(state.nextDisk, record.disks) };
    case 'point':
      return withPoint(state, record.point, record.deltas);
    case 'pruned': {
      const gone = new Set(record.sequences);
      expect(!gone.has(state.head), 'pruned record of the newest point');
      return { ...state, points: state.points.filter(({ sequence }) => !gone.has(sequence)) };
    }
    case 'merged':
      return withMerged(state, record.removed, record.delta);
    case 'advanced': {
      const [oldest, ...deltas] = state.deltas;
      expect(oldest?.number === record.removed && record.base === oldest.last, 'advanced record');
      expect(
        state.points.every(({ sequence }) => sequence >= record.base),
        'advanced record over a point',
      );
      return { ...state, deltas, base: record.base };
    }
    case 'summary': {
      const { kind: _, ...summary } = record;
      expect(isAscending(summary.points.map(({ sequence }) => sequence)), 'order of points');
      return summary;
    }
  }
}

/** Delta files that a point's disks are made of, over the base. */
export function deltasUpTo(state: LogState, sequence: number): DeltaEntry[] {
  return state.deltas.filter(({ last }) => last <= sequence);
}

export function pointAt(state: LogState, sequence: number): PointEntry | undefined {
  return state.points.find((point) => point.sequence === sequence);
}

function withPoint(state: LogState, point: PointEntry, deltas: DeltaEntry[]): LogState {
  // Decided here, where records follow each other: an epoch may rise while an older one's point is being received.
  if (point.epoch < state.epoch) {
    throw new Failure(
      'epoch_stale',
      `commit point ${point.sequence}: epoch ${point.epoch} is below ${state.epoch}`,
    );
  }
  expect(point.sequence === state.head + 1, `sequence ${point.sequence} after ${state.head}`);
  expect(state.head > 0 || deltas.length === 0, 'first point with delta files');
  expect(
    deltas.every(({ first, last }) => first === point.sequence && last === point.sequence),
    'delta files of a point',
  );
  return {
    ...state,
    head: point.sequence,
    base: state.head === 0 ? point.sequence : state.base,
    epoch: Math.max(state.epoch, point.epoch),
    nextDisk: nextId(state.nextDisk, point.disks),
    nextDelta: Math.max(state.nextDelta, ...deltas.map(({ number }) => number + 1)),
    firstCopy: [],
    deltas: [...state.deltas, ...deltas],
    points: [...state.points, point],
  };
}

function withMerged(state: LogState, removed: number[], delta: DeltaEntry): LogState {
  const at = state.deltas.findIndex(({ number }) => number === removed[0]);
  const inputs = state.deltas.slice(at, at + removed.length);
  expect(at >= 0 && inputs.every(({ number }, index) => number === removed[index]), 'merged record');
  expect(delta.first === inputs[0]?.first && delta.last === inputs.at(-1)?.last, 'range of a merged record');
  expect(
    state.points.every(({ sequence }) => sequence < delta.first || sequence >= delta.last),
    'merged record over a point',
  );
  return {
    ...state,
    nextDelta: Math.max(state.nextDelta, delta.number + 1),
    deltas: [...state.deltas.slice(0, at), delta, ...state.deltas.slice(at + removed.length)],
  };
}

function nextId(next: number, disks: { id: number }[]): number {
  return Math.max(next, ...disks.map(({ id }) => id + 1));
}

function isAscending(numbers: number[]): boolean {
  return numbers.every((number, index) => index === 0 || number > numbers[index - 1]!);
}

function expect(condition: boolean, what: string): asserts condition {
  if (!condition) throw corrupt('points.log', what);
}
