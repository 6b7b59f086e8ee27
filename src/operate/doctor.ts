/** Runs checks side by side and sorts out what they found. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Check, Finding, FindingState } from './finding.ts';

export type Examination = { state: FindingState; findings: Finding[] };

const PROGRESS_EVERY_MS = 2000;
const ORDER: readonly FindingState[] = ['good', 'warning', 'bad'];

/** `onWaiting` hears every two seconds what is still being looked at. Findings come in the order of the checks. */
export async function examine(
  checks: readonly Check[],
  onWaiting: (names: string[]) => void,
): Promise<Examination> {
  const waiting = new Set<string>(checks.map(({ name }) => name));
  const done = new AbortController();
  const told = tell(waiting, onWaiting, done.signal);
  const results = await Promise.all(
    checks.map(async (one) => {
      const findings = await one.run();
      waiting.delete(one.name);
      return findings;
    }),
  );
  done.abort();
  await told;
  const findings = results.flat();
  return { state: worst(findings), findings };
}

export function worst(findings: readonly Finding[]): FindingState {
  return ORDER[Math.max(0, ...findings.map(({ state }) => ORDER.indexOf(state)))]!;
}

/** 0, 1 or 2, for scripts. */
export function exitCodeOf(state: FindingState): number {
  return ORDER.indexOf(state);
}

async function tell(
  waiting: ReadonlySet<string>,
  onWaiting: (names: string[]) => void,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    try {
      await sleep(PROGRESS_EVERY_MS, undefined, { signal });
    } catch {
      return;
    }
    onWaiting([...waiting]);
  }
}
