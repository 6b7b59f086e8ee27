/** The steps of a plan: a program in a guest has to have a guest, and one that is up by then. Pure. */
import type { PlanDocument, PlanStep } from '#/api/plans.ts';
import type { Findings } from './findings.ts';
import { memberOf, type Member } from './plan-members.ts';
import type { Place } from './plan-order.ts';

/** Where a list of steps stands. */
type Spot = {
  at: readonly (string | number)[];
  /** The VM whose own steps they are. */
  owner?: Member;
  /** Whether a VM is up when they are done. */
  isUp: (member: Member) => boolean;
};

export class StepCheck {
  readonly #members: readonly Member[];
  readonly #places: ReadonlyMap<string, Place>;
  readonly #findings: Findings;

  constructor(members: readonly Member[], places: ReadonlyMap<string, Place>, findings: Findings) {
    this.#members = members;
    this.#places = places;
    this.#findings = findings;
  }

  /** The steps of the plan and of its priorities, with the VMs of programs in guests by their UUIDs. */
  ofPlan(plan: PlanDocument) {
    const steps = (of: readonly PlanStep[] | undefined, spot: Spot): PlanStep[] => this.#steps(of, spot);
    const priorities: Record<string, { before: PlanStep[]; after: PlanStep[] }> = {};
    for (const [priority, around] of Object.entries(plan.priorities ?? {})) {
      const at = ['plan', 'priorities', priority];
      const number = Number(priority);
      priorities[priority] = {
        before: steps(around.before, {
          at: [...at, 'before'],
          isUp: (member) => this.#priorityOf(member) < number,
        }),
        after: steps(around.after, {
          at: [...at, 'after'],
          isUp: (member) => this.#priorityOf(member) <= number,
        }),
      };
    }
    return {
      before: steps(plan.before, { at: ['plan', 'before'], isUp: () => false }),
      after: steps(plan.after, { at: ['plan', 'after'], isUp: () => true }),
      priorities,
    };
  }

  ofVm(owner: Member): { before: PlanStep[]; after: PlanStep[] } {
    const at = ['plan', 'vms', owner.key];
    const { before, after } = owner.settings;
    const priority = this.#priorityOf(owner);
    const { dependsOn } = this.#places.get(owner.replica.vm_uuid)!;
    const isUpBefore = (member: Member): boolean =>
      this.#priorityOf(member) < priority || dependsOn.includes(member.replica.vm_uuid);
    return {
      before: this.#steps(before, { at: [...at, 'before'], owner, isUp: isUpBefore }),
      after: this.#steps(after, {
        at: [...at, 'after'],
        owner,
        isUp: (member) => member === owner || isUpBefore(member),
      }),
    };
  }

  #priorityOf(member: Member): number {
    return this.#places.get(member.replica.vm_uuid)!.priority;
  }

  #steps(steps: readonly PlanStep[] | undefined, spot: Spot): PlanStep[] {
    return (steps ?? []).map((step, index) => {
      if (step.kind !== 'guest') return step;
      const at = [...spot.at, index];
      const member = step.vm === undefined ? spot.owner : memberOf(this.#members, step.vm);
      if (member === undefined) this.#refuseVm(step, at);
      else this.#checkIsUp(step.name, member, { at, isUp: spot.isUp });
      return { ...step, vm: member?.replica.vm_uuid ?? step.vm ?? '' };
    });
  }

  #refuseVm(step: PlanStep & { kind: 'guest' }, at: readonly (string | number)[]): void {
    if (step.vm === undefined) {
      this.#findings.error({
        code: 'usage_invalid',
        message: `step "${step.name}" runs a program in a guest, and says in which VM neither by "vm" nor by its place`,
        hint: 'Add "vm" to it, or move it to the steps of a VM.',
        at,
      });
    } else {
      this.#findings.error({
        code: 'not_found',
        message: `step "${step.name}" runs in VM ${step.vm}, which is not in the plan`,
        hint: 'Name a VM of the plan.',
        at: [...at, 'vm'],
      });
    }
  }

  #checkIsUp(name: string, member: Member, { at, isUp }: Pick<Spot, 'at' | 'isUp'>): void {
    const { vm_name: vm } = member.replica;
    if (member.settings.start === 'off') {
      this.#findings.error({
        code: 'conflict',
        message: `step "${name}" runs in VM ${vm}, which the plan leaves off`,
        hint: `Let ${vm} start, or take the step out.`,
        at,
      });
    } else if (!isUp(member)) {
      this.#findings.error({
        code: 'conflict',
        message: `step "${name}" runs in VM ${vm} before that is up`,
        hint: `Move it to steps after ${vm} has come up: its own, those after its priority, or the plan's.`,
        at,
      });
    }
  }
}
