/** How many VMs stand how: a ring, and the same in numbers that lead to the VMs. */
import { Link } from 'react-router';
import { addresses } from '#/addresses.ts';
import type { Overview, Standing } from '#/api/types.ts';
import { count } from '#/lib/format.ts';
import { STANDINGS } from '#/shared/standing-label.tsx';

const ORDER: readonly Standing[] = ['violated', 'unknown', 'none', 'met', 'unprotected', 'refused', 'kept'];
const RADIUS = 52;
const ROUND = 2 * Math.PI * RADIUS;

export function StandingSummary({ counts }: { counts: Overview['counts'] }) {
  const promised = counts.violated + counts.unknown + counts.none + counts.met;
  const parts = ORDER.map((standing) => (counts.all === 0 ? 0 : counts[standing] / counts.all));
  return (
    <div className="standing-summary">
      <svg
        viewBox="0 0 140 140"
        className="standing-ring"
        role="img"
        aria-label={`${counts.met} of ${promised} protected VMs meet their RPO`}
      >
        <circle className="ring-bed" cx={70} cy={70} r={RADIUS} />
        {ORDER.map((standing, index) => {
          const part = parts[index]!;
          const offset = parts.slice(0, index).reduce((sum, one) => sum + one, 0);
          return part === 0 ? null : (
            <circle
              key={standing}
              className={`ring ring-${standing}`}
              cx={70}
              cy={70}
              r={RADIUS}
              strokeDasharray={`${Math.max(1, part * ROUND - 2)} ${ROUND}`}
              strokeDashoffset={-offset * ROUND}
              transform="rotate(-90 70 70)"
            />
          );
        })}
        <text className="ring-number" x={70} y={72} textAnchor="middle">
          {promised === 0 ? '–' : `${count(counts.met)}/${count(promised)}`}
        </text>
        <text className="ring-words" x={70} y={90} textAnchor="middle">
          meet their RPO
        </text>
      </svg>
      <ul className="standing-counts">
        {ORDER.filter(
          (standing) => counts[standing] > 0 || standing === 'violated' || standing === 'met',
        ).map((standing) => (
          <li key={standing}>
            <span className={`dot dot-${standing}`} aria-hidden="true" />
            <Link to={addresses.vmsStanding(standing)}>{STANDINGS[standing].word}</Link>
            <span className="number">{count(counts[standing])}</span>
          </li>
        ))}
      </ul>
    </div>
  );
}
