/** Every VM of a site in one list: those of its hosts, protected or not, and those of which only a replica is here. */
import { Type, type Static } from 'typebox';
import { Bytes, closed, Id, Milliseconds, Name, nullable, PAGE_MAX, Text } from './common.ts';
import { VmStatus } from './status.ts';

const words = <const T extends readonly string[]>(...all: T) =>
  Type.Union(all.map((word) => Type.Literal(word))) as unknown as ReturnType<typeof Type.Unsafe<T[number]>>;

/** How a VM stands, the worst first. Of several protections of one VM the worst counts. */
export const VM_STANDINGS = [
  /** Its newest point is older than its RPO. */
  'violated',
  /** Nothing was heard of it lately. */
  'unknown',
  /** Protected, without a point yet. */
  'none',
  'met',
  /** Not protected, and cannot be: `reasons` says why. */
  'refused',
  /** Not protected, and could be. */
  'unprotected',
  /** No longer protected, or recovered: what is here is a replica that is kept. */
  'kept',
] as const;
export const VmStanding = words(...VM_STANDINGS);
export type VmStanding = (typeof VM_STANDINGS)[number];

export const VmRow = Type.Object(
  {
    vm_uuid: Type.String(),
    vm_name: Name,
    /** The host of this site that has it; null when only its replica is here. */
    host_id: nullable(Id),
    host_name: nullable(Name),
    /** As its host last said; `elsewhere` when it is on no host of this site. */
    state: Type.String(),
    standing: VmStanding,
    /** Why it cannot be protected, or must not run. */
    reasons: Type.Array(Text),
    /** Of all its disks. */
    bytes: nullable(Bytes),
    /** What its replica takes at this site. */
    stored_bytes: nullable(Bytes),
    /** What changes in a second, by the last cycles. */
    change_bytes_per_s: nullable(Bytes),
    /** How old the newest point had become each time when the next one came: the last ones, the oldest first. */
    age_peaks_ms: Type.Array(Milliseconds),
    /** Its protections from here, and its replicas here. */
    statuses: Type.Array(VmStatus),
    /** The recovery or test that brought it up here, if one did. */
    recovery_id: nullable(Id),
  },
  closed,
);
export type VmRow = Static<typeof VmRow>;

export const VM_SORTS = ['name', 'host', 'state', 'standing', 'age', 'pressure', 'bytes', 'change'] as const;
export const VmTableQuery = Type.Object(
  {
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: PAGE_MAX })),
    offset: Type.Optional(Type.Integer({ minimum: 0, maximum: 1_000_000 })),
    /** Part of the name of the VM or its host, or the beginning of its UUID. */
    search: Type.Optional(Type.String({ maxLength: 255 })),
    standing: Type.Optional(VmStanding),
    /** `pressure` is age by RPO: what is nearest to a violation, or longest beyond it. */
    sort: Type.Optional(words(...VM_SORTS)),
    order: Type.Optional(words('ascending', 'descending')),
  },
  closed,
);
export type VmTableQuery = Static<typeof VmTableQuery>;

const Count = Type.Integer({ minimum: 0 });
/** Of all VMs of the site, whatever was searched for. */
export const StandingCounts = Type.Object(
  {
    all: Count,
    violated: Count,
    unknown: Count,
    none: Count,
    met: Count,
    refused: Count,
    unprotected: Count,
    kept: Count,
  },
  closed,
);
export type StandingCounts = Static<typeof StandingCounts>;

export const VmTable = Type.Object(
  {
    now_ms: Milliseconds,
    items: Type.Array(VmRow),
    /** How many match. */
    total: Count,
    counts: StandingCounts,
  },
  closed,
);
export type VmTable = Static<typeof VmTable>;
