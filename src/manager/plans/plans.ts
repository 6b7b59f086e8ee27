/** Recovery plans of this site. What cannot be run for want of something at the site is kept, and told. */
import type { PlanAddresses, PlanDetails, PlanProblem, SavedPlan } from '#/api/plan-files.ts';
import type { PlanDocument, PlanView } from '#/api/plans.ts';
import { Failure } from '#/lib/failure.ts';
import type { Context } from '#/manager/context.ts';
import { newId } from '#/manager/ids.ts';
import type { Database } from '#/manager/store/database.ts';
import { listGroups, type GroupRecord } from '#/manager/store/group-store.ts';
import { listMappings, type MappingRecord } from '#/manager/store/mapping-store.ts';
import { addPlan, dropPlan, listPlans, replacePlan, type PlanRecord } from '#/manager/store/plan-store.ts';
import { refuse } from './findings.ts';
import type { PlanFacts } from './plan-facts.ts';
import { readFacts } from './read-facts.ts';
import { resolvePlan, surveyPlan, type ResolvedPlan } from './resolved-plan.ts';

const PLANS_MAX = 1000;

/** The id of a run that is under way with the plan, if there is one. */
export type RunOfPlan = (at: Database, planId: string) => Promise<string | undefined>;

export class Plans {
  readonly #context: Context;
  readonly #runOf: RunOfPlan;

  constructor(context: Context, runOf: RunOfPlan = openRunOf) {
    this.#context = context;
    this.#runOf = runOf;
  }

