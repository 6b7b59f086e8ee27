/**
 * Which manager carries recoveries out, where several are on one PostgreSQL: one at a time, by a lease with a number
 * that rises with every holder. The number, not the clock, keeps a late holder from writing; the time only says when
 * another one may take over.
 */
import type { Clock } from '#/lib/clock.ts';
import { Failure } from '#/lib/failure.ts';
import type { Database } from './store/database.ts';
import { extendLease, takeLease } from './store/lease-store.ts';

const NAME = 'jobs';
/** Renewed after a third of it. A manager that died is followed by another one after this. */
export const JOB_LEASE_MS = 15_000;

export class JobLease {
  readonly #db: Database;
  readonly #clock: Clock;
  readonly #managerId: string;
  readonly #startedMs: number;
  #held: { number: number; untilMs: number } | undefined;

  constructor({ db, clock, managerId }: { db: Database; clock: Clock; managerId: string }) {
    this.#db = db;
    this.#clock = clock;
    this.#managerId = managerId;
    this.#startedMs = clock.now();
  }

  /** True while this manager is the one. */
  async hold(): Promise<boolean> {
    const nowMs = this.#clock.now();
    const untilMs = nowMs + JOB_LEASE_MS;
    const held = this.#held;
    if (held !== undefined && held.untilMs - nowMs > (JOB_LEASE_MS * 2) / 3) return true;
    if (held !== undefined) {
      const isStill = await extendLease(this.#db, { name: NAME, number: held.number, untilMs });
      this.#held = isStill ? { number: held.number, untilMs } : undefined;
      return isStill;
    }
    const lease = { name: NAME, holder: this.#holder, nowMs, untilMs };
    const number = await takeLease(this.#db, lease, (holder) => this.#isEarlierSelf(holder));
    if (number !== undefined) this.#held = { number, untilMs };
    return number !== undefined;
  }

  /** To be called in each transaction that goes on with a job. Throws conflict when another manager has taken over. */
  async fence(at: Database): Promise<void> {
    const held = this.#held;
    const untilMs = this.#clock.now() + JOB_LEASE_MS;
    if (held !== undefined && (await extendLease(at, { name: NAME, number: held.number, untilMs }))) return;
    this.#held = undefined;
    throw new Failure('conflict', 'another manager on the same database carries out recoveries now');
  }

  /** Lets another manager take over at once. */
  async release(): Promise<void> {
    const held = this.#held;
    this.#held = undefined;
    if (held !== undefined) await extendLease(this.#db, { name: NAME, number: held.number, untilMs: 0 });
  }

  get #holder(): string {
    return `${this.#managerId} ${this.#startedMs}`;
  }

  /** An earlier process of this very manager is not waited for: only one runs at a time on its directory. */
  #isEarlierSelf(holder: string): boolean {
    const [managerId, startedMs] = holder.split(' ');
    return managerId === this.#managerId && Number(startedMs) < this.#startedMs;
  }
}
