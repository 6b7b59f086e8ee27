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
    /** Why a step towards the other site is still to be repeated. */
    failure: nullable(Problem),
  },
  closed,
);
export type ProtectionView = Static<typeof ProtectionView>;
