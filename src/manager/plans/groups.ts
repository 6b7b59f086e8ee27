/** Protection groups. A VM is in one at most, and a plan that has the group stays whole when the group changes. */
import type { GroupMembers } from '#/api/plan-files.ts';
import type { GroupDocument, GroupView } from '#/api/plans.ts';
import { Failure } from '#/lib/failure.ts';
import type { Context } from '#/manager/context.ts';
import { newId } from '#/manager/ids.ts';
import type { Database } from '#/manager/store/database.ts';
import {
  addGroup,
  dropGroup,
  listGroups,
  replaceGroup,
  type GroupRecord,
} from '#/manager/store/group-store.ts';
import { listPlans, type PlanRecord } from '#/manager/store/plan-store.ts';
import { Findings, refuse } from './findings.ts';
import type { PlanFacts } from './plan-facts.ts';
import { memberNames, replicasOf } from './plan-members.ts';
import { readFacts } from './read-facts.ts';
import { surveyPlan } from './resolved-plan.ts';

const GROUPS_MAX = 1000;
/** As the document's schema has it. */
const VMS_MAX = 1000;

export class Groups {
  readonly #context: Context;

  constructor(context: Context) {
    this.#context = context;
  }

  async list(): Promise<GroupView[]> {
    const { db } = this.#context;
    const plans = await listPlans(db);
    return (await listGroups(db)).map((group) => groupView(group, plans));
  }

  /** Throws not_found. */
  async find(nameOrId: string, at: Database = this.#context.db): Promise<GroupRecord> {
    const found = (await listGroups(at)).find(({ id, name }) => id === nameOrId || name === nameOrId);
    if (found !== undefined) return found;
    throw new Failure('not_found', `this site has no protection group "${nameOrId}"`, {
      hint: 'List them with: antipode group list. The command belongs at the recovery site.',
    });
  }

  async show(nameOrId: string): Promise<GroupView> {
    return groupView(await this.find(nameOrId), await listPlans(this.#context.db));
  }

  async create(document: GroupDocument): Promise<GroupView> {
    return this.#inTransaction(async (at) => {
      const isTaken = (await listGroups(at)).some(({ name }) => name === document.name);
      if (isTaken) throw nameTaken(document.name);
      await this.#save(at, undefined, document);
      return document.name;
    });
  }

  async replace(nameOrId: string, document: GroupDocument): Promise<GroupView> {
    return this.#inTransaction(async (at) => {
      const group = await this.find(nameOrId, at);
      const others = (await listGroups(at)).filter(({ id }) => id !== group.id);
      if (others.some(({ name }) => name === document.name)) throw nameTaken(document.name);
      await this.#save(at, group, document);
      return document.name;
    });
  }

  async change(nameOrId: string, { add = [], remove = [] }: GroupMembers): Promise<GroupView> {
    return this.#inTransaction(async (at) => {
      const group = await this.find(nameOrId, at);
      const facts = await readFacts(this.#context, at);
      const staying = without(group.document, remove, facts);
      const all = [...staying, ...add];
      if (all.length === 0) {
        throw new Failure('conflict', `group ${group.name} would be left without a VM`, {
          hint: `Delete it: antipode group delete ${group.name}`,
        });
      }
      if (all.length > VMS_MAX) {
        throw new Failure('limit_exceeded', `group ${group.name} would have ${all.length} VMs`, {
          hint: `A group has ${VMS_MAX} at most: make another, and put both into the plan.`,
        });
      }
      await this.#save(at, group, { ...group.document, vms: all });
      return group.name;
    });
  }

  async delete(nameOrId: string): Promise<void> {
    const { db, events } = this.#context;
    await db.transaction().execute(async (at) => {
      const group = await this.find(nameOrId, at);
      const plan = (await listPlans(at)).find(({ document }) => document.groups.includes(group.name));
      if (plan !== undefined) {
        throw new Failure('conflict', `group ${group.name} is in recovery plan ${plan.name}`, {
          hint: `Take it out of the plan first, or delete the plan: antipode plan delete ${plan.name}`,
        });
      }
      await dropGroup(at, group.id);
      const subject = { kind: 'group', id: group.id };
      const message = `protection group ${group.name} is deleted`;
      await events.record(at, { kind: 'group.deleted', severity: 'info', subject, message });
    });
  }

  /** Records it as it is, with an event; the caller has checked it. */
  async put(at: Database, before: GroupRecord | undefined, document: GroupDocument): Promise<void> {
    const { clock, events, random } = this.#context;
    const nowMs = clock.now();
    const id = before?.id ?? newId(random, 'group');
    if (before === undefined) {
      if ((await listGroups(at)).length >= GROUPS_MAX) {
        throw new Failure('limit_exceeded', `this site has ${GROUPS_MAX} protection groups already`, {
          hint: 'Delete those that are not needed: antipode group delete GROUP',
        });
      }
      await addGroup(at, { id, name: document.name, document, created_ms: nowMs, updated_ms: nowMs });
    } else await replaceGroup(at, id, { document, nowMs });
    await events.record(at, {
      kind: before === undefined ? 'group.created' : 'group.changed',
      severity: 'info',
      subject: { kind: 'group', id },
      message: `protection group ${document.name} has ${document.vms.length} VMs of ${document.site}`,
    });
  }

  async #save(at: Database, before: GroupRecord | undefined, document: GroupDocument): Promise<void> {
    await this.put(at, before, document);
    const facts = await readFacts(this.#context, at);
    const findings = new Findings();
    checkGroup(document, facts, findings, []);
    refuse(findings.list(), ['error']);
    const names = new Set([before?.name, document.name]);
    for (const plan of await listPlans(at)) {
      if (!plan.document.groups.some((name) => names.has(name))) continue;
      const broken = surveyPlan(plan, facts).problems.find(({ severity }) => severity === 'error');
      if (broken === undefined) continue;
      throw new Failure('conflict', `recovery plan ${plan.name} would be broken: ${broken.message}`, {
        hint: `Change the plan first, or both at once with: antipode plan import FILE --apply`,
      });
    }
  }

  /** What `work` throws undoes what it did. It resolves with the name of the group that is to be shown. */
  async #inTransaction(work: (at: Database) => Promise<string>): Promise<GroupView> {
    const name = await this.#context.db.transaction().execute(work);
    return this.show(name);
  }
}

