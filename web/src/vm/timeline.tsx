/**
 * The recovery points of a VM on a line of time, from days to seconds: the wheel zooms, dragging moves, a press
 * chooses. The height of a point is what changed until it; red is when the newest point was older than the RPO. With
 * the keyboard: left and right choose, plus and minus zoom.
 */
import { useEffect, useRef, useState, type KeyboardEvent, type PointerEvent } from 'react';
import type { Bookmark, Point } from '#/api/types.ts';
import { bytes, exact, moment } from '#/lib/format.ts';
import {
  columnsOf,
  lateSpans,
  pan,
  place,
  pointAt,
  ticksOf,
  zoom,
  type Column,
  type Span,
} from './timeline-scale.ts';

const HEIGHT = 132;
const BASE = 96;
const TOP = 14;
const APART = 4;
const LABEL_APART = 110;
const ZOOM_STEP = 1.25;
/** Less is a press, not a drag. */
const DRAG_PIXELS = 4;

export function Timeline(props: {
  points: readonly Point[];
  rpoMs: number;
  keepAllMs: number;
  nowMs: number;
  seen: Span;
  bounds: Span;
  bookmarks: readonly Pick<Bookmark, 'sequence' | 'name' | 'moment_ms'>[];
  chosen: Point | undefined;
  onSee: (seen: Span) => void;
  onChoose: (point: Point) => void;
}) {
  const { bookmarks, bounds, chosen, keepAllMs, nowMs, onChoose, onSee, points, rpoMs, seen } = props;
  const { ref, width } = useWidth();
  const drag = useRef<{ x: number; seen: Span; isMoved: boolean } | undefined>(undefined);
  const msAt = (x: number) => seen.fromMs + (x / width) * (seen.toMs - seen.fromMs);
  const xOf = (event: { clientX: number }) =>
    event.clientX - (ref.current?.getBoundingClientRect().left ?? 0);
  useWheel(ref, (event) => {
    onSee(zoom(seen, event.deltaY > 0 ? ZOOM_STEP : 1 / ZOOM_STEP, msAt(xOf(event)), bounds));
  });
  const move = (event: PointerEvent) => {
    const from = drag.current;
    if (from === undefined) return;
    if (Math.abs(xOf(event) - from.x) > DRAG_PIXELS) from.isMoved = true;
    const byMs = ((from.x - xOf(event)) / width) * (from.seen.toMs - from.seen.fromMs);
    if (from.isMoved) onSee(pan(from.seen, byMs, bounds));
  };
  const release = (event: PointerEvent) => {
    const from = drag.current;
    drag.current = undefined;
    if (from === undefined || from.isMoved) return;
    const near = nearest(points, msAt(xOf(event)));
    if (near !== undefined) onChoose(near);
  };
  const press = (event: KeyboardEvent) => {
    const next = keyed(event.key, { points, chosen });
    if (next !== undefined) onChoose(next);
    const middleMs = chosen?.moment_ms ?? (seen.fromMs + seen.toMs) / 2;
    if (event.key === '+') onSee(zoom(seen, 1 / ZOOM_STEP, middleMs, bounds));
    if (event.key === '-') onSee(zoom(seen, ZOOM_STEP, middleMs, bounds));
  };
  const columns = columnsOf(points, seen, width, APART);
  const most = Math.max(1, ...columns.map((column) => column.deltaBytes));
  return (
    <div
      ref={ref}
      className="timeline"
      role="slider"
      tabIndex={0}
      aria-label="Recovery points; left and right choose, plus and minus zoom"
      aria-valuemin={points[0]?.sequence ?? 0}
      aria-valuemax={points.at(-1)?.sequence ?? 0}
      aria-valuenow={chosen?.sequence ?? 0}
      aria-valuetext={
        chosen === undefined ? 'none' : `Point ${chosen.sequence} of ${exact(chosen.moment_ms)}`
      }
      onKeyDown={press}
      onPointerDown={(event) => {
        event.currentTarget.setPointerCapture(event.pointerId);
        drag.current = { x: xOf(event), seen, isMoved: false };
      }}
      onPointerMove={move}
      onPointerUp={release}
    >
      <svg width={width} height={HEIGHT} aria-hidden="true">
        {lateSpans(points, rpoMs, keepAllMs, nowMs).map((late) => {
          const x = Math.max(0, place(late.fromMs, seen, width));
          const end = Math.min(width, place(late.toMs, seen, width));
          return end <= x ? null : (
            <rect
              key={late.fromMs}
              className="timeline-late"
              x={x}
              y={0}
              width={Math.max(2, end - x)}
              height={BASE}
            />
          );
        })}
        {ticksOf(seen, width, LABEL_APART).map((tick) => (
          <g key={tick.atMs} transform={`translate(${place(tick.atMs, seen, width)} 0)`}>
            <line className="timeline-grid" y1={0} y2={BASE + 6} />
            <text className="timeline-label" y={HEIGHT - 14} textAnchor="middle">
              {tick.text}
            </text>
          </g>
        ))}
        <line className="timeline-base" x1={0} x2={width} y1={BASE} y2={BASE} />
        {columns.map((column) => (
          <ColumnBar key={column.newest.sequence} column={column} most={most} nowMs={nowMs} />
        ))}
        {bookmarks.map(({ moment_ms: atMs, name, sequence }) => (
          <Flag key={sequence} x={place(atMs, seen, width)} width={width} name={name} />
        ))}
        {chosen !== undefined && <Chosen x={place(chosen.moment_ms, seen, width)} width={width} />}
      </svg>
    </div>
  );
}

