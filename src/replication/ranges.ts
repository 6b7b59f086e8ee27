/** Sorted ranges of bytes: joined, bounded, merged with a stream of others. Pure. */

export type Range = { offset: number; length: number };

/**
 * Sorted, without overlaps or touching neighbours, at most `max` of them: beyond that, the smallest gaps are closed,
 * which only ever makes the ranges cover more.
 */
export function normalized(ranges: readonly Range[], max: number): Range[] {
  const joined: Range[] = [];
  for (const range of ranges.toSorted((a, b) => a.offset - b.offset)) {
    const last = joined.at(-1);
    if (last !== undefined && range.offset <= last.offset + last.length) {
      last.length = Math.max(last.length, range.offset + range.length - last.offset);
    } else if (range.length > 0) {
      joined.push({ ...range });
    }
  }
  if (joined.length <= max) return joined;
  const gaps = joined.slice(1).map((range, i) => range.offset - joined[i]!.offset - joined[i]!.length);
  const widest = gaps
    .map((gap, index) => ({ gap, index: index + 1 }))
    .toSorted((a, b) => b.gap - a.gap || a.index - b.index);
  const starts = new Set(widest.slice(0, max - 1).map(({ index }) => index));
  const bounded: Range[] = [];
  for (const [index, range] of joined.entries()) {
    const last = bounded.at(-1);
    if (last === undefined || starts.has(index)) bounded.push({ ...range });
    else last.length = range.offset + range.length - last.offset;
  }
  return bounded;
}

/** The union of two ascending sources, ascending, cut to `bytes`. */
export async function* union(
  stream: AsyncIterable<Range>,
  others: readonly Range[],
  bytes: number,
): AsyncGenerator<Range> {
  let next = 0;
  let current: Range | undefined;
  const take = function* (range: Range): Generator<Range> {
    const length = Math.min(range.length, bytes - range.offset);
    if (length <= 0) return;
    if (current !== undefined && range.offset <= current.offset + current.length) {
      current.length = Math.max(current.length, range.offset + length - current.offset);
      return;
    }
    if (current !== undefined) yield current;
    current = { offset: range.offset, length };
  };
  for await (const range of stream) {
    for (let other = others[next]; other !== undefined && other.offset < range.offset;) {
      yield* take(other);
      other = others[++next];
    }
    yield* take(range);
  }
  for (const other of others.slice(next)) yield* take(other);
  if (current !== undefined) yield current;
}

/** The ranges of two ascending sources, ascending by where they begin; they may overlap. */
export async function* merged(a: AsyncIterable<Range>, b: AsyncIterable<Range>): AsyncGenerator<Range> {
  const [left, right] = [a[Symbol.asyncIterator](), b[Symbol.asyncIterator]()];
  let [nextLeft, nextRight] = [await left.next(), await right.next()];
  while (nextLeft.done !== true || nextRight.done !== true) {
    const isLeft =
      nextRight.done === true || (nextLeft.done !== true && nextLeft.value.offset <= nextRight.value.offset);
    if (isLeft && nextLeft.done !== true) {
      yield nextLeft.value;
      nextLeft = await left.next();
    } else if (nextRight.done !== true) {
      yield nextRight.value;
      nextRight = await right.next();
    }
  }
}
