/**
 * What a manager orders of an agent for a VM that is on its host already: probes, programs in the guest, addresses,
 * pausing for a while. Like all tasks they are carried out at least once and idempotent by their id; a task that is
 * not ordered any more is ended where it is.
 */
import { Type, type Static } from 'typebox';

const Id = Type.String({ pattern: '^[0-9a-z][0-9a-z-]{0,63}$' });
const Uuid = Type.String({ pattern: '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' });
const Name = Type.String({ minLength: 1, maxLength: 255, pattern: '^[^/\\x00-\\x1f]+$' });
const Text = Type.String({ maxLength: 4096 });
const Path = Type.String({ minLength: 1, maxLength: 1024 });
const Port = Type.Integer({ minimum: 1, maximum: 65_535 });
const Address = Type.String({ maxLength: 43, pattern: '^[0-9A-Fa-f:.]+(/\\d{1,3})?$' });
const HostName = Type.String({ pattern: '^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$', maxLength: 253 });
const closed = { additionalProperties: false };
const nullable = <T extends Parameters<typeof Type.Union>[0][number]>(type: T) =>
  Type.Union([type, Type.Null()]);
const addressesOf = Type.Array(Address, { maxItems: 16 });

/** Counted from when the agent begins; it is the agent's to keep. */
const Timeout = Type.Integer({ minimum: 1, maximum: 7 * 86_400_000 });
const fields = { id: Id, vm_uuid: Uuid, vm_name: Name };

/** What says that a guest is well. */
export const Probe = Type.Union([
  Type.Object({ kind: Type.Literal('agent') }, closed),
  Type.Object({ kind: Type.Literal('tcp'), port: Port, address: Type.Optional(Address) }, closed),
  Type.Object(
    {
      kind: Type.Literal('http'),
      port: Port,
      path: Type.String({ pattern: '^/', maxLength: 1024 }),
      /** Absent: any from 200 to 299. */
      status: Type.Optional(Type.Integer({ minimum: 100, maximum: 599 })),
      address: Type.Optional(Address),
    },
    closed,
  ),
  Type.Object({ kind: Type.Literal('serial'), text: Type.String({ minLength: 1, maxLength: 1024 }) }, closed),
  Type.Object(
    { kind: Type.Literal('script'), path: Path, arguments: Type.Array(Text, { maxItems: 64 }) },
    closed,
  ),
]);
export type Probe = Static<typeof Probe>;

/** Done when the probe answered. */
export const ProbeTask = Type.Object(
  { ...fields, kind: Type.Literal('probe'), probe: Probe, timeout_ms: Timeout },
  closed,
);
export type ProbeTask = Static<typeof ProbeTask>;

/** Runs a program in the guest; done when it ended with 0. */
export const ExecuteTask = Type.Object(
  {
    ...fields,
    kind: Type.Literal('execute'),
    path: Path,
    arguments: Type.Array(Text, { maxItems: 64 }),
    timeout_ms: Timeout,
  },
  closed,
);
export type ExecuteTask = Static<typeof ExecuteTask>;

/** One interface of a guest as it is to be; what is absent stays as the guest's own tools have it. */
export const GuestInterface = Type.Object(
  {
    /** By its place, 0 is the first, or by its MAC address at the protected site. */
    nic: Type.Union([
      Type.Integer({ minimum: 0, maximum: 63 }),
      Type.String({ pattern: '^([0-9a-f]{2}:){5}[0-9a-f]{2}$' }),
    ]),
    ipv4: Type.Optional(Type.Union([Type.Literal('dhcp'), addressesOf])),
    ipv6: Type.Optional(Type.Union([Type.Literal('dhcp'), Type.Literal('slaac'), addressesOf])),
    gateway4: Type.Optional(nullable(Address)),
    gateway6: Type.Optional(nullable(Address)),
    dns: Type.Optional(Type.Array(Address, { maxItems: 8 })),
    search: Type.Optional(Type.Array(HostName, { maxItems: 8 })),
  },
  closed,
);
export type GuestInterface = Static<typeof GuestInterface>;

/** What is changed in a VM's disks before it starts: the addresses and host name of a guest that has no agent. */
export const DiskEdit = Type.Object(
  {
    host_name: nullable(HostName),
    addresses: Type.Array(GuestInterface, { maxItems: 16 }),
    timeout_ms: Timeout,
    /** Of an edit that fails: the recovery fails, or the VM comes up as it is and that is said. */
    on_failure: Type.Union([Type.Literal('abort'), Type.Literal('continue')]),
  },
  closed,
);
export type DiskEdit = Static<typeof DiskEdit>;

/** `preview` says what `apply` would do and changes nothing; `restore` undoes what was applied. */
export const CustomizeTask = Type.Object(
  {
    ...fields,
    kind: Type.Literal('customize'),
    wanted: Type.Union([
      Type.Object(
        {
          kind: Type.Union([Type.Literal('apply'), Type.Literal('preview')]),
          host_name: nullable(HostName),
          addresses: Type.Array(GuestInterface, { maxItems: 16 }),
        },
        closed,
      ),
      Type.Object({ kind: Type.Literal('restore') }, closed),
    ]),
    timeout_ms: Timeout,
  },
  closed,
);
export type CustomizeTask = Static<typeof CustomizeTask>;

/** Pauses a VM, which remembers by which task. */
export const SuspendTask = Type.Object({ ...fields, kind: Type.Literal('suspend') }, closed);
export type SuspendTask = Static<typeof SuspendTask>;

/** Lets a VM go on that was paused by that task, and by no other that still stands. */
export const ResumeTask = Type.Object({ ...fields, kind: Type.Literal('resume'), suspend_id: Id }, closed);
export type ResumeTask = Static<typeof ResumeTask>;

export const GuestTask = Type.Union([ProbeTask, ExecuteTask, CustomizeTask, SuspendTask, ResumeTask]);
export type GuestTask = Static<typeof GuestTask>;

const KINDS: ReadonlySet<string> = new Set(['probe', 'execute', 'customize', 'suspend', 'resume']);

export function isGuestTask<T extends { kind: string }>(task: T): task is T & GuestTask {
  return KINDS.has(task.kind);
}
