/**
 * Which step of compaction comes next (docs/storage-format.md, section 9). Pure: the log's state in, one step out.
 *
 * Merging is amortized: delta files of one level are merged MERGE_FAN_IN at a time into one of the next level, so
 * that a block is written again once for each power of MERGE_FAN_IN points, not once for each point. Between two
 * points that are old enough to stay, nothing more will come, and what is left there is merged at last.
 */
import { DELTA_BLOCKS_MAX, MERGE_BYTES_MAX, MERGE_FAN_IN } from './limits.ts';
import type { DeltaEntry } from './log-record.ts';
import type { LogState } from './log-state.ts';

export type CompactionStep =
  | { kind: 'prune'; sequences: number[] }
  /** Lay the oldest delta file into the base. */
  | { kind: 'advance'; delta: DeltaEntry }
  | { kind: 'merge'; deltas: DeltaEntry[] };

export type PlanInput = {
  state: LogState;
  /** Sequences of points that retention keeps. */
  wanted: ReadonlySet<number>;
  /** Sequences of points that are open as views. */
  pinned: ReadonlySet<number>;
  /** Points up to this one are old: no point between them will be pruned but by their age. */
  settledThrough: number;
  /** Bytes that a merge may write. */
  freeBytes: number;
  /** Data blocks of a delta file: the tables of a merged one must fit into memory. */
  blocksOf: (delta: DeltaEntry) => number;
};

export function nextStep(input: PlanInput): CompactionStep | undefined {
  const { state, wanted, pinned, settledThrough } = input;
  const sequences = state.points
    .map(({ sequence }) => sequence)
    .filter((sequence) => sequence !== state.head && !wanted.has(sequence) && !pinned.has(sequence));
  if (sequences.length > 0) return { kind: 'prune', sequences };
  const oldest = state.points[0];
  const [delta] = state.deltas;
  if (oldest !== undefined && delta !== undefined && delta.last <= oldest.sequence)
    return { kind: 'advance', delta };
  for (const run of runs(state)) {
    const deltas = mergeable(run.deltas, run.upTo <= settledThrough, input);
    if (deltas !== undefined) return { kind: 'merge', deltas };
  }
  return undefined;
}

/** Delta files between two points that follow each other, and the later one of the two. */
function* runs({ points, deltas }: LogState): Generator<{ deltas: DeltaEntry[]; upTo: number }> {
  let at = 0;
  for (const { sequence } of points) {
    const run: DeltaEntry[] = [];
    for (; at < deltas.length && deltas[at]!.last <= sequence; at++) run.push(deltas[at]!);
    if (run.length > 1) yield { deltas: run, upTo: sequence };
  }
}

function mergeable(run: DeltaEntry[], isSettled: boolean, input: PlanInput): DeltaEntry[] | undefined {
  for (let from = 0; from < run.length;) {
    let end = from + 1;
    while (end < run.length && end - from < MERGE_FAN_IN && run[end]!.level === run[from]!.level) end++;
    if (end - from === MERGE_FAN_IN) {
      const fitting = fitInto(run.slice(from, end), input);
      if (fitting !== undefined) return fitting;
    }
    from = end;
  }
  if (!isSettled) return undefined;
  for (let from = 0; from + 1 < run.length; from++) {
    const fitting = fitInto(run.slice(from, from + MERGE_FAN_IN), input);
    if (fitting !== undefined) return fitting;
  }
  return undefined;
}

/** As many from the beginning as fit together; undefined when that is not even two. */
function fitInto(deltas: DeltaEntry[], { freeBytes, blocksOf }: PlanInput): DeltaEntry[] | undefined {
  const bytesMax = Math.min(MERGE_BYTES_MAX, freeBytes);
  let bytes = 0;
  let blocks = 0;
  let count = 0;
  for (const delta of deltas) {
    bytes += delta.bytes;
    blocks += blocksOf(delta);
    if (bytes > bytesMax || blocks > DELTA_BLOCKS_MAX) break;
    count++;
  }
  return count >= 2 ? deltas.slice(0, count) : undefined;
}
