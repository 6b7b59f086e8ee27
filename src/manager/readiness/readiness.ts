/**
 * Readiness of this site's plans, looked at again every few seconds: as it is now for whoever asks, and an event when
 * a plan becomes unready, or ready again.
 *
 * Invariant: an event is told only of what lasted: programs that start, and reports that are a little late, make a plan
 * neither.
 */
import type { ReadinessView } from '#/api/readiness.ts';
import type { Context } from '#/manager/context.ts';
import { READINESS_EVERY_MS, READINESS_LASTS_MS } from '#/manager/limits.ts';
import type { Peers } from '#/manager/peers.ts';
import type { Plans } from '#/manager/plans/plans.ts';
import { readLeftOvers } from '#/manager/rebuild/left-over.ts';
import { listJobs } from '#/manager/store/job-store.ts';
import { listPeers } from '#/manager/store/peer-store.ts';
import type { PlanRecord } from '#/manager/store/plan-store.ts';
import { readSetting, writeSetting } from '#/manager/store/settings-store.ts';
import { gather, type Common } from './gather.ts';
import { judge } from './judge.ts';
import { predictRpo, predictRto, predictStart } from './predict.ts';

const SETTING = 'unready_plans';
/** Recoveries that are looked through for tests: those of a plan of a thousand VMs, tested twice. */
const JOBS_MAX = 2000;

export class Readiness {
  readonly #context: Context;
  readonly #plans: Plans;
  readonly #peers: Peers;
  #lookedMs = -Infinity;
  /** Since when a plan is otherwise than was told, on the monotonic clock. */
  readonly #changing = new Map<string, number>();
  /** Plans that were told to be unready, by id. */
  #unready: Set<string> | undefined;

  constructor(context: Context, plans: Plans, peers: Peers) {
    this.#context = context;
    this.#plans = plans;
    this.#peers = peers;
  }

  /** Throws not_found. */
  async of(nameOrId: string): Promise<ReadinessView> {
    return this.#view(await this.#common(), await this.#plans.find(nameOrId));
  }

  async list(): Promise<ReadinessView[]> {
    const common = await this.#common();
    return (await this.#plans.list()).map((plan) => this.#view(common, plan));
  }

  /** Called often; looks every few seconds of the monotonic clock. */
  async look(nowMs = this.#context.clock.monotonicMs()): Promise<void> {
    const { db } = this.#context;
    if (nowMs - this.#lookedMs < READINESS_EVERY_MS) return;
    this.#lookedMs = nowMs;
    this.#unready ??= new Set(JSON.parse((await readSetting(db, SETTING)) ?? '[]') as string[]);
    const views = await this.list();
    const ids = new Set(views.map((view) => view.plan_id));
    for (const id of [...this.#unready, ...this.#changing.keys()]) if (!ids.has(id)) this.#forget(id);
    for (const view of views) {
      if (view.is_ready !== this.#unready.has(view.plan_id)) {
        this.#changing.delete(view.plan_id);
        continue;
      }
      const sinceMs = this.#changing.get(view.plan_id);
      if (sinceMs === undefined) this.#changing.set(view.plan_id, nowMs);
      else if (nowMs - sinceMs >= READINESS_LASTS_MS) await this.#tell(view);
    }
  }

  #forget(id: string): void {
    this.#unready?.delete(id);
    this.#changing.delete(id);
  }

  async #tell(view: ReadinessView): Promise<void> {
    const { db, events } = this.#context;
    const unready = new Set(this.#unready);
    if (view.is_ready) unready.delete(view.plan_id);
    else unready.add(view.plan_id);
    const errors = view.findings.filter(({ severity }) => severity === 'error');
    const more = errors.length > 1 ? ` (and ${errors.length - 1} more)` : '';
    await db.transaction().execute(async (at) => {
      await writeSetting(at, SETTING, JSON.stringify([...unready]));
      await events.record(at, {
        kind: view.is_ready ? 'plan.ready' : 'plan.unready',
        severity: view.is_ready ? 'info' : 'error',
        subject: { kind: 'plan', id: view.plan_id },
        message: view.is_ready
          ? `recovery plan ${view.plan} is ready`
          : `recovery plan ${view.plan} is not ready: ${errors[0]?.text ?? ''}${more}`.slice(0, 4096),
      });
    });
    this.#unready = unready;
    this.#changing.delete(view.plan_id);
  }

  async #common(): Promise<Common> {
    const { clock, db } = this.#context;
    return {
      context: this.#context,
      peers: this.#peers,
      facts: await this.#plans.facts(),
      paired: await listPeers(db),
      jobs: await listJobs(db, JOBS_MAX, clock.now() + 1),
      leftOver: await readLeftOvers(db),
    };
  }

  #view(common: Common, plan: PlanRecord): ReadinessView {
    const situation = gather(common, plan);
    const findings = judge(situation);
    const hosts = new Map(situation.hosts.map(({ id, name }) => [id, name]));
    const vms = situation.vms.map((vm): ReadinessView['vms'][number] => {
      const newest = vm.points.at(-1);
      return {
        vm_uuid: vm.uuid,
        vm_name: vm.name,
        priority: vm.priority,
        host_name: vm.hostId === null ? null : (hosts.get(vm.hostId) ?? null),
        age_ms: newest === undefined ? null : Math.max(0, situation.nowMs - newest.momentMs),
        rpo_ms: vm.rpoMs,
        predicted_rpo_ms: predictRpo(vm.points, situation.nowMs),
        predicted_rto_ms: predictStart(vm),
        proven: vm.proven,
      };
    });
    return {
      plan: plan.name,
      plan_id: plan.id,
      is_ready: findings.every(({ severity }) => severity !== 'error'),
      checked_ms: situation.nowMs,
      findings,
      vms,
      predicted_rpo_ms: ofAll(
        vms.map((vm) => vm.predicted_rpo_ms),
        Math.max,
      ),
      predicted_rto_ms: predictRto(situation.vms),
      proven_ms: ofAll(
        vms.map((vm) => vm.proven?.at_ms ?? null),
        Math.min,
      ),
    };
  }
}

/** Null when there is none, or one is not known. */
function ofAll(values: readonly (number | null)[], choose: (...numbers: number[]) => number): number | null {
  const known = values.filter((value) => value !== null);
  return known.length === 0 || known.length < values.length ? null : choose(...known);
}
