/** The arithmetic of the timeline: what is seen, where a moment is on it, and where its labels are. */

export type Span = { fromMs: number; toMs: number };
export type Dated = { sequence: number; moment_ms: number; acknowledged_ms: number; delta_bytes: number };
/** Points that are too near to each other to be told apart are one column. */
export type Column = { x: number; newest: Dated; count: number; deltaBytes: number };

const MIN_SPAN_MS = 5000;
const SECOND_MS = 1000;
const MINUTE_MS = 60 * SECOND_MS;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;
const STEPS_MS = [
  ...[1, 2, 5, 10, 30].map((count) => count * SECOND_MS),
  ...[1, 2, 5, 10, 30].map((count) => count * MINUTE_MS),
  ...[1, 2, 6, 12].map((count) => count * HOUR_MS),
  ...[1, 2, 7, 28].map((count) => count * DAY_MS),
];

/** `factor` below 1 shows less and finer. What is under `centerMs` stays where it is, unless the bounds are reached. */
export function zoom(seen: Span, factor: number, centerMs: number, bounds: Span): Span {
  const widthMs = Math.max(MIN_SPAN_MS, (seen.toMs - seen.fromMs) * factor);
  const part = (centerMs - seen.fromMs) / (seen.toMs - seen.fromMs);
  return within({ fromMs: centerMs - part * widthMs, toMs: centerMs + (1 - part) * widthMs }, bounds);
}

export function pan(seen: Span, byMs: number, bounds: Span): Span {
  return within({ fromMs: seen.fromMs + byMs, toMs: seen.toMs + byMs }, bounds);
}

/** As wide as it is, if there is room for that, inside the bounds. */
export function within(seen: Span, bounds: Span): Span {
  const widthMs = seen.toMs - seen.fromMs;
  if (widthMs >= bounds.toMs - bounds.fromMs) return bounds;
  const fromMs = Math.min(Math.max(seen.fromMs, bounds.fromMs), bounds.toMs - widthMs);
  return { fromMs, toMs: fromMs + widthMs };
}

export function place(ms: number, seen: Span, width: number): number {
  return ((ms - seen.fromMs) / (seen.toMs - seen.fromMs)) * width;
}

/** Points in the order of their moments; columns are at least `apart` wide. */
export function columnsOf(points: readonly Dated[], seen: Span, width: number, apart: number): Column[] {
  const columns: Column[] = [];
  for (const point of points) {
    if (point.moment_ms < seen.fromMs || point.moment_ms > seen.toMs) continue;
    const x = place(point.moment_ms, seen, width);
    const last = columns.at(-1);
    if (last !== undefined && x - last.x < apart) {
      columns[columns.length - 1] = {
        x: last.x,
        newest: point,
        count: last.count + 1,
        deltaBytes: last.deltaBytes + point.delta_bytes,
      };
    } else columns.push({ x, newest: point, count: 1, deltaBytes: point.delta_bytes });
  }
  return columns;
}

/** Times in which the newest point was older than the RPO. Gaps that retention made later are not among them. */
export function lateSpans(points: readonly Dated[], rpoMs: number, keepAllMs: number, nowMs: number): Span[] {
  const isWhole = (ms: number): boolean => nowMs - ms <= keepAllMs;
  const spans: Span[] = [];
  for (const [index, point] of points.entries()) {
    if (!isWhole(point.moment_ms)) continue;
    const endMs = points[index + 1]?.acknowledged_ms ?? nowMs;
    if (endMs - point.moment_ms > rpoMs) spans.push({ fromMs: point.moment_ms + rpoMs, toMs: endMs });
  }
  return spans;
}

/** Round moments, far enough apart for their labels. */
export function ticksOf(seen: Span, width: number, apart: number): { atMs: number; text: string }[] {
  const wantedMs = ((seen.toMs - seen.fromMs) * apart) / width;
  const stepMs = STEPS_MS.find((step) => step >= wantedMs) ?? STEPS_MS.at(-1)!;
  // Days begin at midnight where the browser is.
  const zoneMs = new Date(seen.fromMs).getTimezoneOffset() * MINUTE_MS;
  const ticks: { atMs: number; text: string }[] = [];
  let atMs = Math.ceil((seen.fromMs - zoneMs) / stepMs) * stepMs + zoneMs;
  for (; atMs <= seen.toMs; atMs += stepMs) ticks.push({ atMs, text: tickText(atMs, stepMs) });
  return ticks;
}

function tickText(ms: number, stepMs: number): string {
  const date = new Date(ms);
  const two = (value: number): string => String(value).padStart(2, '0');
  const isMidnight = date.getHours() === 0 && date.getMinutes() === 0 && date.getSeconds() === 0;
  if (stepMs >= DAY_MS || isMidnight) {
    return date.toLocaleDateString('en-GB', { day: 'numeric', month: 'short' });
  }
  const time = `${two(date.getHours())}:${two(date.getMinutes())}`;
  return stepMs < MINUTE_MS ? `${time}:${two(date.getSeconds())}` : time;
}

/** The newest point that is not younger than the moment; the oldest of all for one before it. */
export function pointAt<Point extends Dated>(points: readonly Point[], ms: number): Point | undefined {
  return points.findLast((point) => point.moment_ms <= ms) ?? points[0];
}
