/** What is wrong at a site until it is not any more (docs/operate/alarms.md). */
import { Type, type Static } from 'typebox';
import { closed, Id, Milliseconds, nullable, Text } from './common.ts';

/** critical: a VM is without the protection that its owner asked for. warning: it will be, if nobody looks. */
export const AlarmSeverity = Type.Union([Type.Literal('critical'), Type.Literal('warning')]);
export type AlarmSeverity = Static<typeof AlarmSeverity>;

export const AlarmKind = Type.Union([
  Type.Literal('rpo_missed'),
  Type.Literal('rpo_at_risk'),
  Type.Literal('replication_stopped'),
  Type.Literal('replica_damaged'),
  Type.Literal('two_copies'),
  Type.Literal('host_silent'),
  Type.Literal('libvirt_away'),
  Type.Literal('server_silent'),
  Type.Literal('site_away'),
  Type.Literal('space_short'),
  Type.Literal('certificate_ends'),
  Type.Literal('plan_unready'),
  Type.Literal('plan_unproven'),
  Type.Literal('break_glass_used'),
]);
export type AlarmKind = Static<typeof AlarmKind>;

export const AlarmView = Type.Object(
  {
    id: Id,
    kind: AlarmKind,
    severity: AlarmSeverity,
    subject: Type.Object(
      {
        kind: Type.String({ maxLength: 32 }),
        id: Type.String({ maxLength: 255 }),
        name: Type.String({ maxLength: 255 }),
      },
      closed,
    ),
    message: Text,
    hint: nullable(Text),
    raised_ms: Milliseconds,
    /** Null while it is so. */
    cleared_ms: nullable(Milliseconds),
    /** Somebody has it in hand; it stays until it is cleared. */
    acknowledged_ms: nullable(Milliseconds),
    acknowledged_by: nullable(Text),
    note: nullable(Text),
  },
  closed,
);
export type AlarmView = Static<typeof AlarmView>;

export const AlarmAcknowledgement = Type.Object(
  { note: Type.Optional(Type.String({ maxLength: 1024 })) },
  closed,
);
