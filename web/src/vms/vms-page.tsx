/** Every VM of this site and every replica here. The manager searches, sorts and pages; the address says which. */
import { PageSection } from '@patternfly/react-core';
import { useState } from 'react';
import { useSearchParams } from 'react-router';
import type { VmTableQuery } from '#/api/types.ts';
import { PageHead } from '#/shell/page-head.tsx';
import { ProblemAlert } from '#/shared/problem-alert.tsx';
import { useVmRows } from './use-vm-rows.ts';
import { VmGrid } from './vm-grid.tsx';
import { VmsToolbar } from './vms-toolbar.tsx';

export function VmsPage() {
  const [search, setSearch] = useSearchParams();
  const query: VmTableQuery = {
    search: search.get('search') ?? undefined,
    standing: (search.get('standing') ?? undefined) as VmTableQuery['standing'],
    sort: (search.get('sort') ?? 'name') as VmTableQuery['sort'],
    order: (search.get('order') ?? 'ascending') as VmTableQuery['order'],
  };
  const change = (next: Partial<Record<'search' | 'standing' | 'sort' | 'order', string>>) => {
    setSearch(
      (before) => {
        for (const [key, value] of Object.entries(next)) {
          if (value === '') before.delete(key);
          else before.set(key, value);
        }
        return before;
      },
      { replace: true },
    );
  };
  const [range, setRange] = useState<readonly [number, number]>([0, 40]);
  const rows = useVmRows(query, range);
  const [selected, setSelected] = useState<ReadonlyMap<string, string>>(new Map());
  return (
    <>
      <PageHead title="Virtual machines" />
      <PageSection hasBodyWrapper={false} isFilled className="vms-section">
        <VmsToolbar query={query} rows={rows} selected={selected} onChange={change} onSelect={setSelected} />
        <ProblemAlert error={rows.error} />
        <VmGrid
          key={JSON.stringify(query)}
          query={query}
          rows={rows}
          selected={selected}
          onChange={change}
          onSelect={setSelected}
          onRange={setRange}
        />
      </PageSection>
    </>
  );
}
