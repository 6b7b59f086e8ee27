/** Sites, hosts, replication servers and VMs, as the API shows them. */
import { Type, type Static } from 'typebox';
import { Bytes, closed, Id, Milliseconds, Name, nullable, Problem, Text } from './common.ts';

export const Site = Type.Object(
  {
    id: Id,
    name: Name,
    /** True for the site that answers. */
    is_self: Type.Boolean(),
    address: Type.String(),
    /** Whether its manager answered lately; null for a site that was not asked yet. */
    is_reachable: nullable(Type.Boolean()),
    contact_ms: nullable(Milliseconds),
    failure: nullable(Problem),
  },
  closed,
);
export type Site = Static<typeof Site>;

const memberFields = {
  id: Id,
  name: Name,
  joined_ms: Milliseconds,
  certificate_expires_ms: Milliseconds,
  /** When it last reported; null before its first report. */
  report_ms: nullable(Milliseconds),
  /** False when its last report is too old to be believed. */
  is_alive: Type.Boolean(),
};

export const Host = Type.Object(
  {
    ...memberFields,
    hostname: nullable(Name),
    libvirt_version: nullable(Type.String()),
    libvirt_failure: nullable(Problem),
    memory_bytes: nullable(Bytes),
    cpu_count: nullable(Type.Integer()),
    networks: Type.Array(Name),
    storage_path: nullable(Text),
    storage_free_bytes: nullable(Bytes),
    /** Whether libvirt there was seen to refuse the start of a copy that has yielded; null while that is not known. */
    start_hook: nullable(
      Type.Object(
        { is_working: Type.Boolean(), checked_ms: nullable(Milliseconds), failure: nullable(Problem) },
        closed,
      ),
    ),
    vm_count: Type.Integer(),
  },
  closed,
);
export type Host = Static<typeof Host>;

export const ReplicationServer = Type.Object(
  {
    ...memberFields,
    endpoint: nullable(Type.String()),
    store_path: nullable(Text),
    store_free_bytes: nullable(Bytes),
    replica_count: Type.Integer(),
  },
  closed,
);
export type ReplicationServer = Static<typeof ReplicationServer>;

export const Vm = Type.Object(
  {
    uuid: Type.String(),
    name: Name,
    host_id: Id,
    host_name: Name,
    /** As the host last said; `unknown` when that is too old to be believed. */
    state: Type.String(),
    memory_bytes: Bytes,
    vcpu_count: Type.Integer(),
    networks: Type.Array(Name),
    disks: Type.Array(
      Type.Object(
        { key: Name, bytes: Bytes, format: Type.String(), path: Text, refusal: nullable(Text) },
        closed,
      ),
    ),
    /** Why it cannot be protected; empty when it can. */
    refusals: Type.Array(Text),
    /** Set when this copy must not run, because another site runs the VM. */
    fence: nullable(
      Type.Object(
        {
          epoch: Type.Integer(),
          site_name: Name,
          /** yielded: it does not run. failing: it may. unknown: its host does not report. */
          state: Type.String(),
          yielded_ms: nullable(Milliseconds),
        },
        closed,
      ),
    ),
    /** Names of the sites it is protected to. */
    protected_to: Type.Array(Name),
    /** The recovery that brought it up here, if one did. */
    recovery_id: nullable(Id),
  },
  closed,
);
export type Vm = Static<typeof Vm>;
