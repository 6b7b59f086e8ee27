/**
 * Tells targets of alarms: in the order of their turns, at least once, and again with growing pauses until a target
 * takes it. What nobody took for a day is given up, with an event; a target's trouble holds back no other.
 */
import type { AlarmView } from '#/api/alarms.ts';
import { failureIn } from '#/lib/failure.ts';
import type { Context } from '#/manager/context.ts';
import { NOTICE_GIVE_UP_MS, NOTICES_MAX } from '#/manager/limits.ts';
import type { Database } from '#/manager/store/database.ts';
import {
  addNotice,
  countNotices,
  dropNotice,
  dropOtherNotices,
  firstNotice,
  putNoticeOff,
  type NoticeRow,
} from '#/manager/store/notice-store.ts';
import type { NoticeTarget } from './notice-targets.ts';
import { tell, type Notice } from './tell.ts';

const RETRY_MS = 10_000;
const RETRY_MAX_MS = 3_600_000;
/** In one look, so that a burst ends. */
const TOLD_AT_ONCE = 50;

export class Notices {
  readonly #context: Pick<Context, 'clock' | 'config' | 'db' | 'events' | 'log'>;
  readonly #targets: readonly NoticeTarget[];
  #isTidied = false;

  constructor(
    context: Pick<Context, 'clock' | 'config' | 'db' | 'events' | 'log'>,
    targets: readonly NoticeTarget[],
  ) {
    this.#context = context;
    this.#targets = targets;
  }

  /** In the transaction that records the turn. */
  async add(at: Database, turn: Notice['turn'], alarm: AlarmView): Promise<void> {
    const { clock, config } = this.#context;
    const body = JSON.stringify({ turn, site: config.siteName, alarm } satisfies Notice);
    for (const { key } of this.#targets) {
      if ((await countNotices(at, key)) >= NOTICES_MAX) {
        await this.#giveUp(at, (await firstNotice(at, key))!, `${NOTICES_MAX} others wait for it`);
      }
      await addNotice(at, { target: key, body, created_ms: clock.now() });
    }
  }

  async look(): Promise<void> {
    if (!this.#isTidied) {
      await dropOtherNotices(
        this.#context.db,
        this.#targets.map(({ key }) => key),
      );
      this.#isTidied = true;
    }
    await Promise.all(this.#targets.map((target) => this.#tellAll(target)));
  }

  async #tellAll(target: NoticeTarget): Promise<void> {
    const { clock, db } = this.#context;
    for (let count = 0; count < TOLD_AT_ONCE; count++) {
      const notice = await firstNotice(db, target.key);
      if (notice === undefined || notice.next_ms > clock.now()) return;
      if (!(await this.#tell(target, notice))) return;
    }
  }

  async #tell(target: NoticeTarget, notice: NoticeRow): Promise<boolean> {
    const { clock, db, log } = this.#context;
    try {
      const { alarm, ...rest } = JSON.parse(notice.body) as Notice;
      await tell(target, { ...rest, alarm }, `${alarm.id}-${rest.turn}`);
      await dropNotice(db, notice.sequence);
      return true;
    } catch (error) {
      const failure = failureIn(error);
      if (failure === undefined) throw error;
      log.warning('alarm.not_told', {
        target: target.key,
        attempts: notice.attempts + 1,
        message: failure.message,
      });
      if (clock.now() - notice.created_ms >= NOTICE_GIVE_UP_MS) {
        await db.transaction().execute((at) => this.#giveUp(at, notice, failure.message));
        return true;
      }
      const pauseMs = Math.min(RETRY_MS * 2 ** Math.min(notice.attempts, 16), RETRY_MAX_MS);
      await putNoticeOff(db, notice, clock.now() + pauseMs);
      return false;
    }
  }

  async #giveUp(at: Database, notice: NoticeRow, why: string): Promise<void> {
    const { alarm, turn } = JSON.parse(notice.body) as Notice;
    await dropNotice(at, notice.sequence);
    await this.#context.events.record(at, {
      kind: 'alarm.not_told',
      severity: 'error',
      subject: { kind: alarm.subject.kind, id: alarm.subject.id },
      message: `${notice.target} was not told that an alarm was ${turn} (${alarm.message}): ${why}`,
    });
  }
}
