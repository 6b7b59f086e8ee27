/** What one chooses when one protects VMs. */
import { setSpan } from '#/lib/format.ts';

export type Retention = { keep_all_ms: number; tiers: { every_ms: number; for_ms: number }[] };
export type Choice = {
  site: string;
  rpoMs: number;
  retention: Retention;
  /** Undefined is all. */
  disks: string[] | undefined;
};

/** As the manager has them (src/api/protections.ts). */
export const RPO_MIN_MS = 1000;
export const RPO_MAX_MS = 7 * 86_400_000;

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

export const RETENTIONS: readonly { retention: Retention }[] = [
  { retention: { keep_all_ms: HOUR_MS, tiers: [{ every_ms: HOUR_MS, for_ms: DAY_MS }] } },
  {
    retention: {
      keep_all_ms: 4 * HOUR_MS,
      tiers: [
        { every_ms: HOUR_MS, for_ms: 3 * DAY_MS },
        { every_ms: DAY_MS, for_ms: 14 * DAY_MS },
      ],
    },
  },
  {
    retention: {
      keep_all_ms: DAY_MS,
      tiers: [
        { every_ms: HOUR_MS, for_ms: 7 * DAY_MS },
        { every_ms: DAY_MS, for_ms: 30 * DAY_MS },
      ],
    },
  },
  { retention: { keep_all_ms: 0, tiers: [] } },
];

/** What is wrong with an RPO as it was typed. */
export function rpoWrong(text: string, ms: number | undefined): string | undefined {
  if (ms === undefined)
    return text === '' ? 'It is needed.' : 'A number and a unit, such as 5 s, 15 min or 1 h.';
  if (ms < RPO_MIN_MS) return `At least ${setSpan(RPO_MIN_MS)}.`;
  return ms > RPO_MAX_MS ? `At most ${setSpan(RPO_MAX_MS)}.` : undefined;
}
