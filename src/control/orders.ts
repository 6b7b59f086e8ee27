/**
 * What a manager tells the programs of its site, and what they report back (docs/architecture.md, "Control").
 *
 * Programs dial out over mutual TLS: they long-poll their orders and post reports. Orders are the whole wanted
 * state with a revision, so losing one loses nothing; programs keep the last ones on disk and go on by them for as
 * long as the manager is away. Tasks are carried out at least once and are idempotent by their id.
 */
import { Type, type Static } from 'typebox';
import { ConsoleTask } from './console-task.ts';
import { DiskEdit, GuestTask } from './guest-tasks.ts';
import { HandoverTask } from './handover-tasks.ts';
import { PictureTask } from './picture-task.ts';
import { RemoveRetiredTask } from './retire-tasks.ts';
import { SeedTask } from './seed-tasks.ts';

const Id = Type.String({ pattern: '^[0-9a-z][0-9a-z-]{0,63}$' });
const Uuid = Type.String({ pattern: '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' });
/** A VM's or a disk's name, as libvirt allows it, without slashes and control characters. */
const Name = Type.String({ minLength: 1, maxLength: 255, pattern: '^[^/\\x00-\\x1f]+$' });
const Text = Type.String({ maxLength: 4096 });
const Milliseconds = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
const Bytes = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
const Pem = Type.String({ maxLength: 16_384 });
const closed = { additionalProperties: false };

/**
 * A certificate authority that this site trusts: its own, and one for each paired site. `manager` is where that site's
 * manager is reached: programs have no use for it, and tell it a manager that has lost its database.
 */
export const TrustedSite = Type.Object(
  {
    site_id: Id,
    site_name: Name,
    ca_pem: Pem,
    manager: Type.Optional(
      Type.Object(
        {
          host: Type.String({ minLength: 1, maxLength: 255 }),
          port: Type.Integer({ minimum: 1, maximum: 65_535 }),
        },
        closed,
      ),
    ),
  },
  closed,
);
export type TrustedSite = Static<typeof TrustedSite>;

/** Where a replication server listens, and who its certificate must say it is. */
export const ServerEndpoint = Type.Object(
  {
    site_id: Id,
    server_id: Id,
    host: Type.String({ maxLength: 255 }),
    port: Type.Integer({ minimum: 1, maximum: 65_535 }),
  },
  closed,
);
export type ServerEndpoint = Static<typeof ServerEndpoint>;

/** A site's signed word that it runs a VM from an epoch on (docs/fencing.md, section 1). */
export const EpochClaim = Type.Object(
  {
    vm_uuid: Uuid,
    epoch: Type.Integer({ minimum: 1, maximum: 999_999_999 }),
    site_id: Id,
    issued_ms: Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER }),
    signature: Type.String({ pattern: '^[\\w-]{86}$' }),
  },
  closed,
);

/** A claim that every host of the site is to know. */
export const ClaimOrder = Type.Object(
  {
    claim: EpochClaim,
    vm_name: Name,
    /** This host's copy is the one that the claim is about: it carries the claim in its definition. */
    is_here: Type.Boolean(),
  },
  closed,
);
export type ClaimOrder = Static<typeof ClaimOrder>;
export const CLAIMS_MAX = 20_000;

const Retention = Type.Object(
  {
    keep_all_ms: Milliseconds,
    tiers: Type.Array(Type.Object({ every_ms: Milliseconds, for_ms: Milliseconds }, closed), {
      maxItems: 16,
    }),
  },
  closed,
);

/** One VM to replicate to one site. */
export const ProtectionOrder = Type.Object(
  {
    replica_id: Id,
    vm_uuid: Uuid,
    vm_name: Name,
    /** libvirt targets; empty means all disks that can be replicated. */
    disks: Type.Array(Name, { maxItems: 64 }),
    rpo_ms: Milliseconds,
    epoch: Type.Integer({ minimum: 1 }),
    /** What to do with a disk that appears later: take it in with the next point, or report it only. */
    added_disks: Type.Union([Type.Literal('replicate'), Type.Literal('report')]),
    /** Most scratch that a cycle may take on the host, over all disks of the VM. */
    scratch_bytes: Bytes,
    server: ServerEndpoint,
    /** What the agent needs not, and tells a manager that has lost its database (docs/operate/rebuild.md). */
    kept: Type.Optional(
      Type.Object({ protection_id: Id, retention: Retention, created_ms: Milliseconds }, closed),
    ),
  },
  closed,
);
export type ProtectionOrder = Static<typeof ProtectionOrder>;

