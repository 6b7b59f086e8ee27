/** The rows of the VM table that are on the screen: pages of them, asked for as somebody scrolls to them. */
import { useQueries } from '@tanstack/react-query';
import { useState } from 'react';
import { ask } from '#/api/use-call.ts';
import type { VmRow, VmTable, VmTableQuery } from '#/api/types.ts';

/** More than a tall screen shows, so that at most two pages are on it. */
export const PAGE_ROWS = 60;

export type VmRows = {
  total: number | undefined;
  counts: VmTable['counts'] | undefined;
  error: Error | null;
  /** Undefined while its page is on its way. */
  at(index: number): VmRow | undefined;
};

export function useVmRows(query: VmTableQuery, range: readonly [number, number]): VmRows {
  const firstPage = Math.floor(range[0] / PAGE_ROWS);
  const pages = Array.from(
    { length: Math.floor(range[1] / PAGE_ROWS) - firstPage + 1 },
    (_, index) => firstPage + index,
  );
  const name = 'GET /api/v1/vm-table' as const;
  const results = useQueries({
    queries: pages.map((page) => {
      const paged = { ...query, limit: PAGE_ROWS, offset: page * PAGE_ROWS };
      return {
        queryKey: [name, null, paged],
        queryFn: ({ signal }: { signal: AbortSignal }) => ask(name, { query: paged, signal }),
        meta: { topics: ['reports', 'site', 'jobs'] },
      };
    }),
  });
  const known = results.find((result) => result.data !== undefined)?.data;
  // While another page is on its way the table stays as long as it was, or the scrolling would jump back.
  const [last, setLast] = useState<{ text: string; table: VmTable }>();
  const text = JSON.stringify(query);
  if (known !== undefined && known !== last?.table) setLast({ text, table: known });
  const table = known ?? (last?.text === text ? last.table : undefined);
  return {
    total: table?.total,
    counts: table?.counts,
    error: results.find((result) => result.error !== null)?.error ?? null,
    at: (index) => results[Math.floor(index / PAGE_ROWS) - firstPage]?.data?.items[index % PAGE_ROWS],
  };
}
