/**
 * Recovery plans as people write them: inventory mappings, protection groups, plans with their VMs, steps, health gates
 * and addresses. A plan belongs to the recovery site: what it needs is there when the protected site is gone.
 */
import { Type, type Static } from 'typebox';
import { closed, Id, Milliseconds, Name, nullable, Text } from './common.ts';

const oneOf = <const T extends readonly string[]>(...words: T) =>
  Type.Union(words.map((word) => Type.Literal(word))) as unknown as ReturnType<typeof Type.Unsafe<T[number]>>;
/** Names of plans and groups: they stand in commands, files and addresses. */
export const PlanName = Type.String({ pattern: '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$' });
const MINUTE_MS = 60_000;
const Timeout = Type.Integer({ minimum: 1, maximum: 7 * 86_400_000 });
const Address = Type.String({ maxLength: 43, pattern: '^[0-9A-Fa-f:.]+(/\\d{1,3})?$' });
const HostName = Type.String({
  pattern: '^(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*$',
  maxLength: 253,
});

/** What something of a paired site's inventory becomes at this site. */
export const MappingKind = oneOf('network', 'storage', 'host');
export const Mapping = Type.Object(
  {
    /** Name or id of the paired site that `there` belongs to. */
    site: Name,
    kind: MappingKind,
    /** A network's or host's name, or a directory of disks, at that site. */
    there: Type.String({ minLength: 1, maxLength: 1024 }),
    /** The same kind of thing at this site. */
    here: Type.String({ minLength: 1, maxLength: 1024 }),
  },
  closed,
);
export type Mapping = Static<typeof Mapping>;

/** VMs that are protected and recovered together. A VM is in one group at most. */
export const GroupDocument = Type.Object(
  {
    name: PlanName,
    description: Type.Optional(Text),
    /** The paired site that protects them. */
    site: Name,
    /** Names or UUIDs of VMs that have a replica here. */
    vms: Type.Array(Name, { minItems: 1, maxItems: 1000, uniqueItems: true }),
  },
  closed,
);
export type GroupDocument = Static<typeof GroupDocument>;

export const RunKind = oneOf('test', 'migration', 'disaster', 'failback');
const stepFields = {
  name: Name,
  timeout_ms: Type.Optional(Timeout),
  /** Tries after the first one. */
  retries: Type.Optional(Type.Integer({ minimum: 0, maximum: 100 })),
  on_failure: Type.Optional(oneOf('abort', 'continue')),
  /** The kinds of run that it belongs to; absent means all. */
  in: Type.Optional(Type.Array(RunKind, { minItems: 1, maxItems: 4, uniqueItems: true })),
};

/** A program of the manager's `plan_commands_directory`, which only the machine's root can write. */
export const CommandStep = Type.Object(
  {
    kind: Type.Literal('command'),
    ...stepFields,
    command: Type.String({ pattern: '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$' }),
    arguments: Type.Optional(Type.Array(Text, { maxItems: 64 })),
  },
  closed,
);
/** A program in the guest, through its agent. In the steps of a plan or a priority it names the VM. */
export const GuestStep = Type.Object(
  {
    kind: Type.Literal('guest'),
    ...stepFields,
    vm: Type.Optional(Name),
    path: Type.String({ minLength: 1, maxLength: 1024 }),
    arguments: Type.Optional(Type.Array(Text, { maxItems: 64 })),
  },
  closed,
);
/** Waits for a person to answer it. */
export const MessageStep = Type.Object(
  { kind: Type.Literal('message'), ...stepFields, text: Type.String({ minLength: 1, maxLength: 4096 }) },
  closed,
);
export const HttpStep = Type.Object(
  {
    kind: Type.Literal('http'),
    ...stepFields,
    method: Type.Optional(oneOf('GET', 'POST', 'PUT', 'DELETE')),
    url: Type.String({ pattern: '^https?://', maxLength: 2048 }),
    body: Type.Optional(Text),
    /** The status that counts as success; any 2xx by default. */
    status: Type.Optional(Type.Integer({ minimum: 100, maximum: 599 })),
  },
  closed,
);
export const PlanStep = Type.Union([CommandStep, GuestStep, MessageStep, HttpStep]);
export type PlanStep = Static<typeof PlanStep>;
const Steps = Type.Optional(Type.Array(PlanStep, { maxItems: 64 }));
const Around = Type.Object({ before: Steps, after: Steps }, closed);

