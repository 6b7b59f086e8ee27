/** What the managers of paired sites ask of each other, under /peer/v1. */
import { Type, type Static } from 'typebox';
import { Bytes, closed, Id, Milliseconds, Name, nullable, Retention, Text } from './common.ts';
import { MappingKind } from './plans.ts';

const Pem = Type.String({ maxLength: 16_384 });
const Host = Type.String({ minLength: 1, maxLength: 255 });
const Port = Type.Integer({ minimum: 1, maximum: 65_535 });

/** A site introduces itself: who it is, whom it trusts to speak for it, where it is reached. */
export const SiteCard = Type.Object(
  { site_id: Id, site_name: Name, ca_pem: Pem, host: Host, port: Port },
  closed,
);
export type SiteCard = Static<typeof SiteCard>;

export const PairRequest = Type.Object({ token: Type.String({ maxLength: 1024 }), site: SiteCard }, closed);

/** A site's signed word that it runs a VM from an epoch on (docs/fencing.md, section 1). */
export const Claim = Type.Object(
  {
    vm_uuid: Type.String({ pattern: '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' }),
    epoch: Type.Integer({ minimum: 1, maximum: 999_999_999 }),
    site_id: Id,
    issued_ms: Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER }),
    signature: Type.String({ pattern: '^[\\w-]{86}$' }),
  },
  closed,
);

export const ClaimsTold = Type.Object(
  {
    claims: Type.Array(Type.Object({ claim: Claim, vm_name: Name }, closed), { maxItems: 500 }),
    /** How long to wait until copies of the first VM were seen to yield. */
    wait_ms: Type.Integer({ minimum: 0, maximum: 30_000 }),
  },
  closed,
);
export type ClaimsTold = Static<typeof ClaimsTold>;

/** What a site did with a claim. */
export const ClaimAnswer = Type.Object(
  {
    vm_uuid: Type.String(),
    /**
     * refused: not believed, for the reason in `message`. absent: no host of the site has a copy. yielded: the copy was
     * seen not to run. pending: it may still run; `message` says why.
     */
    state: Type.Union([
      Type.Literal('refused'),
      Type.Literal('absent'),
      Type.Literal('yielded'),
      Type.Literal('pending'),
    ]),
    message: Text,
    /** All copies that have yielded are powered off; of `yielded` alone. */
    is_off: Type.Optional(Type.Boolean()),
  },
  closed,
);
export type ClaimAnswer = Static<typeof ClaimAnswer>;
export const ClaimAnswers = Type.Object({ answers: Type.Array(ClaimAnswer, { maxItems: 500 }) }, closed);

/**
 * What a recovery at another site has to know of a VM besides its disks and its definition. An address has its prefix
 * length; an interface has none while the VM's own agent has not told any.
 */
const Word = Type.String({ minLength: 1, maxLength: 128 });
export const VmFacts = Type.Object(
  {
    host_name: Name,
    memory_bytes: Bytes,
    vcpu_count: Type.Integer({ minimum: 0 }),
    networks: Type.Array(Name, { maxItems: 64 }),
    disk_directories: Type.Array(Text, { maxItems: 64 }),
    /** All sites that it is protected to. */
    copy_site_ids: Type.Optional(Type.Array(Id, { maxItems: 64 })),
    /** What the definition asks of a host. */
    hardware: Type.Optional(
      Type.Object(
        {
          arch: nullable(Word),
          machine: nullable(Word),
          cpu_mode: nullable(Word),
          cpu_model: nullable(Word),
          firmware: Type.Union([Type.Literal('bios'), Type.Literal('efi')]),
          is_secure_boot: Type.Boolean(),
          has_tpm: Type.Boolean(),
        },
        closed,
      ),
    ),
    /** In the definition's order. */
    interfaces: Type.Array(
      Type.Object(
        {
          mac: Type.String({ pattern: '^([0-9a-f]{2}:){5}[0-9a-f]{2}$' }),
          network: nullable(Name),
          addresses: Type.Array(Type.String({ maxLength: 64 }), { maxItems: 32 }),
        },
        closed,
      ),
      { maxItems: 64 },
    ),
  },
  closed,
);
export type VmFacts = Static<typeof VmFacts>;

/** A VM to keep a replica of. */
export const ReplicaRequest = Type.Object(
  {
    protection_id: Id,
    vm_uuid: Type.String({ pattern: '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' }),
    vm_name: Name,
    rpo_ms: Milliseconds,
    retention: Retention,
    /** By which the asking site runs the VM, when its epoch was ever raised. */
    claim: Type.Optional(Claim),
    /** Fill the replica from the copy that yielded to that claim: only what differs is sent then. */
    from_old_copy: Type.Optional(Type.Boolean()),
    disks: Type.Array(
      /** `need_bytes` is what the first copy takes at the target. */
      Type.Object({ key: Name, bytes: Bytes, need_bytes: Bytes }, closed),
      { minItems: 1, maxItems: 64 },
    ),
  },
  closed,
);
export type ReplicaRequest = Static<typeof ReplicaRequest>;

export const ReplicaGrant = Type.Object(
  {
    replica_id: Id,
    epoch: Type.Integer({ minimum: 1 }),
    server: Type.Object({ site_id: Id, server_id: Id, host: Host, port: Port }, closed),
    /** The replica is being filled from the old copy, and not to be written yet. */
    is_seeding: Type.Optional(Type.Boolean()),
    /** What became of the old copy, for people. */
    note: Type.Optional(nullable(Text)),
  },
  closed,
);
export type ReplicaGrant = Static<typeof ReplicaGrant>;

