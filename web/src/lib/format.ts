/** Times, spans and bytes as people read them. */

const SECOND_MS = 1000;
const MINUTE_MS = 60 * SECOND_MS;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;
const KIB = 1024;
const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

/** In at most two units: 4.2 s, 3 min 5 s, 2 h 10 min, 5 d 3 h. */
export function span(ms: number): string {
  if (ms < 0) return `-${span(-ms)}`;
  if (ms < 10 * SECOND_MS) return `${(ms / SECOND_MS).toFixed(1)} s`;
  if (ms < MINUTE_MS) return `${Math.floor(ms / SECOND_MS)} s`;
  if (ms < HOUR_MS) return two(ms, [MINUTE_MS, 'min'], [SECOND_MS, 's']);
  if (ms < DAY_MS) return two(ms, [HOUR_MS, 'h'], [MINUTE_MS, 'min']);
  return two(ms, [DAY_MS, 'd'], [HOUR_MS, 'h']);
}

/** A span that somebody set: 5 s, 15 min, without a decimal that nobody typed. */
export function setSpan(ms: number): string {
  return ms < 10 * SECOND_MS && ms % SECOND_MS === 0 ? `${ms / SECOND_MS} s` : span(ms);
}

function two(ms: number, [bigMs, big]: [number, string], [smallMs, small]: [number, string]): string {
  const many = Math.floor(ms / bigMs);
  const few = Math.floor((ms % bigMs) / smallMs);
  return few === 0 ? `${many} ${big}` : `${many} ${big} ${few} ${small}`;
}

export function bytes(count: number): string {
  let value = count;
  let unit = 0;
  while (value >= KIB && unit < UNITS.length - 1) {
    value /= KIB;
    unit++;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(value >= 10 ? 1 : 2)} ${UNITS[unit]}`;
}

export function count(value: number): string {
  return value.toLocaleString('en');
}

/** "1 VM", "2 VMs". */
export function plural(value: number, one: string, many = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : many}`;
}

const time = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const day = new Intl.DateTimeFormat('en-GB', { day: '2-digit', month: 'short' });

/** The time of day, with the day when it is not today. */
export function moment(ms: number, nowMs: number): string {
  const date = new Date(ms);
  const isToday = date.toDateString() === new Date(nowMs).toDateString();
  return isToday ? time.format(date) : `${day.format(date)} ${time.format(date)}`;
}

/** For tooltips and machines. */
export function exact(ms: number): string {
  return new Date(ms).toISOString();
}

/** What was typed as a span: 5s, 15 min, 2h, 1d. Undefined when it is none. */
export function parseSpan(text: string): number | undefined {
  const match = /^\s*(\d+(?:\.\d+)?)\s*(ms|s|sec|seconds?|m|min|minutes?|h|hours?|d|days?)\s*$/i.exec(text);
  if (match === null) return undefined;
  const word = match[2]!.toLowerCase();
  const unit = word === 'ms' ? 1 : { s: SECOND_MS, m: MINUTE_MS, h: HOUR_MS, d: DAY_MS }[word[0]!]!;
  const ms = Math.round(Number(match[1]) * unit);
  return Number.isSafeInteger(ms) ? ms : undefined;
}
