/** What a checker found wrong: which invariant of the design, and with what evidence. */

export type Violation = { invariant: string; what: string };

/** More are not kept: the first one ends the run. */
const VIOLATIONS_MAX = 20;

export class Violations {
  readonly list: Violation[] = [];

  get isEmpty(): boolean {
    return this.list.length === 0;
  }

  add(invariant: string, what: string): void {
    if (this.list.length < VIOLATIONS_MAX) this.list.push({ invariant, what });
  }
}
