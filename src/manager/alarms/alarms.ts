/**
 * Alarms follow the state of the site: raised when something is wrong and has been for a moment, cleared when it has
 * been well for a moment. What comes and goes in between raises nothing.
 *
 * Each turn is an event, in the transaction that records it.
 */
import type { AlarmKind, AlarmSeverity, AlarmView } from '#/api/alarms.ts';
import { Failure } from '#/lib/failure.ts';
import type { Context } from '#/manager/context.ts';
import { newId } from '#/manager/ids.ts';
import { ALARMS_EVERY_MS, ALARM_LASTS_MS } from '#/manager/limits.ts';
import {
  acknowledgeAlarm,
  clearAlarm,
  listAlarms,
  raiseAlarm,
  rewordAlarm,
  standingAlarms,
  type AlarmRow,
} from '#/manager/store/alarm-store.ts';
import type { Notices } from './notices.ts';
import { judgeAlarms, type Condition, type Judged, type SiteFacts } from './judge-alarms.ts';

export class Alarms {
  readonly #context: Context;
  readonly #gather: () => Promise<SiteFacts>;
  readonly #notices: Notices;
  #lookedMs = -Infinity;
  /** Since when what stands is well, or what does not stand is wrong, on the monotonic clock, by its key. */
  readonly #turning = new Map<string, number>();

  constructor(context: Context, gather: () => Promise<SiteFacts>, notices: Notices) {
    this.#context = context;
    this.#notices = notices;
    this.#gather = gather;
  }

  /** Called often; looks every few seconds of the monotonic clock. */
  async look(nowMs = this.#context.clock.monotonicMs()): Promise<void> {
    if (nowMs - this.#lookedMs < ALARMS_EVERY_MS) return;
    this.#lookedMs = nowMs;
    const judged = judgeAlarms(await this.#gather());
    const wrong = new Map(
      judged.conditions.map((condition) => [keyOf(condition.kind, condition.subject.id), condition]),
    );
    const standing = new Map((await standingAlarms(this.#context.db)).map((row) => [row.standing_key!, row]));
    for (const [key, condition] of wrong) {
      const row = standing.get(key);
      if (row === undefined) {
        if (this.#lasts(key, nowMs)) await this.#raise(key, condition);
      } else {
        this.#turning.delete(key);
        await this.#reword(row, condition);
      }
    }
    const unknown = unknownOf(judged);
    for (const [key, row] of standing) {
      if (wrong.has(key)) continue;
      if (unknown.has(key)) this.#turning.delete(key);
      else if (this.#lasts(key, nowMs)) await this.#clear(row);
    }
    // What was wrong for less than a moment begins anew.
    for (const key of this.#turning.keys())
      if (!wrong.has(key) && !standing.has(key)) this.#turning.delete(key);
  }

  async list(limit: number): Promise<AlarmView[]> {
    return (await listAlarms(this.#context.db, limit)).map(viewOf);
  }

  /** Of those that stand. */
  async counts(): Promise<Record<AlarmSeverity, number>> {
    const standing = await standingAlarms(this.#context.db);
    const of = (severity: AlarmSeverity): number =>
      standing.filter((row) => row.severity === severity).length;
    return { critical: of('critical'), warning: of('warning') };
  }

  /** Throws not_found for one that does not stand. */
  async acknowledge(id: string, by: { name: string; note: string | null }): Promise<AlarmView> {
    const { clock, db, events } = this.#context;
    return db.transaction().execute(async (at) => {
      const row = await acknowledgeAlarm(at, id, { atMs: clock.now(), ...by });
      if (row === undefined) {
        throw new Failure('not_found', `no alarm ${id} stands`, { hint: 'List them with: antipode alarms' });
      }
      await events.record(at, {
        kind: 'alarm.acknowledged',
        severity: 'info',
        subject: { kind: row.subject_kind, id: row.subject_id },
        message: `${by.name} has it in hand: ${row.message}${by.note === null ? '' : ` (${by.note})`}`,
      });
      return viewOf(row);
    });
  }

  #lasts(key: string, nowMs: number): boolean {
    const sinceMs = this.#turning.get(key);
    if (sinceMs === undefined) this.#turning.set(key, nowMs);
    if (nowMs - (sinceMs ?? nowMs) < ALARM_LASTS_MS) return false;
    this.#turning.delete(key);
    return true;
  }

  async #raise(key: string, { kind, severity, subject, message, hint }: Condition): Promise<void> {
    const { clock, db, events, random } = this.#context;
    await db.transaction().execute(async (at) => {
      const row: AlarmRow = {
        id: newId(random, 'alarm'),
        standing_key: key,
        kind,
        severity,
        subject_kind: subject.kind,
        subject_id: subject.id,
        subject_name: subject.name,
        message,
        hint,
        raised_ms: clock.now(),
        cleared_ms: null,
        acknowledged_ms: null,
        acknowledged_by: null,
        note: null,
      };
      if (!(await raiseAlarm(at, row))) return;
      await this.#notices.add(at, 'raised', viewOf(row));
      await events.record(at, {
        kind: 'alarm.raised',
        severity: severity === 'critical' ? 'error' : 'warning',
        subject: { kind: subject.kind, id: subject.id },
        message,
      });
    });
  }

  async #clear(row: AlarmRow): Promise<void> {
    const { clock, db, events } = this.#context;
    await db.transaction().execute(async (at) => {
      const clearedMs = clock.now();
      if (!(await clearAlarm(at, row.id, clearedMs))) return;
      await this.#notices.add(at, 'cleared', viewOf({ ...row, cleared_ms: clearedMs }));
      await events.record(at, {
        kind: 'alarm.cleared',
        severity: 'info',
        subject: { kind: row.subject_kind, id: row.subject_id },
        message: `no longer so: ${row.message}`,
      });
    });
  }

  /** What is wrong may have another reason by now; that is no other alarm. */
  async #reword(row: AlarmRow, { severity, message, hint }: Condition): Promise<void> {
    if (row.severity === severity && row.message === message && row.hint === hint) return;
    await rewordAlarm(this.#context.db, row.id, { severity, message, hint });
  }
}

function keyOf(kind: AlarmKind, subjectId: string): string {
  return `${kind} ${subjectId}`;
}

function unknownOf({ unknown }: Judged): ReadonlySet<string> {
  return new Set(unknown.map(({ kind, subjectId }) => keyOf(kind, subjectId)));
}

function viewOf(row: AlarmRow): AlarmView {
  return {
    id: row.id,
    kind: row.kind as AlarmView['kind'],
    severity: row.severity as AlarmView['severity'],
    subject: { kind: row.subject_kind, id: row.subject_id, name: row.subject_name },
    message: row.message,
    hint: row.hint,
    raised_ms: row.raised_ms,
    cleared_ms: row.cleared_ms,
    acknowledged_ms: row.acknowledged_ms,
    acknowledged_by: row.acknowledged_by,
    note: row.note,
  };
}