const AddressText = Type.String({ maxLength: 43, pattern: '^[0-9A-Fa-f:.]+(/\\d{1,3})?$' });

/** Networks that the VMs of several tests of this host share, and that reach nothing else. */
export const TestNetwork = Type.Object(
  {
    /** VMs that are told the same tag share; a plan run's id, say. */
    tag: Id,
    /** `one`: all their interfaces are on one network. `each`: every network of this site has a counterpart. */
    networks: Type.Union([Type.Literal('one'), Type.Literal('each')]),
    /** Joins counterparts of `each`: gateways with prefix length, by the networks of this site. */
    router: Type.Optional(Type.Record(Name, AddressText)),
  },
  closed,
);
export type TestNetwork = Static<typeof TestNetwork>;
export const ROUTER_NETWORKS_MAX = 32;

/** Bring a VM up on this host from an opened view. */
export const RecoverTask = Type.Object(
  {
    id: Id,
    kind: Type.Literal('recover'),
    replica_id: Id,
    /** The view as the replication server reported it. */
    view: Type.Object(
      {
        socket_path: Type.String({ maxLength: 1024 }),
        attachments_path: Type.String({ maxLength: 1024 }),
        sequence: Type.Integer({ minimum: 1 }),
        /** Bytes that the replica takes: about what the pulled disks will take. */
        stored_bytes: Type.Optional(Bytes),
        disks: Type.Array(Type.Object({ key: Name, bytes: Bytes, export_name: Name }, closed), {
          maxItems: 64,
        }),
        attachments: Type.Array(
          Type.Object(
            { kind: Type.String({ maxLength: 32 }), sha256: Type.String({ maxLength: 64 }) },
            closed,
          ),
          { maxItems: 16 },
        ),
      },
      closed,
    ),
    /** The name on this host; the VM's own for a recovery, another for a test. */
    name: Name,
    purpose: Type.Union([Type.Literal('recovery'), Type.Literal('test')]),
    /** The VM keeps its UUID and MAC addresses in a recovery and gets new ones in a test. */
    epoch: Type.Integer({ minimum: 1 }),
    /** By which the recovered VM runs here; a test has none. */
    claim: Type.Optional(EpochClaim),
    /** Protected site's network name to this site's; what is not named goes to `default_network`. */
    networks: Type.Record(Name, Name),
    /** A recovery for production goes from that site to this: networks of interfaces are remembered by it. */
    journey: Type.Optional(Type.Object({ from_site_id: Id, to_site_id: Id }, closed)),
    /** An old copy of the VM on this host that has yielded makes room: its definition is kept aside. */
    retires_old_copy: Type.Optional(Type.Boolean()),
    /** The VM comes home: what a plan has changed of its addresses at the other site is undone through its agent. */
    restores_addresses: Type.Optional(Type.Boolean()),
    default_network: Type.Union([Name, Type.Null()]),
    /** `false`: its guest runs no instruction. Of a recovery, the VM stands alone and is off at the end. */
    start: Type.Optional(Type.Literal(false)),
    /** Of a test whose VM is to meet those of others; without it the VM is alone on a network of its own. */
    test_network: Type.Optional(TestNetwork),
    /** Directory on this host for the new disks. */
    storage_path: Type.String({ maxLength: 1024 }),
    /** Done to the overlays before the VM is defined. */
    edit: Type.Optional(DiskEdit),
    /** Text on the serial console, or an answer of the guest agent, that counts as a sign of life. */
    sign_of_life: Type.Object(
      { serial_text: Type.Union([Text, Type.Null()]), timeout_ms: Milliseconds },
      closed,
    ),
  },
  closed,
);
export type RecoverTask = Static<typeof RecoverTask>;

/**
 * Take down a VM that a recovery brought up, whether that ended well or not, and all that it made on this host.
 * What is gone already is no failure.
 */
export const DiscardTask = Type.Object(
  { id: Id, kind: Type.Literal('discard'), recover_task_id: Id },
  closed,
);
export type DiscardTask = Static<typeof DiscardTask>;