/** How a protection is from now on, as its site tells the one that keeps the replica. */
export const ReplicaChange = Type.Object(
  {
    protection_id: Id,
    revision: Type.Integer({ minimum: 1 }),
    rpo_ms: Milliseconds,
    retention: Retention,
    /** Absent while no host of the asking site tells of the VM: they stay as they are known. */
    disks: Type.Optional(ReplicaRequest.properties.disks),
  },
  closed,
);
export type ReplicaChange = Static<typeof ReplicaChange>;

/** `is_taken` is false when that site knows of another change of this revision, or of a newer one. */
export const ReplicaChanged = Type.Object(
  { revision: Type.Integer({ minimum: 1 }), is_taken: Type.Boolean() },
  closed,
);
export type ReplicaChanged = Static<typeof ReplicaChanged>;

export const RetentionQuestion = Type.Object({ protection_id: Id, retention: Retention }, closed);
export type RetentionQuestion = Static<typeof RetentionQuestion>;

export const ReplicaRemoval = Type.Object({ protection_id: Id, delete_replica: Type.Boolean() }, closed);

/** One protection as the recovery site sees it. */
export const GrantState = Type.Object(
  {
    protection_id: Id,
    /** `absent` when the recovery site knows nothing of it. */
    state: Type.String({ maxLength: 32 }),
    grant: nullable(ReplicaGrant),
  },
  closed,
);
export type GrantState = Static<typeof GrantState>;

export const SyncRequest = Type.Object(
  {
    site_name: Name,
    protection_ids: Type.Array(Id, { maxItems: 10_000 }),
    /** What the calling site knows of VMs that it protects to this one. */
    vms: Type.Optional(
      Type.Array(Type.Object({ protection_id: Id, facts: VmFacts }, closed), { maxItems: 1000 }),
    ),
  },
  closed,
);
export const SyncReply = Type.Object(
  { site_name: Name, protections: Type.Array(GrantState, { maxItems: 10_000 }) },
  closed,
);

/** Which networks, hosts or directories of disks the called site has, asked when they are mapped. */
export const InventoryQuestion = Type.Object(
  {
    things: Type.Array(
      Type.Object({ kind: MappingKind, name: Type.String({ minLength: 1, maxLength: 1024 }) }, closed),
      { maxItems: 1000 },
    ),
  },
  closed,
);
export type InventoryQuestion = Static<typeof InventoryQuestion>;
export const InventoryAnswer = Type.Object(
  { are_known: Type.Array(Type.Boolean(), { maxItems: 1000 }) },
  closed,
);

/** A mapping that the calling site has made, as the called one is to have it in reverse. */
export const ReverseMapping = Type.Object(
  {
    kind: MappingKind,
    /** At the calling site. */
    there: Type.String({ minLength: 1, maxLength: 1024 }),
    /** At the called site. */
    here: Type.String({ minLength: 1, maxLength: 1024 }),
  },
  closed,
);
export type ReverseMapping = Static<typeof ReverseMapping>;

/** What the protected site says of a VM that is to be recovered elsewhere. */
export const VmPresence = Type.Object(
  {
    state: Type.String({ maxLength: 32 }),
    is_fresh: Type.Boolean(),
    host_name: Text,
    /** It is kept from running, since another site runs the VM. */
    has_yielded: Type.Optional(Type.Boolean()),
  },
  closed,
);
export type VmPresence = Static<typeof VmPresence>;

/** A copy of a site's plans, groups and mappings, kept by the sites that it is paired with. */
export const DOCUMENT_CHARACTERS_MAX = 8 * 1024 * 1024;
export const DocumentTold = Type.Object(
  {
    document: Type.String({ maxLength: DOCUMENT_CHARACTERS_MAX }),
    /** By the authority of the site whose it is: it believes nothing else when it is given back. */
    signature: Type.String({ pattern: '^[\\w-]{86}$' }),
  },
  closed,
);
export type DocumentTold = Static<typeof DocumentTold>;

const Endpoint = Type.Object({ site_id: Id, server_id: Id, host: Host, port: Port }, closed);
const shared = {
  protection_id: Id,
  vm_uuid: Type.String({ maxLength: 36 }),
  vm_name: Name,
  rpo_ms: Milliseconds,
  retention: Retention,
  epoch: Type.Integer({ minimum: 1 }),
  state: Type.String({ maxLength: 32 }),
  created_ms: Milliseconds,
};

export const PeerVersion = Type.Object({ version: Type.String({ maxLength: 64 }) }, closed);

/** What a site knows of a paired one that has lost its database. */
export const PeerMemory = Type.Object(
  {
    site_name: Name,
    /** Replicas that it keeps of VMs of the asking site. */
    replicas: Type.Array(
      Type.Object(
        {
          ...shared,
          replica_id: Id,
          disks: Type.Array(Type.Object({ key: Name, bytes: Bytes, need_bytes: Bytes }, closed), {
            maxItems: 64,
          }),
          server: nullable(Endpoint),
        },
        closed,
      ),
      { maxItems: 10_000 },
    ),
    /** Its own VMs that it protects to the asking site. */
    protections: Type.Array(
      Type.Object({ ...shared, replica_id: nullable(Id), server: nullable(Endpoint) }, closed),
      { maxItems: 10_000 },
    ),
    /** The newest of each VM that concerns the asking site, whoever made them; none that was withdrawn. */
    claims: Type.Array(Type.Object({ claim: Claim, vm_name: Name }, closed), { maxItems: 20_000 }),
    document: nullable(DocumentTold),
  },
  closed,
);
export type PeerMemory = Static<typeof PeerMemory>;
