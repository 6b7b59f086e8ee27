/**
 * What of a disk is read and compared in a cycle: from ranges that may have changed to groups of blocks, ascending.
 *
 * Long ranges are asked for their allocation, and what is zero there is not read; where the record is zero as well,
 * nothing is done at all, so an empty TiB costs some thousand questions. A block that is zero in part is read. Pure.
 */
import { BLOCK_BYTES, type Disk } from '#/disk/disk.ts';
import type { Run } from '#/wire/segment.ts';
import { extendRuns } from './block-codec.ts';
import type { DigestRecord } from './digest-record.ts';
import { ALLOCATION_ASKED_BYTES, ALLOCATION_SPAN_BYTES, GROUP_BLOCKS } from './limits.ts';
import type { Range } from './ranges.ts';

export type GroupPlan = { group: number; read: Run[]; zero: Run[] };

type Piece = Range & { kind: 'data' | 'zero' };

/** `ranges` ascend and do not overlap. */
export async function* changedGroups(
  disk: Disk,
  ranges: AsyncIterable<Range>,
  record: DigestRecord,
  signal: AbortSignal,
): AsyncGenerator<GroupPlan> {
  let plan: GroupPlan | undefined;
  for await (const { kind, run } of runsOf(piecesOf(disk, ranges, signal), disk.bytes)) {
    const end = run.first + run.count;
    for (let block = run.first; block < end;) {
      let group = Math.floor(block / GROUP_BLOCKS);
      if (plan !== undefined && plan.group !== group) {
        yield plan;
        plan = undefined;
      }
      if (kind === 'zero' && plan === undefined) {
        const occupied = await record.nextOccupied(group, Math.ceil(end / GROUP_BLOCKS));
        if (occupied === undefined) break;
        if (occupied !== group) block = occupied * GROUP_BLOCKS;
        group = occupied;
      }
      plan ??= { group, read: [], zero: [] };
      const next = Math.min(end, (group + 1) * GROUP_BLOCKS);
      extendRuns(kind === 'zero' ? plan.zero : plan.read, block, next - block);
      block = next;
    }
  }
  if (plan !== undefined) yield plan;
}

/** Ranges with what is known of their content, neighbours of a kind joined. */
async function* piecesOf(
  disk: Disk,
  ranges: AsyncIterable<Range>,
  signal: AbortSignal,
): AsyncGenerator<Piece> {
  for await (const range of ranges) {
    if (range.length < ALLOCATION_ASKED_BYTES) {
      yield { ...range, kind: 'data' };
      continue;
    }
    const end = range.offset + range.length;
    let last: Piece | undefined;
    for (let at = range.offset; at < end;) {
      for (const extent of await disk.extents(at, Math.min(end - at, ALLOCATION_SPAN_BYTES), signal)) {
        at = extent.offset + extent.length;
        if (last?.kind === extent.kind) {
          last.length += extent.length;
          continue;
        }
        if (last !== undefined) yield last;
        last = { ...extent };
      }
    }
    if (last !== undefined) yield last;
  }
}

/** Pieces as runs of whole blocks: a block that any piece says may hold data is data, and none comes twice. */
async function* runsOf(
  pieces: AsyncIterable<Piece>,
  diskBytes: number,
): AsyncGenerator<{ kind: Piece['kind']; run: Run }> {
  let done = 0;
  for await (const { offset, length, kind } of pieces) {
    const end = offset + length;
    const outerFirst = Math.max(done, Math.floor(offset / BLOCK_BYTES));
    const outerEnd = Math.ceil(end / BLOCK_BYTES);
    if (outerEnd <= outerFirst) continue;
    done = outerEnd;
    if (kind === 'data') {
      yield { kind, run: { first: outerFirst, count: outerEnd - outerFirst } };
      continue;
    }
    const innerFirst = Math.min(outerEnd, Math.max(outerFirst, Math.ceil(offset / BLOCK_BYTES)));
    const innerEnd = Math.max(innerFirst, end === diskBytes ? outerEnd : Math.floor(end / BLOCK_BYTES));
    if (innerFirst > outerFirst) {
      yield { kind: 'data', run: { first: outerFirst, count: innerFirst - outerFirst } };
    }
    if (innerEnd > innerFirst) yield { kind, run: { first: innerFirst, count: innerEnd - innerFirst } };
    if (outerEnd > innerEnd) yield { kind: 'data', run: { first: innerEnd, count: outerEnd - innerEnd } };
  }
}
