/** Durations, sizes and times as people write and read them. */
import { Failure } from '#/lib/failure.ts';

const UNITS: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** `5s`, `15m`, `1.5h`, `500ms` as milliseconds. Throws usage_invalid: a number without a unit is refused. */
export function parseDuration(text: string): number {
  const match = /^(\d{1,9}(?:\.\d{1,3})?)\s*(ms|s|m|h|d)$/.exec(text.trim());
  if (match === null) {
    throw new Failure('usage_invalid', `"${text}" is no duration`, {
      hint: 'Write a number and a unit: 500ms, 5s, 15m, 1h, 1d.',
    });
  }
  return Math.round(Number(match[1]) * UNITS[match[2]!]!);
}

/** Two significant units at most: `2.3 s`, `14 min`, `3 h 20 min`. */
export function duration(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(ms % 1000 === 0 ? 0 : 1)} s`;
  const minutes = Math.floor(ms / 60_000);
  if (minutes < 60) {
    const seconds = Math.floor((ms % 60_000) / 1000);
    return seconds === 0 || minutes >= 10 ? `${minutes} min` : `${minutes} min ${seconds} s`;
  }
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return minutes % 60 === 0 ? `${hours} h` : `${hours} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} d`;
}

export function bytes(count: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let value = count;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

/** Local wall time to the second. */
export function time(ms: number): string {
  return new Date(ms).toLocaleString('sv-SE');
}

/** A positive number as somebody wrote it for an option. Throws usage_invalid. */
export function countIn(option: string, text: string): number {
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text);
  throw new Failure('usage_invalid', `${option} "${text}" is no count`, {
    hint: 'Write a number of 1 or more.',
  });
}
