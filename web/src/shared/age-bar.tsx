/**
 * The age of the newest recovery point against the RPO, counting on between events. The bar is full when the RPO is
 * reached; the words say how far it is beyond.
 */
import type { VmStatus } from '#/api/types.ts';
import { setSpan, span } from '#/lib/format.ts';
import { useNow } from '#/lib/now.ts';

/** From here on the bar warns. */
const NEAR = 0.8;

export function AgeBar({ status }: { status: VmStatus }) {
  const nowMs = useNow();
  const isCounted = status.rpo !== 'none' && status.point !== null;
  if (!isCounted)
    return <span className="age-none">{status.state === 'first_copy' ? firstCopy(status) : '–'}</span>;
  const ageMs = Math.max(0, nowMs - status.point!.moment_ms);
  const part = ageMs / status.rpo_ms;
  const look = status.rpo === 'unknown' ? 'unknown' : part > 1 ? 'violated' : part > NEAR ? 'near' : 'met';
  const words = `${span(ageMs)} of ${setSpan(status.rpo_ms)}`;
  return (
    <span
      className={`age-bar age-bar-${look}`}
      role="meter"
      aria-label={`Age of the newest recovery point: ${words}`}
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={Math.min(100, Math.round(part * 100))}
      aria-valuetext={words}
    >
      <span className="age-track">
        <span className="age-fill" style={{ transform: `scaleX(${Math.min(1, part)})` }} />
      </span>
      <span className="age-words">{words}</span>
    </span>
  );
}

function firstCopy({ progress }: VmStatus): string {
  if (progress === null || progress.total_bytes === 0) return 'First copy';
  return `First copy ${Math.floor((100 * progress.done_bytes) / progress.total_bytes)} %`;
}