const probeFields = { timeout_ms: Type.Optional(Timeout) };
/** What says that a VM is healthy. All of its probes have to; without any its sign of life does. */
export const HealthProbe = Type.Union([
  Type.Object({ kind: Type.Literal('agent'), ...probeFields }, closed),
  Type.Object(
    {
      kind: Type.Literal('tcp'),
      ...probeFields,
      port: Type.Integer({ minimum: 1, maximum: 65_535 }),
      /** The guest's address; absent means any that its agent or the host's leases tell. */
      address: Type.Optional(Address),
    },
    closed,
  ),
  Type.Object(
    {
      kind: Type.Literal('http'),
      ...probeFields,
      port: Type.Optional(Type.Integer({ minimum: 1, maximum: 65_535 })),
      path: Type.Optional(Type.String({ pattern: '^/', maxLength: 1024 })),
      status: Type.Optional(Type.Integer({ minimum: 100, maximum: 599 })),
      address: Type.Optional(Address),
    },
    closed,
  ),
  Type.Object(
    { kind: Type.Literal('serial'), ...probeFields, text: Type.String({ minLength: 1, maxLength: 1024 }) },
    closed,
  ),
  /** A program in the guest that ends with 0. */
  Type.Object(
    {
      kind: Type.Literal('script'),
      ...probeFields,
      path: Type.String({ minLength: 1, maxLength: 1024 }),
      arguments: Type.Optional(Type.Array(Text, { maxItems: 64 })),
    },
    closed,
  ),
]);
export type HealthProbe = Static<typeof HealthProbe>;

/** Addresses of one network interface, as the guest is to have them at the recovery site. */
export const InterfaceAddresses = Type.Object(
  {
    /** The interface by its place (0 is the first) or its MAC address. */
    nic: Type.Union([
      Type.Integer({ minimum: 0, maximum: 63 }),
      Type.String({ pattern: '^([0-9a-f]{2}:){5}[0-9a-f]{2}$' }),
    ]),
    /** Addresses with their prefix length, such as 10.2.0.5/24; `dhcp` asks the network. */
    ipv4: Type.Optional(Type.Union([Type.Literal('dhcp'), Type.Array(Address, { maxItems: 16 })])),
    ipv6: Type.Optional(
      Type.Union([Type.Literal('dhcp'), Type.Literal('slaac'), Type.Array(Address, { maxItems: 16 })]),
    ),
    gateway4: Type.Optional(nullable(Address)),
    gateway6: Type.Optional(nullable(Address)),
    dns: Type.Optional(Type.Array(Address, { maxItems: 8 })),
    search: Type.Optional(Type.Array(HostName, { maxItems: 8 })),
  },
  closed,
);
export type InterfaceAddresses = Static<typeof InterfaceAddresses>;

/** Addresses of one subnet become those of another of the same or a greater size, host part kept. */
export const IpRule = Type.Object(
  {
    /** Network of the protected site that it is about; absent means any. */
    network: Type.Optional(Name),
    from: Address,
    to: Address,
    gateway: Type.Optional(nullable(Address)),
    dns: Type.Optional(Type.Array(Address, { maxItems: 8 })),
    search: Type.Optional(Type.Array(HostName, { maxItems: 8 })),
  },
  closed,
);
export type IpRule = Static<typeof IpRule>;

