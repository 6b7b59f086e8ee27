/**
 * Whether this manager is of use, for load balancers and watchdogs, who have no account: words, no reasons. The log
 * and `antipode doctor` have those.
 *
 * Bounded: whoever asks, the database is asked once a second at most, and an address that asks too often is refused.
 */
import { X509Certificate } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { sql } from 'kysely';
import { Failure, failureIn } from '#/lib/failure.ts';
import { failureFields } from '#/lib/log.ts';
import type { ReadyChecks } from '#/api/health.ts';
import type { Context } from './context.ts';
import { ADDRESSES_MAX } from './limits.ts';
import { isRebuilding } from './rebuild/rebuild-state.ts';
import { MIGRATIONS } from './store/migrations.ts';

const KEPT_MS = 1000;
const DATABASE_WAIT_MS = 2000;
/** From one address, in a second: several load balancers behind one address, each several times a second. */
const ASKS_MAX = 50;

export class Health {
  readonly #context: Context;
  readonly #certificate: () => string;
  readonly #asks = new Map<string, number>();
  #secondMs = 0;
  #kept: { untilMs: number; checks: Promise<ReadyChecks> } | undefined;
  #wasReady = true;

  /** `certificate`: the manager's own, as it is now. */
  constructor(context: Context, certificate: () => string) {
    this.#context = context;
    this.#certificate = certificate;
  }

  /** Throws limit_exceeded. */
  count(address: string): void {
    const nowMs = this.#context.clock.monotonicMs();
    if (nowMs - this.#secondMs >= 1000 || this.#asks.size > ADDRESSES_MAX) {
      this.#secondMs = nowMs;
      this.#asks.clear();
    }
    const asks = (this.#asks.get(address) ?? 0) + 1;
    this.#asks.set(address, asks);
    if (asks <= ASKS_MAX) return;
    throw new Failure(
      'limit_exceeded',
      `more than ${ASKS_MAX} questions a second about this manager's health`,
      {
        hint: 'Ask once a second or less.',
      },
    );
  }

  checks(): Promise<ReadyChecks> {
    const nowMs = this.#context.clock.monotonicMs();
    if (this.#kept === undefined || nowMs >= this.#kept.untilMs) {
      this.#kept = { untilMs: nowMs + KEPT_MS, checks: this.#look() };
    }
    return this.#kept.checks;
  }

  async #look(): Promise<ReadyChecks> {
    const { clock, log } = this.#context;
    const { validFromDate, validToDate } = new X509Certificate(this.#certificate());
    const isValid = validFromDate.getTime() <= clock.now() && clock.now() < validToDate.getTime();
    const checks: ReadyChecks = {
      ...(await this.#lookAtDatabase()),
      certificate: isValid ? 'ok' : 'failing',
    };
    const isReady = Object.values(checks).every((word) => word === 'ok');
    if (isReady !== this.#wasReady) {
      this.#wasReady = isReady;
      if (isReady) log.info('health.ready');
      else log.warning('health.not_ready', { ...checks });
    }
    return checks;
  }

  async #lookAtDatabase(): Promise<Omit<ReadyChecks, 'certificate'>> {
    const { db, log } = this.#context;
    const look = async () => {
      const { rows } = await sql<{ name: string }>`select name from kysely_migration`.execute(db);
      const names = new Set(rows.map(({ name }) => name));
      const known = Object.keys(MIGRATIONS);
      return {
        database: 'ok',
        schema: names.size === known.length && known.every((name) => names.has(name)) ? 'ok' : 'failing',
        rebuild: (await isRebuilding(db)) ? 'failing' : 'ok',
      } as const;
    };
    const late = new AbortController();
    try {
      return await Promise.race([look(), tooLate(late.signal)]);
    } catch (error) {
      // Of a driver's own errors there is no list; whatever it is, the database gave no answer.
      if (failureIn(error) === undefined && !(error instanceof Error)) throw error;
      if (this.#wasReady) log.warning('health.database', failureFields(error));
      return { database: 'failing', schema: 'unknown', rebuild: 'unknown' };
    } finally {
      late.abort();
    }
  }
}

async function tooLate(signal: AbortSignal): Promise<never> {
  await sleep(DATABASE_WAIT_MS, undefined, { signal, ref: false });
  throw new Failure('timeout', `the database gave no answer within ${DATABASE_WAIT_MS} ms`);
}
