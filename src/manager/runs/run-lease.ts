/**
 * Who advances a run: one manager at a time, by a lease with a number that rises with every holder. The number, not
 * the clock, keeps a late holder from writing (run-store.ts); the time only says when another one may take over.
 */
import type { Clock } from '#/lib/clock.ts';
import type { Database } from '#/manager/store/database.ts';
import { takeLease, type Run } from '#/manager/store/run-store.ts';

/** Renewed after a third of it. A manager that died is followed by another one after this. */
export const LEASE_MS = 15_000;

export class RunLeases {
  readonly #db: Database;
  readonly #clock: Clock;
  readonly #managerId: string;
  readonly #startedMs: number;

  constructor(parts: { db: Database; clock: Clock }, holder: { managerId: string; startedMs: number }) {
    this.#db = parts.db;
    this.#clock = parts.clock;
    this.#managerId = holder.managerId;
    this.#startedMs = holder.startedMs;
  }

  /** The number to write by; undefined while another manager has the run. */
  async hold(run: Run): Promise<number | undefined> {
    const nowMs = this.#clock.now();
    const { lease } = run;
    const own = `${this.#managerId} ${this.#startedMs}`;
    const untilMs = nowMs + LEASE_MS;
    if (lease.holder === own) {
      if (lease.untilMs - nowMs > (LEASE_MS * 2) / 3) return lease.number;
      return (await takeLease(this.#db, run, { holder: own, untilMs, isNew: false }))
        ? lease.number
        : undefined;
    }
    if (lease.untilMs > nowMs && !this.#isEarlierSelf(lease.holder)) return undefined;
    const isTaken = await takeLease(this.#db, run, { holder: own, untilMs, isNew: true });
    return isTaken ? lease.number + 1 : undefined;
  }

  /** An earlier process of this very manager is not waited for: only one runs at a time on its directory. */
  #isEarlierSelf(holder: string | null): boolean {
    const [managerId, startedMs] = (holder ?? '').split(' ');
    return managerId === this.#managerId && Number(startedMs) < this.#startedMs;
  }
}
