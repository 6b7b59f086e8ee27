/** What a benchmark reports, and the arithmetic of ratios: medians of interleaved rounds, since machines drift. */

export type Figure = {
  name: string;
  value: number;
  unit: string;
  /** The value to stay at or below; null for a figure that only informs. */
  goal: number | null;
  met: boolean | null;
};

export type Benchmark = {
  /** One sentence for `--help`. */
  about: string;
  run(options: BenchmarkOptions): Promise<Figure[]>;
};

export type BenchmarkOptions = {
  /** Interleaved rounds to take the median of. */
  rounds: number;
  /** Progress for people, on stderr. */
  readonly say: (line: string) => void;
};

export function figure(name: string, value: number, unit: string, goal: number | null = null): Figure {
  const rounded = Number(value.toPrecision(4));
  return { name, value: rounded, unit, goal, met: goal === null ? null : rounded <= goal };
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length / 2;
  const upper = sorted[Math.floor(middle)];
  const lower = sorted[Math.ceil(middle) - 1];
  if (upper === undefined || lower === undefined) throw new RangeError('median of nothing');
  return (upper + lower) / 2;
}

/** Runs each subject once per round, in turn, and gives each one's values in the order of the rounds. */
export async function interleave<Name extends string>(
  subjects: Record<Name, () => Promise<number>>,
  options: BenchmarkOptions,
): Promise<Record<Name, number[]>> {
  const names = Object.keys(subjects) as Name[];
  const values = Object.fromEntries(names.map((name) => [name, [] as number[]])) as Record<Name, number[]>;
  for (let round = 1; round <= options.rounds; round++) {
    for (const name of names) {
      const value = await subjects[name]();
      values[name].push(value);
      options.say(`round ${round} of ${options.rounds}: ${name} ${value.toPrecision(4)}`);
    }
  }
  return values;
}

/** The median over rounds of a's value divided by b's of the same round. */
export function medianRatio(a: readonly number[], b: readonly number[]): number {
  return median(a.map((value, round) => value / (b[round] ?? Number.NaN)));
}
