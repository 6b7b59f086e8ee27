/** What one chooses when one protects VMs. */

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
