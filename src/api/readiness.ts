/** Whether a recovery plan could be run now, and what it would be worth (docs/operate/readiness.md). */
import { Type, type Static } from 'typebox';
import { closed, Id, Milliseconds, Name, nullable, Text } from './common.ts';
import { PlanName } from './plans.ts';

const SubjectKind = Type.Union([
  Type.Literal('plan'),
  Type.Literal('vm'),
  Type.Literal('host'),
  Type.Literal('replication-server'),
  Type.Literal('site'),
]);

export const ReadinessFinding = Type.Object(
  {
    /** error: the plan, or one of its VMs, would not come up. warning: it would, but worse than it should. */
    severity: Type.Union([Type.Literal('error'), Type.Literal('warning'), Type.Literal('info')]),
    /** One of the table in docs/operate/readiness.md. */
    code: Type.String({ pattern: '^[a-z][a-z0-9_]{0,63}$' }),
    subject: Type.Object(
      {
        kind: SubjectKind,
        id: Type.String({ maxLength: 255 }),
        name: Type.String({ maxLength: 255 }),
      },
      closed,
    ),
    text: Text,
    hint: nullable(Text),
    /** A path of this API that shows the subject. */
    link: nullable(Type.String({ maxLength: 512 })),
  },
  closed,
);
export type ReadinessFinding = Static<typeof ReadinessFinding>;

const Measured = Type.Object(
  {
    job_id: Id,
    at_ms: Milliseconds,
    /** Age of the recovery point when it was asked for. */
    rpo_ms: nullable(Milliseconds),
    /** From there to the sign of life. */
    rto_ms: Milliseconds,
  },
  closed,
);

export const VmReadiness = Type.Object(
  {
    vm_uuid: Type.String(),
    vm_name: Name,
    priority: Type.Integer(),
    host_name: nullable(Text),
    /** Of the newest recovery point. */
    age_ms: nullable(Milliseconds),
    rpo_ms: Milliseconds,
    /** What a disaster at the worst moment would lose, by the last cycles. */
    predicted_rpo_ms: nullable(Milliseconds),
    /** How long it took to its sign of life, the longest of its last tests. */
    predicted_rto_ms: nullable(Milliseconds),
    /** The newest test that brought it up. */
    proven: nullable(Measured),
  },
  closed,
);
export type VmReadiness = Static<typeof VmReadiness>;

export const ReadinessView = Type.Object(
  {
    plan: PlanName,
    plan_id: Id,
    /** No finding is an error. */
    is_ready: Type.Boolean(),
    checked_ms: Milliseconds,
    findings: Type.Array(ReadinessFinding),
    vms: Type.Array(VmReadiness),
    predicted_rpo_ms: nullable(Milliseconds),
    /** The priorities one after the other, the VMs of each together; null while a VM was never tested. */
    predicted_rto_ms: nullable(Milliseconds),
    /** When the last of its VMs was proven by a test; null while one never was. */
    proven_ms: nullable(Milliseconds),
  },
  closed,
);
export type ReadinessView = Static<typeof ReadinessView>;
