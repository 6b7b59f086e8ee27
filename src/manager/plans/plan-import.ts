/**
 * A plan's file, with the groups and mappings that it brings along, taken in as a whole or not at all. Looking at what
 * would change is the same work, undone at its end: so what was shown is what is done.
 */
import type { ImportReply, ImportRequest, PlanFile, PlanProblem } from '#/api/plan-files.ts';
import type { Mapping } from '#/api/plans.ts';
import { Failure, failureIn } from '#/lib/failure.ts';
import type { Context } from '#/manager/context.ts';
import type { Peers } from '#/manager/peers.ts';
import type { Database } from '#/manager/store/database.ts';
import { listGroups } from '#/manager/store/group-store.ts';
import { listMappings } from '#/manager/store/mapping-store.ts';
import type { MappingRecord } from '#/manager/store/mapping-store.ts';
import type { PeerRow } from '#/manager/store/peer-store.ts';
import { listPlans } from '#/manager/store/plan-store.ts';
import { differences } from './document-diff.ts';
import { Findings, refuse } from './findings.ts';
import { checkGroup, type Groups } from './groups.ts';
import type { Mappings } from './mappings.ts';
import type { Plans } from './plans.ts';
import { readFacts } from './read-facts.ts';
import { surveyPlan } from './resolved-plan.ts';
import { siteIdOf, siteNameOf } from './plan-facts.ts';

type Change = ImportReply['changes'][number];
type CheckedMapping = { index: number; row: MappingRecord; peer: PeerRow };
type Parts = { mappings: Mappings; groups: Groups; plans: Plans };

/** Ends the transaction of an import that is only looked at, or that has errors. */
class Undone extends Error {
  readonly changes: Change[];

  constructor(changes: Change[]) {
    super('the import is undone');
    this.changes = changes;
  }
}

export class PlanImport {
  readonly #context: Context;
  readonly #peers: Peers;
  readonly #parts: Parts;

  constructor(context: Context, peers: Peers, parts: Parts) {
    this.#context = context;
    this.#peers = peers;
    this.#parts = parts;
  }

