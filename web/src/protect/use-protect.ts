/** Checks each VM with the manager as the choice changes, and protects those of which nothing speaks against it. */
import { useQueries, useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { call, Refused } from '#/api/call.ts';
import type { Problem, Reply } from '#/api/types.ts';
import { useSettled } from '#/lib/use-settled.ts';
import type { Choice } from './choice.ts';

export type Checked =
  | { state: 'checking' }
  | { state: 'good'; check: Reply<'GET /api/v1/protection-check'> }
  | { state: 'bad'; problem: Problem }
  | { state: 'done' };

export type ProtectWork = {
  at: (name: string) => Checked | undefined;
  ready: number;
  isBusy: boolean;
  whyNot: string | undefined;
  /** True when all were protected. */
  run: () => Promise<boolean>;
};

export function useProtect(names: readonly string[], choice: Choice | undefined): ProtectWork {
  const queries = useQueryClient();
  const settled = useSettled(choice);
  const [ended, setEnded] = useState<ReadonlyMap<string, Checked>>(new Map());
  const [isBusy, setBusy] = useState(false);
  const results = useQueries({
    queries: names.map((vm) => ({
      queryKey: ['GET /api/v1/protection-check', vm, settled?.site, settled?.rpoMs, settled?.disks],
      queryFn: ({ signal }: { signal: AbortSignal }) =>
        call('GET /api/v1/protection-check', {
          query: { vm, site: settled!.site, rpo_ms: settled!.rpoMs, disks: settled!.disks?.join(',') },
          signal,
        }),
      enabled: settled !== undefined,
      gcTime: 0,
      meta: { topics: ['site'] },
    })),
  });
  const checked = new Map(names.map((name, index) => [name, ended.get(name) ?? checkedOf(results[index])]));
  const good = names.filter((name) => checked.get(name)?.state === 'good');
  const run = async (): Promise<boolean> => {
    if (choice === undefined) return false;
    setBusy(true);
    const all = new Map(ended);
    for (const vm of good) {
      all.set(vm, await protectOne(vm, choice));
      setEnded(new Map(all));
    }
    setBusy(false);
    await queries.invalidateQueries({ predicate: ({ meta }) => meta !== undefined });
    return names.every((name) => all.get(name)?.state === 'done');
  };
  const isSettled = settled === choice;
  return {
    at: (name) => checked.get(name),
    ready: good.length,
    isBusy,
    whyNot: whyNot({ names, choice, good, isSettled }),
    run,
  };
}

async function protectOne(vm: string, { disks, retention, rpoMs, site }: Choice): Promise<Checked> {
  try {
    const body = { vm, site, rpo_ms: rpoMs, retention, ...(disks === undefined ? {} : { disks }) };
    await call('POST /api/v1/protections', { body });
    return { state: 'done' };
  } catch (error) {
    if (error instanceof Refused) return { state: 'bad', problem: error.problem };
    throw error;
  }
}

function checkedOf(result: { data: unknown; error: Error | null } | undefined): Checked | undefined {
  if (result?.error instanceof Refused) return { state: 'bad', problem: result.error.problem };
  if (result?.data === undefined) return { state: 'checking' };
  return { state: 'good', check: result.data as Reply<'GET /api/v1/protection-check'> };
}

function whyNot(all: {
  names: readonly string[];
  choice: Choice | undefined;
  good: readonly string[];
  isSettled: boolean;
}): string | undefined {
  if (all.names.length === 0) return 'Choose at least one VM.';
  if (all.choice === undefined) return 'Something above is missing or wrong.';
  if (!all.isSettled) return 'It is being checked.';
  return all.good.length === 0 ? 'Something speaks against it: see beside.' : undefined;
}
