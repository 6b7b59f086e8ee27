/**
 * A program's side of control (docs/architecture.md, "Control"): polls its orders, keeps the last ones on disk, posts
 * reports, renews its certificate; for ever, however long the manager is away.
 *
 * Invariant: orders are on disk before the program acts on them, so a restart without the manager goes on by them.
 */
import { join } from 'node:path';
import type { TSchema } from 'typebox';
import { Check } from 'typebox/value';
import { Backoff } from '#/lib/backoff.ts';
import type { Clock } from '#/lib/clock.ts';
import { readDurableJson, writeDurableJson } from '#/lib/durable-json.ts';
import { Failure, failureIn } from '#/lib/failure.ts';
import { failureFields, type Log } from '#/lib/log.ts';
import { systemRandom } from '#/lib/system-random.ts';
import type { ReportReply } from './kept-orders.ts';
import type { ManagerClient, Membership } from './manager-client.ts';
import { isRenewalDue, keepMembership } from './member-file.ts';

const RETRY = { firstMs: 500, maxMs: 10_000 };
/** A report goes out this often even when nothing has changed: it is also the sign of life. */
const REPORT_EVERY_MS = 5_000;
/** Changes are gathered for this long. */
const REPORT_GATHER_MS = 1_000;
/** What somebody waits for goes out this soon after the last report, or as long after it as that one took. */
const REPORT_PAUSE_MS = 10;
/** After a quiet time: the report of a short task's beginning would hold up that of its end, so one tells both. */
const REPORT_SETTLE_MS = 50;
const RENEWAL_CHECK_MS = 60_000;

export type ControlOptions<Orders extends { revision: number }> = {
  client: Pick<ManagerClient, 'membership' | 'renew'>;
  /** Orders as they must be, on disk and from the manager. */
  schema: TSchema;
  poll: (after: number | undefined, signal: AbortSignal) => Promise<Orders | undefined>;
  /** Takes new orders in; called one at a time. */
  ordered: (orders: Orders) => Promise<void>;
  /** Builds and posts one report. */
  report: (signal: AbortSignal) => Promise<ReportReply>;
  /** Tells a manager that has lost its database what is kept here; `orders` are those on disk. */
  tell: (orders: Orders | null, signal: AbortSignal) => Promise<void>;
  renewed: (membership: Membership) => void;
  dataDirectory: string;
  clock: Clock;
  log: Log;
};

export class ControlClient<Orders extends { revision: number }> {
  readonly #options: ControlOptions<Orders>;
  #revision: number | undefined;
  #isChanged = false;
  #isAwaited = false;
  #wakeReporter: (() => void) | undefined;

  constructor(options: ControlOptions<Orders>) {
    this.#options = options;
  }

  /** Takes in the orders on disk, if there are any. Call it before `run`. */
  async takeKeptOrders(): Promise<void> {
    const orders = await this.#keptOrders();
    if (orders === null) return;
    await this.#options.ordered(orders);
    this.#revision = orders.revision;
  }

  async #keptOrders(): Promise<Orders | null> {
    const value = await readDurableJson(this.#ordersPath);
    if (value === undefined) return null;
    if (!Check(this.#options.schema, value)) {
      throw new Failure('storage_corrupt', `read ${this.#ordersPath}: not orders of a manager`, {
        hint: 'Remove the file; the manager sends the orders again.',
      });
    }
    return value as Orders;
  }

  /** Runs until the signal aborts. Rejects only with what is no Failure, which is a bug. */
  async run(signal: AbortSignal): Promise<void> {
    try {
      await Promise.all([this.#pollForEver(signal), this.#reportForEver(signal), this.#renewForEver(signal)]);
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }

  /** Something is worth a report soon. */
  changed(): void {
    this.#isChanged = true;
    this.#wakeReporter?.();
  }

  /** Something that others wait for is worth a report now, such as the end of a task: the next step begins on it. */
  changedAndAwaited(): void {
    this.#isAwaited = true;
    this.changed();
  }

  get #ordersPath(): string {
    return join(this.#options.dataDirectory, 'orders.json');
  }

  async #pollForEver(signal: AbortSignal): Promise<never> {
    return await this.#repeat('orders.poll', signal, async () => {
      const orders = await this.#options.poll(this.#revision, signal);
      if (orders === undefined || orders.revision === this.#revision) return;
      await writeDurableJson(this.#ordersPath, orders);
      await this.#options.ordered(orders);
      this.#revision = orders.revision;
      this.#options.log.info('orders.taken', { revision: orders.revision });
      this.changed();
    });
  }

  async #reportForEver(signal: AbortSignal): Promise<never> {
    const { clock } = this.#options;
    return await this.#repeat('report', signal, async () => {
      this.#isChanged = false;
      this.#isAwaited = false;
      const startedMs = clock.monotonicMs();
      const reply = await this.#options.report(signal);
      if (reply.tell_orders === true) await this.#options.tell(await this.#keptOrders(), signal);
      const pauseMs = Math.max(REPORT_PAUSE_MS, clock.monotonicMs() - startedMs);
      await clock.sleep(Math.min(pauseMs, REPORT_GATHER_MS), signal);
      await this.#wait(REPORT_GATHER_MS - pauseMs, () => this.#isAwaited, signal);
      if (this.#isChanged) return;
      await this.#wait(REPORT_EVERY_MS, () => this.#isChanged, signal);
      await this.#wait(REPORT_SETTLE_MS, () => this.#isAwaited, signal);
    });
  }

  async #renewForEver(signal: AbortSignal): Promise<never> {
    const { client, clock, dataDirectory, renewed, log } = this.#options;
    return await this.#repeat('certificate.renew', signal, async () => {
      if (isRenewalDue(client.membership.certificate_pem, clock.now())) {
        const membership = await client.renew(signal);
        await keepMembership(dataDirectory, membership);
        renewed(membership);
        log.info('certificate.renewed', { id: membership.id });
      }
      await clock.sleep(RENEWAL_CHECK_MS, signal);
    });
  }

  /** Repeats `step`, with growing pauses while it fails; says when that begins and ends, not every time. */
  async #repeat(what: string, signal: AbortSignal, step: () => Promise<void>): Promise<never> {
    const { clock, log } = this.#options;
    const backoff = new Backoff(RETRY, systemRandom);
    let isFailing = false;
    for (;;) {
      signal.throwIfAborted();
      try {
        await step();
        if (isFailing) log.info(`${what}.works_again`);
        isFailing = false;
        backoff.reset();
      } catch (error) {
        if (signal.aborted || failureIn(error) === undefined) throw error;
        if (!isFailing) log.warning(`${what}.fails`, failureFields(error));
        isFailing = true;
        await clock.sleep(backoff.nextMs(), signal);
      }
    }
  }

  /** Until `isEnough`, which a change may make true, or until the time is over. */
  async #wait(ms: number, isEnough: () => boolean, signal: AbortSignal): Promise<void> {
    if (ms <= 0 || isEnough()) return;
    const woken = new AbortController();
    const change = new Promise<void>((resolve) => {
      this.#wakeReporter = () => {
        if (isEnough()) resolve();
      };
    });
    const sleep = this.#options.clock.sleep(ms, AbortSignal.any([signal, woken.signal]));
    try {
      await Promise.race([change, sleep.catch(() => {})]);
    } finally {
      this.#wakeReporter = undefined;
      woken.abort();
    }
    signal.throwIfAborted();
  }
}