  /** With `apply` the first error is thrown, and nothing is changed then. */
  async run({ file, apply }: ImportRequest): Promise<ImportReply> {
    const findings = new Findings();
    const mappings = await this.#checkMappings(file.mappings ?? [], findings);
    try {
      const changes = await this.#context.db.transaction().execute(async (at) => {
        const done = await this.#change(at, file, mappings);
        await this.#check(at, file, findings);
        if (apply) refuse(findings.list(), ['error']);
        else throw new Undone(done);
        return done;
      });
      return { is_applied: true, changes, problems: findings.list() };
    } catch (error) {
      if (error instanceof Undone) {
        return { is_applied: false, changes: error.changes, problems: findings.list() };
      }
      throw error;
    }
  }

  async export(nameOrId: string): Promise<PlanFile> {
    const { plans } = this.#parts;
    const plan = await plans.find(nameOrId);
    const facts = await plans.facts();
    const groups = facts.groups.filter(({ name }) => plan.document.groups.includes(name));
    const siteIds = new Set(groups.map(({ document }) => siteIdOf(facts, document.site)));
    const mappings = facts.mappings
      .filter(({ peer_site_id: id }) => siteIds.has(id))
      .map(({ peer_site_id: id, kind, there, here }): Mapping => {
        return { site: siteNameOf(facts, id), kind, there, here };
      });
    return { mappings, groups: groups.map(({ document }) => document), plan: plan.document };
  }

  async #checkMappings(asked: readonly Mapping[], findings: Findings): Promise<CheckedMapping[]> {
    const { mappings } = this.#parts;
    const checked: CheckedMapping[] = [];
    for (const [index, mapping] of asked.entries()) {
      await found(findings, ['mappings', index], async () => {
        const peer = await this.#peers.find(mapping.site);
        const row = mappings.checked(mapping, peer);
        const isTwice = checked.some(
          ({ row: other }) => keyOf(other) === keyOf(row) && other.here !== row.here,
        );
        if (isTwice) {
          throw new Failure('conflict', `${row.kind} ${row.there} of ${peer.site_name} is mapped twice`, {
            hint: 'Keep one of them.',
          });
        }
        checked.push({ index, row, peer });
      });
    }
    for (const peer of new Set(checked.map((one) => one.peer.site_id))) {
      const own = checked.filter((one) => one.peer.site_id === peer);
      const unknown = await mappings.unknownThere(
        own[0]!.peer,
        own.map(({ row }) => row),
      );
      for (const { row, failure } of unknown) {
        const { index } = own.find((one) => one.row === row)!;
        const severity = failure.code === 'not_found' ? 'error' : 'warning';
        const { code, message, hint = '' } = failure;
        findings.add(severity, { code, message, hint, at: ['mappings', index, 'there'] });
      }
    }
    return checked;
  }

  async #change(at: Database, file: PlanFile, mappings: readonly CheckedMapping[]): Promise<Change[]> {
    const changes: Change[] = [];
    const before = await listMappings(at);
    for (const { row, peer } of mappings) {
      const old = before.find((known) => keyOf(known) === keyOf(row));
      const change = await this.#parts.mappings.put(at, row, peer);
      const name = `${row.kind} ${row.there} of ${peer.site_name}`;
      const details = change === 'none' ? [] : [`${old?.here ?? 'nothing'} -> ${row.here}`];
      changes.push({ kind: 'mapping', name, change, details });
    }
    const groups = await listGroups(at);
    const all = file.groups ?? [];
    // A second one of the same name is told as an error later.
    const first = all.filter(({ name }, index) => all.findIndex((group) => group.name === name) === index);
    for (const document of first) {
      const old = groups.find(({ name }) => name === document.name);
      const change = changeOf('group', old?.document, document);
      if (change.change !== 'none') await this.#parts.groups.put(at, old, document);
      changes.push(change);
    }
    const plan = (await listPlans(at)).find(({ name }) => name === file.plan.name);
    const change = changeOf('plan', plan?.document, file.plan);
    if (change.change !== 'none') await this.#parts.plans.put(at, plan, file.plan);
    changes.push(change);
    return changes;
  }

  /** Of everything as it is then. */
  async #check(at: Database, file: PlanFile, findings: Findings): Promise<void> {
    const facts = await readFacts(this.#context, at);
    const changed = file.groups ?? [];
    for (const [index, document] of changed.entries()) {
      if (changed.findIndex(({ name }) => name === document.name) < index) {
        findings.error({
          code: 'already_exists',
          message: `group ${document.name} is in the file twice`,
          hint: 'Keep one of them, or give them different names.',
          at: ['groups', index, 'name'],
        });
      } else checkGroup(document, facts, findings, ['groups', index]);
    }
    for (const plan of await listPlans(at)) {
      if (plan.name === file.plan.name) findings.take(surveyPlan(plan, facts).problems);
      else if (plan.document.groups.some((name) => changed.some((group) => group.name === name))) {
        const broken = surveyPlan(plan, facts).problems.filter(({ severity }) => severity === 'error');
        findings.take(broken.map((problem): PlanProblem => ofOtherPlan(plan.name, problem)));
      }
    }
  }
}

function ofOtherPlan(name: string, problem: PlanProblem): PlanProblem {
  const message = `recovery plan ${name} would be broken: ${problem.message}`.slice(0, 4096);
  return { ...problem, message, at: '/groups' };
}

function changeOf(
  kind: 'group' | 'plan',
  before: { name: string } | undefined,
  after: { name: string },
): Change {
  const { name } = after;
  if (before === undefined) return { kind, name, change: 'added', details: [] };
  const details = differences(before, after);
  return { kind, name, change: details.length === 0 ? 'none' : 'changed', details };
}

function keyOf({ peer_site_id: id, kind, there }: MappingRecord): string {
  return JSON.stringify([id, kind, there]);
}

/** What `work` throws is found at that place; what only a bug can cause goes on. */
async function found(
  findings: Findings,
  at: readonly (string | number)[],
  work: () => Promise<void>,
): Promise<void> {
  try {
    await work();
  } catch (error) {
    const failure = failureIn(error);
    if (failure === undefined) throw error;
    findings.error({ code: failure.code, message: failure.message, hint: failure.hint ?? '', at });
  }
}
