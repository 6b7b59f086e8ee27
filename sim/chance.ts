/** Choices of a seeded run. */
import { integerBelow, SeededRandom } from '#/lib/random.ts';
import type { Random } from '#/lib/random.ts';

/** A generator of its own for one part of the world, so that its draws do not disturb the others. */
export function fork(random: Random): SeededRandom {
  return new SeededRandom(integerBelow(random, 2 ** 32));
}

/** An integer from `low` to `high`, both included. */
export function integerFrom(random: Random, low: number, high: number): number {
  return low + integerBelow(random, high - low + 1);
}

export function pick<T>(random: Random, items: readonly T[]): T {
  return items[integerBelow(random, items.length)]!;
}

/** A waiting time with this mean, mostly short, sometimes long. */
export function waitMs(random: Random, meanMs: number): number {
  return -Math.log(1 - random.next()) * meanMs;
}
