/** Antipode's own programs in a lab's sites: their configuration, their start, and how the sites get to know each other. */
import { Failure } from '#/lib/failure.ts';
import type { Site } from './site.ts';

export const PROGRAMS = ['manager', 'replication-server', 'agent'] as const;
export type ProgramName = (typeof PROGRAMS)[number];

export interface StartOptions {
  readonly say: (line: string) => void;
  readonly save: () => void;
  readonly only?: ProgramName;
}

export function isProgram(name: string): name is ProgramName {
  return (PROGRAMS as readonly string[]).includes(name);
}

export async function startPrograms(sites: readonly Site[], options: StartOptions): Promise<void> {
  throw new Failure('tool_failed', `start ${options.only ?? 'programs'} at ${sites.length} sites`);
}
