/** How every protected VM stands, at either end. Nothing in it is claimed beyond what was reported lately. */
import { Type, type Static } from 'typebox';
import { closed, Id, Milliseconds, Name, nullable, Problem, Progress, Text } from './common.ts';

export const VmStatus = Type.Object(
  {
    vm_name: Name,
    vm_uuid: Type.String(),
    /** protected: the VM runs at this site. recovery: its replica is at this site. */
    role: Type.Union([Type.Literal('protected'), Type.Literal('recovery')]),
    protected_site: Name,
    recovery_site: Name,
    protection_id: nullable(Id),
    replica_id: nullable(Id),
    rpo_ms: Milliseconds,
    /** Newest point that can be recovered from, by the last report. */
    point: nullable(Type.Object({ sequence: Type.Integer(), moment_ms: Milliseconds }, closed)),
    /** How old that point is now. */
    age_ms: nullable(Milliseconds),
    /** none: there is no point yet. unknown: the last report is too old to tell. */
    rpo: Type.Union([
      Type.Literal('met'),
      Type.Literal('violated'),
      Type.Literal('none'),
      Type.Literal('unknown'),
    ]),
    violated_since_ms: nullable(Milliseconds),
    state: Type.String(),
    /** Since when nothing is known; null while reports come in. */
    unknown_since_ms: nullable(Milliseconds),
    progress: nullable(Progress),
    failure: nullable(Problem),
    notices: Type.Array(Text),
  },
  closed,
);
export type VmStatus = Static<typeof VmStatus>;

export const SiteStatus = Type.Object(
  {
    site_id: Id,
    site_name: Name,
    now_ms: Milliseconds,
    vms: Type.Array(VmStatus),
    total: Type.Integer(),
  },
  closed,
);
export type SiteStatus = Static<typeof SiteStatus>;