export const PlanVm = Type.Object(
  {
    /** 1 comes first, 5 last; 3 by default. */
    priority: Type.Optional(Type.Integer({ minimum: 1, maximum: 5 })),
    /** VMs of this plan that have to be healthy before, whatever their priority. */
    depends_on: Type.Optional(Type.Array(Name, { maxItems: 100, uniqueItems: true })),
    /** `off` leaves it defined and powered off. */
    start: Type.Optional(oneOf('on', 'off')),
    /** How it ends at the protected site in a migration. */
    shut_down: Type.Optional(oneOf('guest', 'power_off')),
    shut_down_timeout_ms: Type.Optional(Timeout),
    /** Instead of the mappings of the site. */
    networks: Type.Optional(Type.Record(Name, Name)),
    storage_path: Type.Optional(Type.String({ pattern: '^/', maxLength: 1024 })),
    host: Type.Optional(Name),
    health: Type.Optional(Type.Array(HealthProbe, { maxItems: 16 })),
    before: Steps,
    after: Steps,
    host_name: Type.Optional(HostName),
    addresses: Type.Optional(Type.Array(InterfaceAddresses, { maxItems: 16 })),
    /** How addresses are changed: by the guest's agent, or in its disk before it starts. */
    customize_by: Type.Optional(oneOf('agent', 'disk')),
    /** Of addresses that cannot be changed: the VM counts as failed, or comes up as it is. */
    customize_on_failure: Type.Optional(oneOf('abort', 'continue')),
  },
  closed,
);
export type PlanVm = Static<typeof PlanVm>;

export const PlanDocument = Type.Object(
  {
    name: PlanName,
    description: Type.Optional(Text),
    /** Names of protection groups. */
    groups: Type.Array(PlanName, { minItems: 1, maxItems: 100, uniqueItems: true }),
    /** Settings of VMs of the groups by their names; a VM that is not named has the defaults. */
    vms: Type.Optional(Type.Record(Name, PlanVm)),
    before: Steps,
    after: Steps,
    /** Steps around the VMs of a priority. */
    priorities: Type.Optional(
      Type.Partial(Type.Object({ '1': Around, '2': Around, '3': Around, '4': Around, '5': Around }, closed)),
    ),
    ip_rules: Type.Optional(Type.Array(IpRule, { maxItems: 256 })),
    /** VMs of this site that are paused while the plan runs, to make room. */
    suspend: Type.Optional(Type.Array(Name, { maxItems: 1000, uniqueItems: true })),
    test: Type.Optional(
      Type.Object(
        {
          /** One isolated network for all, or one for each network of this site that the VMs would be on. */
          networks: Type.Optional(oneOf('one', 'each')),
          /** Between those of `each`: gateways by network of this site, such as { lan: 10.2.0.1/24 }. */
          router: Type.Optional(Type.Record(Name, Address)),
          /** A test by itself, at this interval. */
          every_ms: Type.Optional(Type.Integer({ minimum: 60_000, maximum: 366 * 86_400_000 })),
        },
        closed,
      ),
    ),
    /** The plan counts as unproven when its last good test is older; 30 days by default. */
    proven_for_ms: Type.Optional(Milliseconds),
  },
  closed,
);
export type PlanDocument = Static<typeof PlanDocument>;

export const DEFAULT_PRIORITY = 3;
export const DEFAULT_STEP_TIMEOUT_MS = 5 * MINUTE_MS;
/** A person may be asleep. */
export const DEFAULT_MESSAGE_TIMEOUT_MS = 24 * 60 * MINUTE_MS;
export const DEFAULT_PROBE_TIMEOUT_MS = 5 * MINUTE_MS;
export const DEFAULT_SHUT_DOWN_TIMEOUT_MS = 5 * MINUTE_MS;

export const GroupView = Type.Object(
  {
    id: Id,
    document: GroupDocument,
    created_ms: Milliseconds,
    updated_ms: Milliseconds,
    /** Plans that it is in. */
    plans: Type.Array(PlanName),
  },
  closed,
);
export type GroupView = Static<typeof GroupView>;

export const PlanView = Type.Object(
  {
    id: Id,
    /** Rises with every change; a change that names an older one is refused. */
    revision: Type.Integer({ minimum: 1 }),
    document: PlanDocument,
    created_ms: Milliseconds,
    updated_ms: Milliseconds,
  },
  closed,
);
export type PlanView = Static<typeof PlanView>;
