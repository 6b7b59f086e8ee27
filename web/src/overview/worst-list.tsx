/** The VMs that are nearest to a violation, or longest beyond it. */
import { Link } from 'react-router';
import { addresses } from '#/addresses.ts';
import type { VmRow, VmStatus } from '#/api/types.ts';
import { AgeBar } from '#/shared/age-bar.tsx';
import { AgePlot } from '#/shared/age-plot.tsx';

export function WorstList({ rows }: { rows: readonly VmRow[] }) {
  if (rows.length === 0) return <p className="subtle">No VM has a recovery point yet.</p>;
  return (
    <ul className="worst-list">
      {rows.map((row) => {
        const status = worstOf(row)!;
        return (
          <li key={row.vm_uuid}>
            <Link to={addresses.vm(row.vm_uuid)}>{row.vm_name}</Link>
            <span className="subtle small">to {status.recovery_site}</span>
            <AgePlot peaksMs={row.age_peaks_ms} rpoMs={status.rpo_ms} />
            <AgeBar status={status} />
          </li>
        );
      })}
    </ul>
  );
}

/** Of its protections the one that matters most: the oldest against its RPO, then any. */
export function worstOf(row: VmRow): VmStatus | undefined {
  const pressure = (status: VmStatus) => (status.rpo === 'none' ? -1 : (status.age_ms ?? -1) / status.rpo_ms);
  return row.statuses.toSorted((a, b) => pressure(b) - pressure(a))[0];
}
