/** One VM in the table. */
import { Link } from 'react-router';
import { addresses } from '#/addresses.ts';
import type { VmRow } from '#/api/types.ts';
import { bytes } from '#/lib/format.ts';
import { worstOf } from '#/overview/worst-list.tsx';
import { AgeBar } from '#/shared/age-bar.tsx';
import { AgePlot } from '#/shared/age-plot.tsx';
import { StandingLabel } from '#/shared/standing-label.tsx';

const TD = 'pf-v6-c-table__td';
const CELLS = 9;

export function VmLine(props: {
  row: VmRow | undefined;
  index: number;
  isSelected: boolean;
  onSelect: (isSelected: boolean) => void;
}) {
  const { index, isSelected, onSelect, row } = props;
  if (row === undefined) {
    return (
      <tr className="pf-v6-c-table__tr vm-line" aria-rowindex={index + 2}>
        <td className={`${TD} subtle`} colSpan={CELLS}>
          …
        </td>
      </tr>
    );
  }
  const status = worstOf(row);
  const refusal = whyNot(row);
  return (
    <tr className="pf-v6-c-table__tr vm-line" aria-rowindex={index + 2}>
      <td className={`${TD} col-check`}>
        <input
          type="checkbox"
          aria-label={refusal ?? `Select ${row.vm_name}`}
          title={refusal}
          disabled={refusal !== undefined}
          checked={isSelected}
          onChange={(event) => onSelect(event.target.checked)}
        />
      </td>
      <td className={`${TD} col-name`}>
        <Link to={addresses.vm(row.vm_uuid)}>{row.vm_name}</Link>
      </td>
      <td className={`${TD} col-host`}>
        {row.host_name ?? <span className="subtle">at {status?.protected_site}</span>}
      </td>
      <td className={`${TD} col-state`}>
        {row.state === 'elsewhere' ? <span className="subtle">–</span> : row.state}
      </td>
      <td className={`${TD} col-standing`} title={row.reasons.join('\n')}>
        <StandingLabel standing={row.standing} />
        {status !== undefined && row.standing !== 'kept' && (
          <span className="subtle small"> to {status.recovery_site}</span>
        )}
        {status === undefined && row.reasons[0] !== undefined && (
          <span className="subtle small"> {row.reasons[0]}</span>
        )}
      </td>
      <td className={`${TD} col-age`}>{status === undefined ? null : <AgeBar status={status} />}</td>
      <td className={`${TD} col-plot`}>
        {status === undefined ? null : <AgePlot peaksMs={row.age_peaks_ms} rpoMs={status.rpo_ms} />}
      </td>
      <td className={`${TD} col-number number`}>
        {row.change_bytes_per_s === null ? '' : `${bytes(row.change_bytes_per_s)}/s`}
      </td>
      <td className={`${TD} col-number number`}>{row.bytes === null ? '' : bytes(row.bytes)}</td>
    </tr>
  );
}

/** Why it cannot be selected for protection; undefined when it can. */
function whyNot(row: VmRow): string | undefined {
  if (row.host_id === null) return `${row.vm_name} is on no host of this site: protect it where it runs`;
  if (row.standing === 'refused') return `${row.vm_name} cannot be protected: ${row.reasons.join(' ')}`;
  if (row.standing !== 'unprotected' && row.standing !== 'kept') return `${row.vm_name} is protected already`;
  return undefined;
}
