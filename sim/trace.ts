/**
 * What happened in a run, as lines, and their hash: two runs of one seed must have the same.
 */
import { createHash } from 'node:crypto';
import type { Timeline } from './timeline.ts';

/** The last lines are kept for the report of a failure; older ones live on in the hash alone. */
const TAIL_LINES = 40;

export class Trace {
  readonly #hash = createHash('sha256');
  readonly #timeline: Timeline;
  readonly #print: ((line: string) => void) | undefined;
  readonly #tail: string[] = [];

  constructor(timeline: Timeline, print?: (line: string) => void) {
    this.#timeline = timeline;
    this.#print = print;
  }

  add(what: string): void {
    const line = `${this.#timeline.nowMs.toFixed(3)} ${what}`;
    this.#hash.update(line).update('\n');
    this.#tail.push(line);
    if (this.#tail.length > TAIL_LINES) this.#tail.shift();
    this.#print?.(line);
  }

  /** The last lines, oldest first. */
  tail(): string[] {
    return [...this.#tail];
  }

  /** 16 hex digits over all lines. Ends the trace. */
  digest(): string {
    return this.#hash.digest('hex').slice(0, 16);
  }
}
