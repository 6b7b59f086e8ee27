/** Protecting a VM: what is asked, and what is protected. */
import { Type, type Static } from 'typebox';
import { Bytes, closed, Id, Milliseconds, Name, nullable, Problem, Retention } from './common.ts';

/** No cycle is worth less: freezing a moment on a libvirt host alone takes a tenth of this. */
export const RPO_MS_MIN = 1000;
/** A week; beyond it a protection is a mistake of units. */
export const RPO_MS_MAX = 7 * 86_400_000;
/** Scratch that one cycle may take on the host, if nothing else was asked for. */
export const DEFAULT_SCRATCH_BYTES = 1024 ** 3;

export const ProtectionRequest = Type.Object(
  {
    /** Name or UUID. */
    vm: Name,
    /** Name or id of the recovery site. */
    site: Name,
    rpo_ms: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }),
    /** Disk keys such as `vda`; absent or empty means all. */
    disks: Type.Optional(Type.Array(Name, { maxItems: 64 })),
    added_disks: Type.Optional(Type.Union([Type.Literal('replicate'), Type.Literal('report')])),
    retention: Type.Optional(Retention),
    scratch_bytes: Type.Optional(Bytes),
  },
  closed,
);
export type ProtectionRequest = Static<typeof ProtectionRequest>;

/** As the request, in an address. */
export const ProtectionCheckQuery = Type.Object(
  {
    vm: Name,
    site: Name,
    rpo_ms: ProtectionRequest.properties.rpo_ms,
    /** Keys with commas between them; absent means all. */
    disks: Type.Optional(Type.String({ maxLength: 4096, pattern: '^[^,]+(,[^,]+)*$' })),
  },
  closed,
);

/** What a protection would come to. */
export const ProtectionCheck = Type.Object(
  {
    vm_uuid: Type.String(),
    vm_name: Name,
    site_name: Name,
    disks: Type.Array(
      /** `need_bytes`: what the first copy of it takes at the recovery site, at most. */
      Type.Object({ key: Name, bytes: Bytes, need_bytes: Bytes }, closed),
    ),
  },
  closed,
);
export type ProtectionCheck = Static<typeof ProtectionCheck>;

export const ProtectionState = Type.Union([
  /** Recorded here; the recovery site has not confirmed it yet. */
  Type.Literal('requested'),
  /** The recovery site fills the replica from the old copy that it has. */
  Type.Literal('seeding'),
  Type.Literal('active'),
  /** No longer replicated; the recovery site has not confirmed it yet. */
  Type.Literal('removing'),
  /** The VM was recovered at the other site; this copy is no longer replicated. */
  Type.Literal('superseded'),
]);
export type ProtectionState = Static<typeof ProtectionState>;

export const ProtectionView = Type.Object(
  {
    id: Id,
    vm_uuid: Type.String(),
    vm_name: Name,
    host_id: Id,
    site_id: Id,
    site_name: Name,
    rpo_ms: Milliseconds,
    disks: Type.Array(Name),
    added_disks: Type.String(),
    retention: Retention,
    scratch_bytes: Bytes,
    state: ProtectionState,
    replica_id: nullable(Id),
    epoch: Type.Integer(),
    created_ms: Milliseconds,
    /** Rises with every change; a change names the one that it is of. */
    revision: Type.Integer({ minimum: 1 }),
    /** The newest that the recovery site has confirmed: it goes by an older one while this is less. */
    told_revision: Type.Integer({ minimum: 0 }),
    /** Why a step towards the other site is still to be repeated. */
    failure: nullable(Problem),
  },
  closed,
);
export type ProtectionView = Static<typeof ProtectionView>;

/** How a VM is protected from now on; what is not named stays. */
export const ProtectionChange = Type.Object(
  {
    /** Of the protection as the caller knows it. */
    revision: Type.Integer({ minimum: 1 }),
    rpo_ms: Type.Optional(ProtectionRequest.properties.rpo_ms),
    /** Keys such as `vda`; empty means all that it has. */
    disks: ProtectionRequest.properties.disks,
    added_disks: ProtectionRequest.properties.added_disks,
    retention: ProtectionRequest.properties.retention,
    scratch_bytes: ProtectionRequest.properties.scratch_bytes,
  },
  closed,
);
export type ProtectionChange = Static<typeof ProtectionChange>;

/** Which of the points that are there another retention does not want. */
export const PointsLost = Type.Object(
  {
    /** Of so many newest points that the recovery site's manager knows, and of so many that there are. */
    looked_at: Type.Integer({ minimum: 0 }),
    total: Type.Integer({ minimum: 0 }),
    count: Type.Integer({ minimum: 0 }),
    oldest_ms: nullable(Milliseconds),
    newest_ms: nullable(Milliseconds),
  },
  closed,
);
export type PointsLost = Static<typeof PointsLost>;

/** What a change would come to. */
export const ProtectionChangeCheck = Type.Object(
  {
    revision: Type.Integer({ minimum: 1 }),
    /** What becomes different, and what it costs, in sentences. Without a change both are empty. */
    changes: Type.Array(Type.String()),
    costs: Type.Array(Type.String()),
    /** Of another retention; null when the recovery site does not answer, or the points stay as they are. */
    points_lost: nullable(PointsLost),
  },
  closed,
);
export type ProtectionChangeCheck = Static<typeof ProtectionChangeCheck>;
