/** Reports of recoveries, tests and plan runs: what happened, what it cost, signed by the site. */
import { Type, type Static } from 'typebox';
import { closed, Id, Milliseconds, Name, nullable, Text } from './common.ts';

const Kind = Type.Union([
  Type.Literal('test'),
  Type.Literal('recovery'),
  Type.Literal('migration'),
  Type.Literal('disaster'),
  Type.Literal('failback'),
]);

export const ReportStep = Type.Object(
  {
    name: Text,
    state: Type.String({ maxLength: 32 }),
    started_ms: nullable(Milliseconds),
    ended_ms: nullable(Milliseconds),
    note: nullable(Text),
    failure: nullable(Text),
  },
  closed,
);
export type ReportStep = Static<typeof ReportStep>;

export const ReportVm = Type.Object(
  {
    vm_uuid: Type.String({ maxLength: 36 }),
    vm_name: Name,
    /** Under which it came up here. */
    name: Name,
    host_name: Text,
    priority: nullable(Type.Integer()),
    state: Type.String({ maxLength: 32 }),
    point: nullable(Type.Integer()),
    moment_ms: nullable(Milliseconds),
    wanted_rpo_ms: nullable(Milliseconds),
    /** Age of the recovery point when the run was asked for. */
    rpo_ms: nullable(Milliseconds),
    /** From there to the sign of life. */
    rto_ms: nullable(Milliseconds),
    steps: Type.Array(ReportStep),
    failure: nullable(Text),
    hint: nullable(Text),
    /** PNG of its screen, as base64; or why there is none. */
    picture: nullable(Type.String()),
    picture_failure: nullable(Text),
  },
  closed,
);
export type ReportVm = Static<typeof ReportVm>;

export const RunReport = Type.Object(
  {
    version: Type.Literal(1),
    /** That of the recovery, or of the run. */
    id: Id,
    site_id: Id,
    site_name: Name,
    kind: Kind,
    plan: nullable(Text),
    started_by: nullable(Text),
    outcome: Type.Union([Type.Literal('passed'), Type.Literal('failed')]),
    started_ms: Milliseconds,
    ended_ms: Milliseconds,
    failure: nullable(Text),
    warnings: Type.Array(Text),
    vms: Type.Array(ReportVm),
    /** Of the plan, around its VMs. */
    steps: Type.Array(ReportStep),
  },
  closed,
);
export type RunReport = Static<typeof RunReport>;

export const ReportFile = Type.Object(
  {
    name: Type.String({ maxLength: 64 }),
    bytes: Type.Integer({ minimum: 0 }),
    sha256: Type.String({ pattern: '^[0-9a-f]{64}$' }),
    /** By the site's authority (docs/operate/reports.md). */
    signature: Type.String({ pattern: '^[\\w-]{86}$' }),
  },
  closed,
);
export type ReportFile = Static<typeof ReportFile>;

export const ReportSummary = Type.Object(
  {
    id: Id,
    site_id: Id,
    kind: Kind,
    plan: nullable(Text),
    vms: Type.Array(Name),
    outcome: Type.Union([Type.Literal('passed'), Type.Literal('failed')]),
    started_ms: Milliseconds,
    ended_ms: Milliseconds,
    files: Type.Array(ReportFile),
  },
  closed,
);
export type ReportSummary = Static<typeof ReportSummary>;

export const ReportAuthority = Type.Object({ site_id: Id, site_name: Name, ca_pem: Type.String() }, closed);
export type ReportAuthority = Static<typeof ReportAuthority>;

/** One for each VM of a report, in its order. */
export const ReportPicture = Type.Object(
  {
    /** Its number in the address of the PNG. */
    picture: Type.Integer({ minimum: 0 }),
    vm_uuid: Type.String({ maxLength: 36 }),
    name: Name,
    /** Why there is none. */
    failure: nullable(Text),
  },
  closed,
);
export type ReportPicture = Static<typeof ReportPicture>;
