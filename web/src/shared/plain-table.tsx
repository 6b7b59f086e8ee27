/** A short table. */
import type { ReactNode } from 'react';

export function PlainTable(props: {
  columns: readonly string[];
  rows: readonly (readonly ReactNode[])[];
  none?: string;
  label?: string;
}) {
  const { columns, label, none = 'None.', rows } = props;
  if (rows.length === 0) return <p className="subtle">{none}</p>;
  return (
    <div className="table-scroll">
      <table className="pf-v6-c-table pf-m-compact" aria-label={label}>
        <thead className="pf-v6-c-table__thead">
          <tr className="pf-v6-c-table__tr">
            {columns.map((title) => (
              <th key={title} className="pf-v6-c-table__th" scope="col">
                {title}
              </th>
            ))}
          </tr>
        </thead>
        <tbody className="pf-v6-c-table__tbody">
          {rows.map((cells, index) => (
            // Rows come from one reply, in its order.
            <tr key={index} className="pf-v6-c-table__tr">
              {cells.map((cell, at) => (
                <td key={columns[at]} className="pf-v6-c-table__td" data-label={columns[at]}>
                  {cell}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
