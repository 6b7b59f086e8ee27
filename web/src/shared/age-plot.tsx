/** How old the newest point became each time before the next one came, as a small plot against the RPO. */
import { span } from '#/lib/format.ts';

const WIDTH = 96;
const HEIGHT = 22;
const SLOTS = 24;

export function AgePlot({ peaksMs, rpoMs }: { peaksMs: readonly number[]; rpoMs: number }) {
  if (peaksMs.length === 0) return null;
  const top = Math.max(rpoMs * 1.2, ...peaksMs);
  const y = (ms: number) => HEIGHT - (ms / top) * HEIGHT;
  const step = WIDTH / SLOTS;
  const worst = Math.max(...peaksMs);
  return (
    <svg
      className="age-plot"
      width={WIDTH}
      height={HEIGHT}
      role="img"
      aria-label={`Oldest of the last ${peaksMs.length}: ${span(worst)}`}
    >
      <title>{`The last ${peaksMs.length} points came after at most ${span(worst)}`}</title>
      {peaksMs.map((ms, index) => (
        <rect
          // The place in the plot is what a bar is known by.
          key={index}
          className={ms > rpoMs ? 'age-plot-late' : 'age-plot-good'}
          x={(SLOTS - peaksMs.length + index) * step}
          y={y(ms)}
          width={step - 1}
          height={Math.max(1, HEIGHT - y(ms))}
        />
      ))}
      <line className="age-plot-rpo" x1={0} x2={WIDTH} y1={y(rpoMs)} y2={y(rpoMs)} />
    </svg>
  );
}
