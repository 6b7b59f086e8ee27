/** Collects what is wrong with a plan, so that a person is told everything at once, and each thing with its place. */
import type { PlanProblem } from '#/api/plan-files.ts';
import { Failure, type FailureCode } from '#/lib/failure.ts';

/** More than a person reads; a plan of a thousand VMs may have each of them wrong. */
const FINDINGS_MAX = 200;

export type Finding = { code: FailureCode; message: string; hint: string; at: readonly (string | number)[] };

export class Findings {
  readonly #problems: PlanProblem[] = [];

  add(severity: PlanProblem['severity'], { code, message, hint, at }: Finding): void {
    if (this.#problems.length >= FINDINGS_MAX) return;
    this.#problems.push({ severity, code, message, hint, at: pointer(at) });
  }

  error(finding: Finding): void {
    this.add('error', finding);
  }

  take(problems: readonly PlanProblem[]): void {
    this.#problems.push(...problems.slice(0, FINDINGS_MAX - this.#problems.length));
  }

  list(): PlanProblem[] {
    return [...this.#problems];
  }
}

/** Throws the first of the problems that is as grave as one of `severities`, and says how many there are. */
export function refuse(
  problems: readonly PlanProblem[],
  severities: readonly PlanProblem['severity'][],
): void {
  const grave = problems.filter(({ severity }) => severities.includes(severity));
  const [first] = grave;
  if (first === undefined) return;
  const more = grave.length === 1 ? '' : ` (and ${grave.length - 1} more)`;
  const options = first.hint === null ? {} : { hint: first.hint };
  throw new Failure(first.code as FailureCode, `${first.message}${more}`, options);
}

export function pointer(path: readonly (string | number)[]): string {
  return path.map((part) => `/${String(part).replaceAll('~', '~0').replaceAll('/', '~1')}`).join('');
}
