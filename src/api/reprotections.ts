/** Protecting a VM that was recovered here, back to the site that it came from. */
import { Type, type Static } from 'typebox';
import { closed, Id, Milliseconds, Name, nullable, Problem } from './common.ts';

export const ReprotectionRequest = Type.Object(
  {
    /** Name or UUID. */
    vm: Name,
    /** Instead of that of the replica it was recovered from. */
    rpo_ms: Type.Optional(Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })),
  },
  closed,
);
export type ReprotectionRequest = Static<typeof ReprotectionRequest>;

/** How a replica of this site was filled from the old copy of its VM that a host here has. */
export const SeedView = Type.Object(
  {
    replica_id: Id,
    vm_name: Name,
    /** seeding until the replica may be written by the site that runs the VM. */
    state: Type.String(),
    /** The recovery point that is the old copy; null when there is none. */
    sequence: nullable(Type.Integer({ minimum: 1 })),
    note: nullable(Type.String()),
    host_id: nullable(Id),
    steps: Type.Array(
      Type.Object(
        {
          name: Type.String(),
          started_ms: Milliseconds,
          ended_ms: nullable(Milliseconds),
          note: nullable(Type.String()),
        },
        closed,
      ),
    ),
    progress: nullable(Type.Object({ done_bytes: Type.Integer(), total_bytes: Type.Integer() }, closed)),
    /** What was written here and never reached the other site; null when that is not known. */
    only_here: nullable(
      Type.Object(
        {
          /** The last point that the other site had acknowledged. */
          sequence: Type.Integer(),
          /** Written after its moment, ... */
          after_ms: Milliseconds,
          /** ... and before the images were written last. */
          until_ms: Milliseconds,
          bytes: Type.Integer(),
          extent_count: Type.Integer(),
          /** The first of them. */
          extents: Type.Array(
            Type.Object({ disk: Name, offset: Type.Integer(), length: Type.Integer() }, closed),
          ),
        },
        closed,
      ),
    ),
    failure: nullable(Problem),
  },
  closed,
);
export type SeedView = Static<typeof SeedView>;

/** How one VM that a run of a plan brought up stands on its way to being protected to the site that it came from. */
export const RunReprotectionVm = Type.Object(
  {
    vm_uuid: Type.String(),
    vm_name: Name,
    /** The site that it came from. */
    site_id: Id,
    site_name: Name,
    /**
     * not_here: it did not come up, or runs elsewhere by now; recovering: its recovery has not come to its end;
     * unprotected: nothing is under way; the others as of a protection.
     */
    state: Type.Union([
      Type.Literal('not_here'),
      Type.Literal('recovering'),
      Type.Literal('unprotected'),
      Type.Literal('requested'),
      Type.Literal('seeding'),
      Type.Literal('active'),
    ]),
    protection_id: nullable(Id),
    rpo_ms: nullable(Milliseconds),
    /** What keeps it from going on, or why the other site refused it. */
    failure: nullable(Problem),
  },
  closed,
);
export type RunReprotectionVm = Static<typeof RunReprotectionVm>;

export const RunReprotection = Type.Object(
  { run_id: Id, plan: Name, vms: Type.Array(RunReprotectionVm) },
  closed,
);
export type RunReprotection = Static<typeof RunReprotection>;
