/**
 * What a site that runs the VMs of a plan tells the site that they came from, so that this one can bring them home: the
 * plan as its last run there had it, with those VMs of the asking site alone that run there now (docs/failback.md).
 */
import { Type, type Static } from 'typebox';
import { closed, Id, Name } from './common.ts';
import { HealthProbe, PlanName, PlanStep } from './plans.ts';

const Uuid = Type.String({ maxLength: 36, pattern: '^[0-9A-Fa-f-]+$' });
const Steps = Type.Array(PlanStep, { maxItems: 64 });
const Around = Type.Object({ before: Steps, after: Steps }, closed);

export const MovedVm = Type.Object(
  {
    vm_uuid: Uuid,
    vm_name: Name,
    priority: Type.Integer({ minimum: 1, maximum: 5 }),
    depends_on: Type.Array(Uuid, { maxItems: 100 }),
    start: Type.Union([Type.Literal('on'), Type.Literal('off')]),
    shut_down: Type.Union([Type.Literal('guest'), Type.Literal('power_off')]),
    shut_down_timeout_ms: Type.Integer({ minimum: 1, maximum: 7 * 86_400_000 }),
    health: Type.Array(HealthProbe, { maxItems: 16 }),
    before: Steps,
    after: Steps,
    /** The run gave its guest other addresses there, and kept those that it had in the guest. */
    has_other_addresses: Type.Boolean(),
  },
  closed,
);
export type MovedVm = Static<typeof MovedVm>;

export const MovedPlan = Type.Object(
  {
    run_id: Id,
    plan: PlanName,
    vms: Type.Array(MovedVm, { minItems: 1, maxItems: 10_000 }),
    before: Steps,
    after: Steps,
    priorities: Type.Record(Type.String({ pattern: '^[1-5]$' }), Around),
  },
  closed,
);
export type MovedPlan = Static<typeof MovedPlan>;
