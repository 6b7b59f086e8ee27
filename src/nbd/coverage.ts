/**
 * Which parts of a read have been answered, so that a reply which leaves a gap or answers a byte twice is caught.
 *
 * Invariant: ranges are sorted, disjoint and not adjacent, and at most COVERAGE_RANGES_MAX.
 */
import { COVERAGE_RANGES_MAX } from './limits.ts';

export class Coverage {
  /** Pairs of start and end. */
  readonly #ranges: number[] = [];

  /** False when a byte was covered before, or the ranges are too many. */
  add(start: number, end: number): boolean {
    const ranges = this.#ranges;
    let at = ranges.length;
    while (at > 0 && ranges[at - 2]! > start) at -= 2;
    const previousEnd = at > 0 ? ranges[at - 1]! : -1;
    const nextStart = at < ranges.length ? ranges[at]! : Infinity;
    if (previousEnd > start || nextStart < end) return false;
    if (previousEnd === start && nextStart === end) ranges.splice(at - 1, 2);
    else if (previousEnd === start) ranges[at - 1] = end;
    else if (nextStart === end) ranges[at] = start;
    else ranges.splice(at, 0, start, end);
    return ranges.length <= COVERAGE_RANGES_MAX * 2;
  }

  /** True when exactly [0, length) is covered. */
  isComplete(length: number): boolean {
    return this.#ranges.length === 2 && this.#ranges[0] === 0 && this.#ranges[1] === length;
  }
}
