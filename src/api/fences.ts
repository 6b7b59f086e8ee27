/** Which site may run a VM, and how the hosts of this one stand to that. */
import { Type, type Static } from 'typebox';
import { closed, Id, Milliseconds, Name, nullable, Problem } from './common.ts';

/** A copy of a VM on a host of this site. */
export const FencedCopy = Type.Object(
  {
    host_id: Id,
    host_name: Name,
    /** yielded: it does not run. failing: it may. unknown: its host does not report. */
    state: Type.Union([Type.Literal('yielded'), Type.Literal('failing'), Type.Literal('unknown')]),
    /** libvirt's word. */
    vm_state: Type.String(),
    yielded_ms: nullable(Milliseconds),
    failure: nullable(Problem),
  },
  closed,
);

export const FenceView = Type.Object(
  {
    vm_uuid: Type.String(),
    vm_name: Name,
    /** Rises at every change of site. */
    epoch: Type.Integer({ minimum: 1 }),
    /** The site that may run the VM. */
    site_id: Id,
    site_name: Name,
    is_here: Type.Boolean(),
    claimed_ms: Milliseconds,
    /** Copies at this site that must not run. */
    copies: Type.Array(FencedCopy),
  },
  closed,
);
export type FenceView = Static<typeof FenceView>;

export const ReleaseRequest = Type.Object(
  {
    /** Although the VM runs at the other site, or nobody there can be asked. */
    force: Type.Optional(Type.Boolean()),
  },
  closed,
);
export type ReleaseRequest = Static<typeof ReleaseRequest>;
