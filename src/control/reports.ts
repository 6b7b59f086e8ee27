/** What agents and replication servers report to their manager. The counterpart of orders.ts. */
import { Type, type Static } from 'typebox';
import { BOOKMARKS_MAX } from './orders.ts';
import { RETIRED_MAX, RetiredReport } from './retire-tasks.ts';
import { DiskRoot } from './handover-tasks.ts';
import { Hardware, HostCapabilities } from './hardware.ts';

const Id = Type.String({ pattern: '^[0-9a-z][0-9a-z-]{0,63}$' });
const Name = Type.String({ minLength: 1, maxLength: 255, pattern: '^[^/\\x00-\\x1f]+$' });
const Text = Type.String({ maxLength: 4096 });
const Milliseconds = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
const Bytes = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
const closed = { additionalProperties: false };
const nullable = <T extends Parameters<typeof Type.Union>[0][number]>(type: T) =>
  Type.Union([type, Type.Null()]);

/** A code of the table in src/lib/failure.ts, of the reporter's version. */
const Code = Type.String({ pattern: '^[a-z][a-z0-9_]{0,63}$' });

export const FailureReport = Type.Object({ code: Code, message: Text, hint: nullable(Text) }, closed);
export type FailureReport = Static<typeof FailureReport>;

/** A network interface in the definition's order, and the addresses with prefix lengths that its guest told of it. */
export const InterfaceReport = Type.Object(
  {
    mac: Type.String({ pattern: '^([0-9a-f]{2}:){5}[0-9a-f]{2}$' }),
    network: nullable(Name),
    addresses: Type.Array(Type.String({ maxLength: 64 }), { maxItems: 32 }),
  },
  closed,
);
export type InterfaceReport = Static<typeof InterfaceReport>;

/** One VM of a host. `refusals` says why it cannot be protected; empty when it can. */
export const VmReport = Type.Object(
  {
    uuid: Type.String({ maxLength: 36 }),
    name: Name,
    state: Type.String({ maxLength: 32 }),
    memory_bytes: Bytes,
    vcpu_count: Type.Integer({ minimum: 0 }),
    /** Set on VMs that a recovery brought up here. */
    recovered_by_task: nullable(Id),
    disks: Type.Array(
      Type.Object(
        {
          key: Name,
          bytes: Bytes,
          /** What the disk takes on the host's storage; absent when that is not known. */
          allocated_bytes: Type.Optional(Bytes),
          format: Type.String({ maxLength: 32 }),
          path: Text,
          refusal: nullable(Text),
        },
        closed,
      ),
      { maxItems: 256 },
    ),
    networks: Type.Array(Name, { maxItems: 64 }),
    interfaces: Type.Optional(Type.Array(InterfaceReport, { maxItems: 64 })),
    hardware: Type.Optional(Hardware),
    refusals: Type.Array(Text, { maxItems: 64 }),
  },
  closed,
);
export type VmReport = Static<typeof VmReport>;

/** How a host's copy of a VM stands that runs at another site; a host without a copy says nothing. */
export const FenceReport = Type.Object(
  {
    vm_uuid: Type.String({ maxLength: 36 }),
    vm_name: Name,
    /** Of the claim that is on disk here. */
    epoch: Type.Integer({ minimum: 1 }),
    site_id: Id,
    /** yielded: the copy does not run. failing: it may. */
    state: Type.Union([Type.Literal('yielded'), Type.Literal('failing')]),
    /** libvirt's word for its state; empty when that is not known. */
    vm_state: Type.String({ maxLength: 32 }),
    /** When it yielded; null while it has not. */
    yielded_ms: nullable(Milliseconds),
    failure: nullable(FailureReport),
  },
  closed,
);
export type FenceReport = Static<typeof FenceReport>;

/** Whether libvirt was seen to refuse a start by our hook. */
export const StartHookReport = Type.Object(
  { is_working: Type.Boolean(), checked_ms: nullable(Milliseconds), failure: nullable(FailureReport) },
  closed,
);
export type StartHookReport = Static<typeof StartHookReport>;

/** How the replication of one VM stands, as its agent knows it. */
export const ReplicationReport = Type.Object(
  {
    replica_id: Id,
    state: Type.Union([
      Type.Literal('starting'),
      Type.Literal('first_copy'),
      Type.Literal('replicating'),
      Type.Literal('comparing'),
      Type.Literal('waiting'),
      Type.Literal('failing'),
      Type.Literal('stopped'),
    ]),
    /** Sequence and moment of the newest acknowledged point. */
    sequence: nullable(Type.Integer({ minimum: 1 })),
    moment_ms: nullable(Milliseconds),
    /** Age by which a point that is acknowledged now is older than now: RPO holds while this stays below it. */
    last_cycle: nullable(
      Type.Object(
        {
          started_ms: Milliseconds,
          duration_ms: Milliseconds,
          read_bytes: Bytes,
          changed_bytes: Bytes,
          wire_bytes: Bytes,
        },
        closed,
      ),
    ),
    /** Of the running cycle: bytes looked at, and how many there are. */
    progress: nullable(Type.Object({ done_bytes: Bytes, total_bytes: Bytes }, closed)),
    failure: nullable(FailureReport),
    /** Things worth a person's look that stop nothing, such as an added disk that is not replicated. */
    notices: Type.Array(Text, { maxItems: 16 }),
  },
  closed,
);
export type ReplicationReport = Static<typeof ReplicationReport>;