function groupView(group: GroupRecord, plans: readonly PlanRecord[]): GroupView {
  const { id, document, created_ms, updated_ms } = group;
  const own = plans.filter((plan) => plan.document.groups.includes(document.name));
  return { id, document, created_ms, updated_ms, plans: own.map(({ name }) => name) };
}

/** `facts` have the group as it is to be. */
export function checkGroup(
  document: GroupDocument,
  facts: PlanFacts,
  findings: Findings,
  at: readonly (string | number)[],
): void {
  const place = (index?: number): (string | number)[] =>
    index === undefined ? [...at, 'site'] : [...at, 'vms', index];
  const replicas = replicasOf(document, facts, findings, place);
  const others = new Map<string, string>();
  for (const group of facts.groups) {
    if (group.name === document.name) continue;
    for (const replica of replicasOf(group.document, facts, new Findings(), () => [])) {
      others.set(replica.vm_uuid, group.name);
    }
  }
  const seen = new Set<string>();
  for (const { vm_uuid: uuid, vm_name: vm } of replicas) {
    const index = document.vms.findLastIndex((name) => name === vm || name === uuid);
    const other = seen.has(uuid) ? document.name : others.get(uuid);
    seen.add(uuid);
    if (other === undefined) continue;
    findings.error({
      code: 'conflict',
      message:
        other === document.name
          ? `VM ${vm} is twice in group ${other}`
          : `VM ${vm} is in group ${other} already`,
      hint: `A VM belongs to one group: take it out of the other with antipode group remove ${other} ${vm}`,
      at: place(index),
    });
  }
}

/** A VM may be written by its name in one place and by its UUID in the other. Throws not_found. */
function without(document: GroupDocument, remove: readonly string[], facts: PlanFacts): string[] {
  return remove.reduce((staying, name) => {
    const aliases = memberNames({ ...document, vms: [name] }, facts);
    const left = staying.filter((vm) => !aliases.includes(vm));
    if (left.length < staying.length) return left;
    throw new Failure('not_found', `VM ${name} is not in group ${document.name}`, {
      hint: `See who is: antipode group show ${document.name}`,
    });
  }, document.vms);
}

function nameTaken(name: string): Failure {
  return new Failure('already_exists', `this site has a protection group ${name} already`, {
    hint: 'Choose another name, or change that one: antipode group add, antipode group remove',
  });
}
