/**
 * What the doctor says of one thing that it looked at. A judge makes it from facts alone, so that every sentence has a
 * row in a test; a fact that could not be had is judged too.
 */
import { describe } from '#/lib/failure.ts';

export type FindingState = 'good' | 'warning' | 'bad';

export type Finding = {
  /** What was looked at. */
  check: string;
  state: FindingState;
  /** What was there. */
  saw: string;
  /** Why it matters. */
  why: string;
  /** The command or setting that mends it; null when nothing needs to be. */
  fix: string | null;
};

/** A fact, or why it could not be had. */
export type Gathered<Facts> = { value: Facts } | { failure: string };

/** Says findings of one check. */
export class Verdict {
  readonly #check: string;
  readonly #why: string;

  constructor(check: string, why: string) {
    this.#check = check;
    this.#why = why;
  }

  good(saw: string): Finding {
    return { check: this.#check, state: 'good', saw, why: this.#why, fix: null };
  }

  warning(saw: string, fix: string): Finding {
    return { check: this.#check, state: 'warning', saw, why: this.#why, fix };
  }

  bad(saw: string, fix: string): Finding {
    return { check: this.#check, state: 'bad', saw, why: this.#why, fix };
  }
}

export type Check = {
  name: string;
  /** Never throws, and never takes longer than its bound. */
  run(): Promise<Finding[]>;
};

/** Long enough for a disk that is being synced, short enough for a person who waits. */
const TIMEOUT_MS = 8000;

/** A gatherer with its judge. What the gatherer throws, and that it takes too long, is a fact for the judge. */
export function check<Facts>(
  name: string,
  gather: (signal: AbortSignal) => Promise<Facts>,
  judge: (facts: Gathered<Facts>) => Finding[],
  timeoutMs: number = TIMEOUT_MS,
): Check {
  return { name, run: async () => judge(await bounded(gather, timeoutMs)) };
}

async function bounded<Facts>(
  gather: (signal: AbortSignal) => Promise<Facts>,
  timeoutMs: number,
): Promise<Gathered<Facts>> {
  const stop = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<Gathered<Facts>>((resolve) => {
    timer = setTimeout(() => {
      stop.abort();
      resolve({ failure: `nothing came back within ${timeoutMs / 1000} s` });
    }, timeoutMs);
  });
  const facts = (async (): Promise<Gathered<Facts>> => {
    try {
      return { value: await gather(stop.signal) };
    } catch (error) {
      return { failure: describe(error) };
    }
  })();
  try {
    // A file system that hangs does not hear of an abort: whoever asked goes on without its answer.
    return await Promise.race([facts, late]);
  } finally {
    clearTimeout(timer);
  }
}