function ColumnBar({ column, most, nowMs }: { column: Column; most: number; nowMs: number }) {
  const tall = 12 + (BASE - TOP - 12) * Math.sqrt(column.deltaBytes / most);
  const until = moment(column.newest.moment_ms, nowMs);
  return (
    <rect className="timeline-point" x={column.x - 1} y={BASE - tall} width={3} height={tall}>
      <title>
        {column.count === 1
          ? `${until}, ${bytes(column.deltaBytes)} changed`
          : `${column.count} points until ${until}`}
      </title>
    </rect>
  );
}

function Flag({ name, width, x }: { x: number; width: number; name: string }) {
  if (x < 0 || x > width) return null;
  return (
    <g className="timeline-flag" transform={`translate(${x} 0)`}>
      <line y1={0} y2={BASE} />
      <path d="M0 0h11l-3 4 3 4h-11z" />
      <title>{name}</title>
    </g>
  );
}

function Chosen({ x, width }: { x: number; width: number }) {
  if (x < 0 || x > width) return null;
  return (
    <g className="timeline-chosen" transform={`translate(${x} 0)`}>
      <line y1={0} y2={BASE} />
      <path d="M-7 0h14l-7 9z" />
    </g>
  );
}

function nearest(points: readonly Point[], ms: number): Point | undefined {
  const before = pointAt(points, ms);
  if (before === undefined) return undefined;
  const after = points[points.indexOf(before) + 1];
  return after !== undefined && after.moment_ms - ms < ms - before.moment_ms ? after : before;
}

function keyed(key: string, { chosen, points }: { points: readonly Point[]; chosen: Point | undefined }) {
  const at =
    chosen === undefined ? points.length : points.findIndex((point) => point.sequence === chosen.sequence);
  if (key === 'ArrowLeft') return points[Math.max(0, at - 1)];
  if (key === 'ArrowRight') return points[Math.min(points.length - 1, at + 1)];
  if (key === 'Home') return points[0];
  return key === 'End' ? points.at(-1) : undefined;
}

function useWidth() {
  const ref = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(900);
  useEffect(() => {
    const element = ref.current;
    if (element === null) return undefined;
    const observer = new ResizeObserver(() => setWidth(Math.max(200, element.clientWidth)));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  return { ref, width };
}

/** React's own wheel listener may not keep the page from scrolling. */
function useWheel(ref: React.RefObject<HTMLDivElement | null>, onWheel: (event: WheelEvent) => void) {
  const latest = useRef(onWheel);
  useEffect(() => {
    latest.current = onWheel;
  });
  useEffect(() => {
    const element = ref.current;
    const listen = (event: WheelEvent) => {
      event.preventDefault();
      latest.current(event);
    };
    element?.addEventListener('wheel', listen, { passive: false });
    return () => element?.removeEventListener('wheel', listen);
  }, [ref]);
}