export const AgentTask = Type.Union([
  RecoverTask,
  DiscardTask,
  SeedTask,
  RemoveRetiredTask,
  ...HandoverTask.anyOf,
  ...GuestTask.anyOf,
  PictureTask,
  ConsoleTask,
]);
export type AgentTask = Static<typeof AgentTask>;

export const AgentOrders = Type.Object(
  {
    revision: Type.Integer({ minimum: 0 }),
    site_id: Id,
    trust: Type.Array(TrustedSite, { maxItems: 64 }),
    protections: Type.Array(ProtectionOrder, { maxItems: 10_000 }),
    claims: Type.Optional(Type.Array(ClaimOrder, { maxItems: CLAIMS_MAX })),
    /** Replicas that are not written any more, whose records say what the other site had of a copy here. */
    kept_records: Type.Optional(Type.Array(Id, { maxItems: 10_000 })),
    tasks: Type.Array(AgentTask, { maxItems: 1000 }),
  },
  closed,
);
export type AgentOrders = Static<typeof AgentOrders>;

/** A recovery point that has a name, and is kept by it whatever the retention wants. */
export const Bookmark = Type.Object(
  {
    sequence: Type.Integer({ minimum: 1 }),
    name: Type.String({ minLength: 1, maxLength: 128 }),
    moment_ms: Milliseconds,
    /** From then on it is a point like others; null: until it is taken away. */
    until_ms: Type.Union([Milliseconds, Type.Null()]),
  },
  closed,
);
export type Bookmark = Static<typeof Bookmark>;
export const BOOKMARKS_MAX = 100;

/** Its end is still to come, or it has none. */
export function isLasting({ until_ms: untilMs }: Bookmark, nowMs: number): boolean {
  return untilMs === null || untilMs > nowMs;
}

/** A replica that a replication server is to keep, and who may write it. */
export const ReplicaOrder = Type.Object(
  {
    replica_id: Id,
    vm_uuid: Uuid,
    vm_name: Name,
    /** Agents of this site may write it. */
    source_site_id: Id,
    /** While it is filled from an old copy: the site of that copy, whose agents alone may write it. */
    writer_site_id: Type.Optional(Id),
    epoch: Type.Integer({ minimum: 1 }),
    retention: Retention,
    bookmarks: Type.Optional(Type.Array(Bookmark, { maxItems: BOOKMARKS_MAX })),
    /** What the server needs not, and tells a manager that has lost its database (docs/operate/rebuild.md). */
    kept: Type.Optional(
      Type.Object(
        {
          protection_id: Id,
          rpo_ms: Milliseconds,
          state: Type.Union([Type.Literal('active'), Type.Literal('kept'), Type.Literal('recovered')]),
          disks: Type.Array(Type.Object({ key: Name, bytes: Bytes, need_bytes: Bytes }, closed), {
            maxItems: 64,
          }),
          created_ms: Milliseconds,
        },
        closed,
      ),
    ),
  },
  closed,
);
export type ReplicaOrder = Static<typeof ReplicaOrder>;

/**
 * Serve a recovery point over NBD on a Unix socket until `close_view`. Sequence 0 asks for the newest point.
 *
 * It is `done` with the view as its result (the shape of `RecoverTask.view`) as soon as the view is served, and stays
 * in the orders until a `close_view` takes its place, so a server that starts again serves the same point again.
 */
export const OpenViewTask = Type.Object(
  { id: Id, kind: Type.Literal('open_view'), replica_id: Id, sequence: Type.Integer({ minimum: 0 }) },
  closed,
);
export const CloseViewTask = Type.Object(
  { id: Id, kind: Type.Literal('close_view'), open_task_id: Id },
  closed,
);
/** Remove a replica and everything in it. */
export const DeleteReplicaTask = Type.Object(
  { id: Id, kind: Type.Literal('delete_replica'), replica_id: Id },
  closed,
);
export const ServerTask = Type.Union([OpenViewTask, CloseViewTask, DeleteReplicaTask]);
export type ServerTask = Static<typeof ServerTask>;

export const ServerOrders = Type.Object(
  {
    revision: Type.Integer({ minimum: 0 }),
    site_id: Id,
    trust: Type.Array(TrustedSite, { maxItems: 64 }),
    replicas: Type.Array(ReplicaOrder, { maxItems: 100_000 }),
    tasks: Type.Array(ServerTask, { maxItems: 1000 }),
  },
  closed,
);
export type ServerOrders = Static<typeof ServerOrders>;
