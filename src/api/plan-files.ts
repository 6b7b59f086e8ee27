/** A recovery plan with all that it stands on, as one file; and what is found when one is checked. */
import { Type, type Static } from 'typebox';
import { closed, Id, Name, nullable, Text } from './common.ts';
import {
  GroupDocument,
  InterfaceAddresses,
  Mapping,
  MappingKind,
  PlanDocument,
  PlanName,
  PlanView,
} from './plans.ts';

/**
 * `error`: it cannot be kept. `blocks_runs`: it can be kept, for what is missing may be added to the site, and no run
 * of it begins until then. `warning`: worth a look.
 */
export const PlanProblem = Type.Object(
  {
    severity: Type.Union([Type.Literal('error'), Type.Literal('blocks_runs'), Type.Literal('warning')]),
    code: Type.String(),
    message: Text,
    hint: nullable(Text),
    /** Where, as a JSON pointer into the plan's file, such as /plan/vms/web/depends_on/0. */
    at: Type.String({ maxLength: 4096 }),
  },
  closed,
);
export type PlanProblem = Static<typeof PlanProblem>;

/** Everything that a plan needs at its site. Mappings and groups that are not in it stay as they are. */
export const PlanFile = Type.Object(
  {
    mappings: Type.Optional(Type.Array(Mapping, { maxItems: 1000 })),
    groups: Type.Optional(Type.Array(GroupDocument, { maxItems: 100 })),
    plan: PlanDocument,
  },
  closed,
);
export type PlanFile = Static<typeof PlanFile>;

export const ImportRequest = Type.Object(
  { file: PlanFile, /** Otherwise nothing is changed. */ apply: Type.Boolean() },
  closed,
);
export type ImportRequest = Static<typeof ImportRequest>;

export const ImportReply = Type.Object(
  {
    is_applied: Type.Boolean(),
    changes: Type.Array(
      Type.Object(
        {
          kind: Type.Union([Type.Literal('mapping'), Type.Literal('group'), Type.Literal('plan')]),
          name: Type.String(),
          change: Type.Union([Type.Literal('added'), Type.Literal('changed'), Type.Literal('none')]),
          /** What differs, one thing in each. */
          details: Type.Array(Text),
        },
        closed,
      ),
    ),
    problems: Type.Array(PlanProblem),
  },
  closed,
);
export type ImportReply = Static<typeof ImportReply>;

export const SavedPlan = Type.Object({ plan: PlanView, problems: Type.Array(PlanProblem) }, closed);
export type SavedPlan = Static<typeof SavedPlan>;

export const PlanChange = Type.Object(
  { /** That the change was made from. */ revision: Type.Integer({ minimum: 1 }), document: PlanDocument },
  closed,
);

export const GroupMembers = Type.Object(
  {
    add: Type.Optional(Type.Array(Name, { maxItems: 1000, uniqueItems: true })),
    remove: Type.Optional(Type.Array(Name, { maxItems: 1000, uniqueItems: true })),
  },
  closed,
);
export type GroupMembers = Static<typeof GroupMembers>;

export const MappingView = Type.Object(
  { site_id: Id, site_name: Name, kind: MappingKind, there: Type.String(), here: Type.String() },
  closed,
);
export type MappingView = Static<typeof MappingView>;

export const MappingRequest = Type.Object(
  { ...Mapping.properties, /** The reverse one at that site, too. */ both: Type.Optional(Type.Boolean()) },
  closed,
);
export type MappingRequest = Static<typeof MappingRequest>;

export const SavedMapping = Type.Object({ mapping: MappingView, notices: Type.Array(Text) }, closed);
export type SavedMapping = Static<typeof SavedMapping>;

export const MappingQuery = Type.Object(
  { site: Name, kind: MappingKind, there: Type.String({ minLength: 1, maxLength: 1024 }) },
  closed,
);
export type MappingQuery = Static<typeof MappingQuery>;

/** A VM of a plan as a run would take it, with mappings and dependencies looked up. */
export const PlanVmView = Type.Object(
  {
    replica_id: Id,
    vm_uuid: Type.String(),
    vm_name: Name,
    group: PlanName,
    /** Never later than that of a VM that depends on it. */
    priority: Type.Integer({ minimum: 1, maximum: 5 }),
    /** Names of VMs. */
    depends_on: Type.Array(Name),
    start: Type.String(),
    networks: Type.Record(Name, Name),
    host: nullable(Name),
    storage_path: nullable(Text),
  },
  closed,
);
export type PlanVmView = Static<typeof PlanVmView>;

/** A plan, and what is to be known of it as things are now. */
export const PlanDetails = Type.Object(
  { plan: PlanView, vms: Type.Array(PlanVmView), problems: Type.Array(PlanProblem) },
  closed,
);
export type PlanDetails = Static<typeof PlanDetails>;

/** What addresses each VM of a plan has now, and what it is given here. */
export const PlanAddresses = Type.Object(
  {
    vms: Type.Array(
      Type.Object(
        {
          vm_uuid: Type.String(),
          vm_name: Name,
          source_site_name: Name,
          /** Null leaves the guest its own. */
          host_name: nullable(Type.String()),
          customize_by: Type.String(),
          interfaces: Type.Array(
            Type.Object(
              {
                nic: InterfaceAddresses.properties.nic,
                mac: nullable(Type.String()),
                /** At the protected site, and here. */
                network: nullable(Name),
                network_here: nullable(Name),
                before: Type.Array(Type.String()),
                /** Null when nothing is changed; what it does not name stays as it is. */
                after: nullable(InterfaceAddresses),
                /** The rules of the plan that were used, from 1. */
                rules: Type.Array(Type.Integer()),
              },
              closed,
            ),
          ),
        },
        closed,
      ),
    ),
    problems: Type.Array(PlanProblem),
  },
  closed,
);
export type PlanAddresses = Static<typeof PlanAddresses>;
