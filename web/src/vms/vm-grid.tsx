/** The table itself. Only rows on the screen are in the document, so its length costs nothing. */
import { useVirtualizer } from '@tanstack/react-virtual';
import { useEffect, useRef } from 'react';
import type { VmTableQuery } from '#/api/types.ts';
import type { VmRows } from './use-vm-rows.ts';
import { VmLine } from './vm-line.tsx';

const ROW_HEIGHT = 44;
const OVERSCAN = 8;

type Sort = NonNullable<VmTableQuery['sort']>;
const COLUMNS: readonly (readonly [title: string, sort: Sort | undefined, className: string])[] = [
  ['Name', 'name', 'col-name'],
  ['Host', 'host', 'col-host'],
  ['State', 'state', 'col-state'],
  ['Protection', 'standing', 'col-standing'],
  ['Age of RPO', 'pressure', 'col-age'],
  ['History', undefined, 'col-plot'],
  ['Change', 'change', 'col-number'],
  ['Size', 'bytes', 'col-number'],
];

export function VmGrid(props: {
  query: VmTableQuery;
  rows: VmRows;
  selected: ReadonlyMap<string, string>;
  onChange: (next: { sort: string; order: string }) => void;
  onSelect: (selected: ReadonlyMap<string, string>) => void;
  onRange: (range: readonly [number, number]) => void;
}) {
  const { onChange, onRange, onSelect, query, rows, selected } = props;
  const scroller = useRef<HTMLDivElement>(null);
  const virtual = useVirtualizer({
    count: rows.total ?? 0,
    getScrollElement: () => scroller.current,
    estimateSize: () => ROW_HEIGHT,
    overscan: OVERSCAN,
  });
  const items = virtual.getVirtualItems();
  const [first, last] = [items[0]?.index ?? 0, items.at(-1)?.index ?? 0];
  useEffect(() => onRange([first, last]), [first, last, onRange]);
  const below = virtual.getTotalSize() - (items.at(-1)?.end ?? 0);
  return (
    <div className="vm-grid" ref={scroller}>
      <table className="pf-v6-c-table pf-m-compact pf-m-sticky-header" aria-rowcount={rows.total ?? -1}>
        <colgroup>
          <col className="col-check" />
          {COLUMNS.map(([title, , className]) => (
            <col key={title} className={className} />
          ))}
        </colgroup>
        <thead className="pf-v6-c-table__thead">
          <tr className="pf-v6-c-table__tr">
            <th className="pf-v6-c-table__th col-check" scope="col" aria-label="Select" />
            {COLUMNS.map(([title, sort, className]) => (
              <HeadCell
                key={title}
                title={title}
                sort={sort}
                className={className}
                query={query}
                onChange={onChange}
              />
            ))}
          </tr>
        </thead>
        <tbody className="pf-v6-c-table__tbody">
          <tr style={{ height: items[0]?.start ?? 0 }} aria-hidden="true" />
          {items.map(({ index }) => {
            const row = rows.at(index);
            return (
              <VmLine
                key={row?.vm_uuid === undefined ? index : `${row.vm_uuid} ${row.host_id}`}
                row={row}
                index={index}
                isSelected={row !== undefined && selected.has(row.vm_uuid)}
                onSelect={(isSelected) => {
                  if (row === undefined) return;
                  const next = new Map(selected);
                  if (isSelected) next.set(row.vm_uuid, row.vm_name);
                  else next.delete(row.vm_uuid);
                  onSelect(next);
                }}
              />
            );
          })}
          <tr style={{ height: Math.max(0, below) }} aria-hidden="true" />
        </tbody>
      </table>
      {rows.total === 0 && <p className="subtle vm-none">No VM is like that.</p>}
    </div>
  );
}

function HeadCell(props: {
  title: string;
  sort: Sort | undefined;
  className: string;
  query: VmTableQuery;
  onChange: (next: { sort: string; order: string }) => void;
}) {
  const { className, onChange, query, sort, title } = props;
  if (sort === undefined)
    return (
      <th className={`pf-v6-c-table__th ${className}`} scope="col">
        {title}
      </th>
    );
  const isSorted = query.sort === sort;
  const isDown = isSorted && query.order === 'descending';
  // The worst ages first, at the first press.
  const firstOrder =
    sort === 'pressure' || sort === 'change' || sort === 'bytes' ? 'descending' : 'ascending';
  const order = isSorted ? (isDown ? 'ascending' : 'descending') : firstOrder;
  return (
    <th
      className={`pf-v6-c-table__th pf-v6-c-table__sort ${className}${isSorted ? ' pf-m-selected' : ''}`}
      scope="col"
      aria-sort={isSorted ? (isDown ? 'descending' : 'ascending') : 'none'}
    >
      <button type="button" className="sort-button" onClick={() => onChange({ sort, order })}>
        {title}
        <span aria-hidden="true">{isSorted ? (isDown ? ' ▼' : ' ▲') : ''}</span>
      </button>
    </th>
  );
}
