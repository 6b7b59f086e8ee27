/** The things of the API by their names. All of them come from the OpenAPI document (tools/api-types.ts). */
import type { Api } from './generated/api.ts';

export type Call = keyof Api;
export type Reply<Name extends Call> = Api[Name]['reply'];
export type Body<Name extends Call> = Api[Name]['body'];
export type Query<Name extends Call> = Api[Name]['query'];
type Item<Name extends Call> = Reply<Name> extends { items: readonly (infer One)[] } ? One : never;

export type Overview = Reply<'GET /api/v1/overview'>;
export type Need = Overview['needs'][number];
export type Flow = Overview['flows'][number];
export type Site = Overview['sites'][number];
export type VmTable = Reply<'GET /api/v1/vm-table'>;
export type VmTableQuery = Query<'GET /api/v1/vm-table'>;
export type VmRow = VmTable['items'][number];
export type Standing = VmRow['standing'];
export type VmStatus = VmRow['statuses'][number];
export type Problem = NonNullable<VmStatus['failure']>;
export type Vm = Item<'GET /api/v1/vms'>;
export type Host = Item<'GET /api/v1/hosts'>;
export type ReplicationServer = Item<'GET /api/v1/replication-servers'>;
export type Readiness = Item<'GET /api/v1/readiness'>;
export type Finding = Readiness['findings'][number];
export type Event = Item<'GET /api/v1/events'>;
export type Protection = Reply<'GET /api/v1/protections/{id}'>;
export type ProtectionChange = Body<'POST /api/v1/protections/{id}'>;
export type Point = Item<'GET /api/v1/points'>;
export type Recovery = Reply<'GET /api/v1/recoveries/{id}'>;
export type Run = Reply<'GET /api/v1/runs/{id}'>;
export type RunStep = NonNullable<Run['steps']>[number];
export type RunVm = Run['vms'][number];
export type RunKind = Run['kind'];
export type User = Item<'GET /api/v1/users'>;
export type Session = Item<'GET /api/v1/sessions'>;
export type PlanFile = Body<'POST /api/v1/plan-files'>['file'];
export type PlanVm = NonNullable<PlanFile['plan']['vms']>[string];
export type Plan = Item<'GET /api/v1/plans'>;
export type Report = Item<'GET /api/v1/reports'>;