  list(): Promise<PlanRecord[]> {
    return listPlans(this.#context.db);
  }

  /** Throws not_found. */
  async find(nameOrId: string, at: Database = this.#context.db): Promise<PlanRecord> {
    const found = (await listPlans(at)).find(({ id, name }) => id === nameOrId || name === nameOrId);
    if (found !== undefined) return found;
    throw new Failure('not_found', `this site has no recovery plan "${nameOrId}"`, {
      hint: 'List them with: antipode plan list. The command belongs at the recovery site.',
    });
  }

  listGroups(): Promise<GroupRecord[]> {
    return listGroups(this.#context.db);
  }

  async mappingsOf(peerSiteId: string): Promise<MappingRecord[]> {
    return (await listMappings(this.#context.db)).filter(({ peer_site_id: id }) => id === peerSiteId);
  }

  /** What plans are resolved against, as it is now. */
  facts(at: Database = this.#context.db): Promise<PlanFacts> {
    return readFacts(this.#context, at);
  }

  /** Throws what keeps the plan from being run. */
  async resolve(plan: PlanRecord, at: Database = this.#context.db): Promise<ResolvedPlan> {
    return resolvePlan(plan, await this.facts(at));
  }

  async details(nameOrId: string): Promise<PlanDetails> {
    const plan = await this.find(nameOrId);
    const { problems, resolved } = surveyPlan(plan, await this.facts());
    const names = new Map(resolved.vms.map(({ vm_uuid: uuid, vm_name: name }) => [uuid, name]));
    const vms = resolved.vms.map((vm) => ({
      replica_id: vm.replica_id,
      vm_uuid: vm.vm_uuid,
      vm_name: vm.vm_name,
      group: vm.group,
      priority: vm.priority,
      depends_on: vm.depends_on.map((uuid) => names.get(uuid) ?? uuid),
      start: vm.start,
      networks: vm.networks,
      host: vm.host,
      storage_path: vm.storage_path,
    }));
    return { plan: planView(plan), vms, problems };
  }

  /** The preview of what a run does to the addresses of its VMs. */
  async addresses(nameOrId: string): Promise<PlanAddresses> {
    const { previews, problems } = surveyPlan(await this.find(nameOrId), await this.facts());
    const isOfAddresses = ({ at }: PlanProblem): boolean =>
      at.startsWith('/plan/ip_rules') || /^\/plan\/vms\/[^/]*(\/addresses|\/host_name|$)/.test(at);
    return { vms: previews, problems: problems.filter(isOfAddresses) };
  }

  async create(document: PlanDocument): Promise<SavedPlan> {
    return this.#context.db.transaction().execute(async (at) => {
      if (await findByName(at, document.name)) throw nameTaken(document.name);
      return this.#checked(at, await this.put(at, undefined, document));
    });
  }

  /** Throws conflict when the plan was changed since the revision `from`. */
  async replace(nameOrId: string, from: number, document: PlanDocument): Promise<SavedPlan> {
    return this.#context.db.transaction().execute(async (at) => {
      const plan = await this.find(nameOrId, at);
      const namesake = await findByName(at, document.name);
      if (namesake !== undefined && namesake.id !== plan.id) throw nameTaken(document.name);
      if (plan.revision !== from) {
        throw new Failure(
          'conflict',
          `plan ${plan.name} has revision ${plan.revision} by now; the change is of revision ${from}`,
          { hint: `Look at what has changed, and make yours again: antipode plan export ${plan.name}` },
        );
      }
      return this.#checked(at, await this.put(at, plan, document));
    });
  }

  async delete(nameOrId: string): Promise<void> {
    const { db, events } = this.#context;
    await db.transaction().execute(async (at) => {
      const plan = await this.find(nameOrId, at);
      await this.#checkIdle(at, plan);
      await dropPlan(at, plan.id);
      const subject = { kind: 'plan', id: plan.id };
      const message = `recovery plan ${plan.name} is deleted`;
      await events.record(at, { kind: 'plan.deleted', severity: 'info', subject, message });
    });
  }

  /** Records it as it is, with an event; the caller checks it. Throws conflict while a run of it is under way. */
  async put(at: Database, before: PlanRecord | undefined, document: PlanDocument): Promise<PlanRecord> {
    const { clock, events, random } = this.#context;
    const nowMs = clock.now();
    if (before === undefined) {
      if ((await listPlans(at)).length >= PLANS_MAX) {
        throw new Failure('limit_exceeded', `this site has ${PLANS_MAX} recovery plans already`, {
          hint: 'Delete those that are not needed: antipode plan delete PLAN',
        });
      }
      const id = newId(random, 'plan');
      const times = { created_ms: nowMs, updated_ms: nowMs };
      await addPlan(at, { id, name: document.name, revision: 1, document, ...times });
    } else {
      await this.#checkIdle(at, before);
      await replacePlan(at, before.id, { from: before.revision, document, nowMs });
    }
    const plan = await this.find(document.name, at);
    await events.record(at, {
      kind: before === undefined ? 'plan.created' : 'plan.changed',
      severity: 'info',
      subject: { kind: 'plan', id: plan.id },
      message: `recovery plan ${plan.name} has revision ${plan.revision}`,
    });
    return plan;
  }

  async #checked(at: Database, plan: PlanRecord): Promise<SavedPlan> {
    const { problems } = surveyPlan(plan, await this.facts(at));
    refuse(problems, ['error']);
    return { plan: planView(plan), problems };
  }

  async #checkIdle(at: Database, plan: PlanRecord): Promise<void> {
    const run = await this.#runOf(at, plan.id);
    if (run === undefined) return;
    throw new Failure('conflict', `run ${run} of plan ${plan.name} is under way`, {
      hint: `A plan is changed or deleted when none of its runs is: see it with antipode runs ${run}`,
    });
  }
}

export function planView({ id, revision, document, created_ms, updated_ms }: PlanRecord): PlanView {
  return { id, revision, document, created_ms, updated_ms };
}

const openRunOf: RunOfPlan = async (at, planId) => {
  const run = await at
    .selectFrom('runs')
    .select('id')
    .where('plan_id', '=', planId)
    .where('ended_ms', 'is', null)
    .executeTakeFirst();
  return run?.id;
};

async function findByName(at: Database, name: string): Promise<PlanRecord | undefined> {
  return (await listPlans(at)).find((plan) => plan.name === name);
}

function nameTaken(name: string): Failure {
  return new Failure('already_exists', `this site has a recovery plan ${name} already`, {
    hint: `Choose another name, or change that one: antipode plan import FILE --apply`,
  });
}