/** A replica as its server knows it. Points are its newest, at most POINTS_REPORTED_MAX of them. */
export const ReplicaReport = Type.Object(
  {
    replica_id: Id,
    vm_uuid: Type.String({ maxLength: 36 }),
    vm_name: Name,
    /** The site it is a replica from, as the replica itself says. */
    source_site_id: Type.Optional(Id),
    epoch: Type.Integer({ minimum: 0 }),
    state: Type.Union([
      Type.Literal('empty'),
      Type.Literal('first_copy'),
      Type.Literal('ready'),
      Type.Literal('broken'),
    ]),
    points: Type.Array(
      Type.Object(
        {
          sequence: Type.Integer({ minimum: 1 }),
          stamp: Type.String({ maxLength: 32 }),
          moment_ms: Milliseconds,
          acknowledged_ms: Milliseconds,
          consistency: Type.String({ maxLength: 16 }),
          delta_bytes: Bytes,
          /** Of its disks; said of the newest points of a powered-off VM, which a handover compares. */
          roots: Type.Optional(Type.Array(DiskRoot, { maxItems: 64 })),
        },
        closed,
      ),
      { maxItems: 2000 },
    ),
    point_count: Type.Integer({ minimum: 0 }),
    /** Those of them that it keeps whatever their age, as it was ordered. They are among `points`. */
    bookmarked: Type.Optional(Type.Array(Type.Integer({ minimum: 1 }), { maxItems: BOOKMARKS_MAX })),
    stored_bytes: Bytes,
    failure: nullable(FailureReport),
  },
  closed,
);
export type ReplicaReport = Static<typeof ReplicaReport>;
export const POINTS_REPORTED_MAX = 2000;
/** Of the newest points, so many come with their roots. */
export const ROOTS_REPORTED_MAX = 16;

/** How a task stands. `result` has the shape its kind names; the steps so far are kept for people to read. */
export const TaskReport = Type.Object(
  {
    id: Id,
    state: Type.Union([Type.Literal('running'), Type.Literal('done'), Type.Literal('failed')]),
    steps: Type.Array(
      Type.Object(
        { name: Text, started_ms: Milliseconds, ended_ms: nullable(Milliseconds), note: nullable(Text) },
        closed,
      ),
      { maxItems: 64 },
    ),
    progress: nullable(Type.Object({ done_bytes: Bytes, total_bytes: Bytes }, closed)),
    result: nullable(Type.Record(Type.String({ maxLength: 64 }), Type.Unknown())),
    failure: nullable(FailureReport),
  },
  closed,
);
export type TaskReport = Static<typeof TaskReport>;

/** An exact moment at which something began or ended: an RPO violation, a lost link, a compared disk. */
export const EventReport = Type.Object(
  {
    /** Unique for its reporter, so that a repeated report is one event. */
    id: Id,
    at_ms: Milliseconds,
    kind: Type.String({ pattern: '^[a-z][a-z0-9_.]{0,63}$' }),
    severity: Type.Union([Type.Literal('info'), Type.Literal('warning'), Type.Literal('error')]),
    subject: Type.Object({ kind: Type.String({ maxLength: 32 }), id: Text }, closed),
    message: Text,
  },
  closed,
);
export type EventReport = Static<typeof EventReport>;

const MachineIdentity = Type.String({ pattern: '^[0-9a-f]{32}$' });

export const AgentReport = Type.Object(
  {
    sent_ms: Milliseconds,
    host: Type.Object(
      {
        hostname: Name,
        /** The machine it runs on, as its programs know it (machine-identity.ts). */
        machine: MachineIdentity,
        libvirt_version: Type.String({ maxLength: 32 }),
        /** Absent while libvirt cannot be reached. */
        libvirt_failure: nullable(FailureReport),
        memory_bytes: Bytes,
        cpu_count: Type.Integer({ minimum: 0 }),
        networks: Type.Array(Name, { maxItems: 256 }),
        storage_path: Text,
        storage_free_bytes: Bytes,
        start_hook: Type.Optional(StartHookReport),
        /** What edits disks of VMs that do not run is installed; absent when nobody has looked. */
        edits_disks: Type.Optional(Type.Boolean()),
        capabilities: Type.Optional(HostCapabilities),
      },
      closed,
    ),
    vms: Type.Array(VmReport, { maxItems: 10_000 }),
    replications: Type.Array(ReplicationReport, { maxItems: 10_000 }),
    fences: Type.Optional(Type.Array(FenceReport, { maxItems: 20_000 })),
    retired: Type.Optional(Type.Array(RetiredReport, { maxItems: RETIRED_MAX })),
    tasks: Type.Array(TaskReport, { maxItems: 1000 }),
    events: Type.Array(EventReport, { maxItems: 1000 }),
  },
  closed,
);
export type AgentReport = Static<typeof AgentReport>;

export const ServerReport = Type.Object(
  {
    sent_ms: Milliseconds,
    /** Where agents of other sites reach it. */
    endpoint: Type.Object(
      { host: Type.String({ maxLength: 255 }), port: Type.Integer({ minimum: 1, maximum: 65_535 }) },
      closed,
    ),
    machine: MachineIdentity,
    hostname: Type.Optional(Name),
    store_path: Text,
    store_free_bytes: Bytes,
    replicas: Type.Array(ReplicaReport, { maxItems: 100_000 }),
    tasks: Type.Array(TaskReport, { maxItems: 1000 }),
    events: Type.Array(EventReport, { maxItems: 1000 }),
  },
  closed,
);
export type ServerReport = Static<typeof ServerReport>;
