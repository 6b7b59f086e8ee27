/** What is wrong with a plan, as lines for people. */
import type { PlanProblem } from '#/api/plan-files.ts';
import { printable } from './table.ts';

const WORDS: Record<PlanProblem['severity'], string> = {
  error: 'error',
  blocks_runs: 'blocks runs',
  warning: 'warning',
};

export function problemText({ severity, message, hint }: PlanProblem): string {
  const first = printable(`${WORDS[severity]}: ${message}`);
  return hint === null || hint === '' ? first : `${first}\n  ${printable(hint)}`;
}

export function counted(count: number, thing: string): string {
  return `${count} ${thing}${count === 1 ? '' : 's'}`;
}
