/**
 * The manager's tables as the query builder sees them. Times are integer milliseconds, flags 0 or 1, and structured
 * values JSON text, so that SQLite and PostgreSQL hold the same. What each is for stands with its store.
 */
import type { Generated } from 'kysely';

export interface SettingsTable {
  name: string;
  value: string;
}

export interface AdmissionTokensTable {
  secret_sha256: string;
  kind: string;
  created_ms: number;
  expires_ms: number;
  used_ms: number | null;
  used_by: string | null;
}

export interface ApiTokensTable {
  id: string;
  name: string;
  token_sha256: string;
  created_ms: number;
  grants: string;
  /** Null: until it is revoked. */
  expires_ms: number | null;
}

/** Local users. */
export interface UsersTable {
  id: string;
  /** The name as it is compared. */
  key: string;
  name: string;
  /** As access/password.ts writes it. */
  password: string;
  /** Roles, as JSON of src/api/access.ts. */
  grants: string;
  is_locked: number;
  /** For when the identity provider is down; each use is told of loudly. */
  is_break_glass: number;
  created_ms: number;
  password_ms: number;
  signed_in_ms: number | null;
}

export interface SessionsTable {
  id: string;
  secret_sha256: string;
  /** The user's key, or who the identity provider says it is. */
  user_key: string;
  user_name: string;
  /** Null for a local user, whose own count at each request. */
  grants: string | null;
  begun_ms: number;
  seen_ms: number;
  ends_ms: number;
  address: string;
  agent: string;
}

/** Wrong passwords in a row, by the name that was claimed. */
export interface SignInFailuresTable {
  name_sha256: string;
  count: number;
  last_ms: number;
}

export interface MembersTable {
  id: string;
  kind: 'agent' | 'replication-server';
  name: string;
  joined_ms: number;
  removed_ms: number | null;
  certificate_expires_ms: number;
  /** The last report that was kept, and when it came. */
  report: string | null;
  report_ms: number | null;
}

export interface OrderRevisionsTable {
  member_id: string;
  revision: number;
  sha256: string;
}

export interface PeersTable {
  site_id: string;
  site_name: string;
  ca_pem: string;
  host: string;
  port: number;
  paired_ms: number;
}

export interface ProtectionsTable {
  id: string;
  vm_uuid: string;
  vm_name: string;
  host_id: string;
  target_site_id: string;
  disks: string;
  rpo_ms: number;
  added_disks: 'replicate' | 'report';
  retention: string;
  scratch_bytes: number;
  /**
   * requested: recorded here, perhaps not yet there. active. removing: no longer ordered here, perhaps still there.
   * superseded: the VM was recovered at the other site. seeding: that site fills the replica from its old copy.
   */
  state: 'requested' | 'seeding' | 'active' | 'removing' | 'superseded';
  replica_id: string | null;
  epoch: number;
  server: string | null;
  delete_replica: number;
  created_ms: number;
  /** 1: the other site is to fill the replica from the copy that it has. */
  from_old_copy: number;
  /** Rises with every change of how the VM is protected. */
  revision: number;
  /** The newest revision that the other site has confirmed. */
  told_revision: number;
}

export interface ReplicasTable {
  id: string;
  protection_id: string;
  vm_uuid: string;
  vm_name: string;
  source_site_id: string;
  server_id: string;
  disks: string;
  rpo_ms: number;
  retention: string;
  epoch: number;
  /**
   * kept: no longer protected, points stay. recovered: the VM was brought up here. deleting: until the server did.
   * seeding: filled from the old copy of this site.
   */
  state: 'active' | 'kept' | 'recovered' | 'deleting' | 'seeding';
  created_ms: number;
  /** The newest point that is an old copy of this site, not what the source is; null when there is none. */
  seed_sequence: number | null;
  /** What became of the last filling from an old copy, in words. */
  seed_note: string | null;
  /** Of the protection, as its site last told of it. */
  revision: number;
  /** Points that have a name and are kept by it, as JSON. */
  bookmarks: string;
}

export interface ClaimsTable {
  vm_uuid: string;
  vm_name: string;
  epoch: number;
  /** The site that signed it, and may run the VM. */
  site_id: string;
  issued_ms: number;
  signature: string;
  /** Of an own claim: the host whose copy a person has said is the one. */
  host_id: string | null;
  /** 1: an own claim whose recovery was taken back. It is told to nobody; its epoch is not used again. */
  is_withdrawn: number;
  related_site_ids: string;
}

export interface TasksTable {
  id: string;
  member_id: string;
  job_id: string | null;
  body: string;
  /** withdrawn: no longer ordered, whatever it came to. */
  state: 'ordered' | 'running' | 'done' | 'failed' | 'withdrawn';
  report: string | null;
  created_ms: number;
}

export interface JobsTable {
  id: string;
  kind: 'recovery';
  replica_id: string;
  request: string;
  state: string;
  failure: string | null;
  created_ms: number;
  updated_ms: number;
}

export interface JobStepsTable {
  job_id: string;
  position: number;
  name: string;
  state: 'running' | 'done' | 'failed';
  started_ms: number;
  ended_ms: number | null;
  failure: string | null;
  /** What came of it, in words, where that is more than done or failed. */
  note: string | null;
}

export interface EventsTable {
  sequence: Generated<number>;
  at_ms: number;
  kind: string;
  severity: 'info' | 'warning' | 'error';
  subject_kind: string;
  subject_id: string;
  message: string;
  /** Who saw it, and that reporter's own id of it: a repeated report is one event. */
  reporter: string;
  reporter_event_id: string;
}

/** As src/api/audit.ts has it. */
export interface AuditTable {
  sequence: number;
  at_ms: number;
  actor: string;
  action: string;
  subject: string;
  outcome: string;
  by: string;
  address: string;
  reason: string | null;
  begun: number | null;
  hash: string;
}

/** The number and hash of the last row, which whoever adds one holds. */
export interface AuditChainTable {
  name: string;
  sequence: number;
  hash: string;
}

export interface AuditArchivesTable {
  first_sequence: number;
  last_sequence: number;
  last_hash: string;
  file: string;
  sha256: string;
  manager_id: string;
  archived_ms: number;
}

export interface AlarmsTable {
  id: string;
  /** Kind and subject while it stands, null when it is over: unique, so that one stands at most. */
  standing_key: string | null;
  kind: string;
  severity: string;
  subject_kind: string;
  subject_id: string;
  subject_name: string;
  message: string;
  hint: string | null;
  raised_ms: number;
  cleared_ms: number | null;
  acknowledged_ms: number | null;
  acknowledged_by: string | null;
  note: string | null;
}

export interface AlarmNoticesTable {
  sequence: Generated<number>;
  target: string;
  body: string;
  attempts: number;
  next_ms: number;
  created_ms: number;
}

export interface ViolationsTable {
  replica_id: string;
  began_ms: number;
}

/** What something of a paired site becomes here. */
export interface MappingsTable {
  peer_site_id: string;
  kind: 'network' | 'storage' | 'host';
  there: string;
  here: string;
}

/** What the protected site told of the VM of a replica, whether it is there or not when it is needed. */
export interface VmFactsTable {
  replica_id: string;
  facts: string;
  told_ms: number;
}

/** Documents are those of src/api/plans.ts. */
export interface ProtectionGroupsTable {
  id: string;
  name: string;
  document: string;
  created_ms: number;
  updated_ms: number;
}

export interface PlansTable {
  id: string;
  name: string;
  revision: number;
  document: string;
  created_ms: number;
  updated_ms: number;
}

export interface RunsTable {
  id: string;
  /** Null for a run that was made for single VMs. */
  plan_id: string | null;
  plan_name: string;
  kind: string;
  state: string;
  /** What was asked for, and everything that was decided when it began. */
  request: string;
  failure: string | null;
  /** Who advances it, until when; the number rises with every holder, so that a late one writes nothing. */
  lease_holder: string | null;
  lease_number: number;
  lease_until_ms: number;
  created_ms: number;
  updated_ms: number;
  ended_ms: number | null;
}

export interface RunStepsTable {
  run_id: string;
  key: string;
  position: number;
  kind: string;
  vm_uuid: string | null;
  /** What it does and what it waits for, as it was decided when the run began. */
  body: string;
  state: string;
  /** Tries over the whole life of the run, and since it began or was resumed. */
  attempts: number;
  tries: number;
  started_ms: number | null;
  ended_ms: number | null;
  failure: string | null;
  note: string | null;
  result: string | null;
  /** Of a message: what a person said. */
  answer: string | null;
}

/** What a paired site gave this one to keep, in case that it loses its database. */
export interface PeerDocumentsTable {
  site_id: string;
  document: string;
  signature: string;
  received_ms: number;
}

/** Who does what only one manager on a database may do, until when; the number rises with every holder. */
export interface LeasesTable {
  name: string;
  holder: string;
  number: number;
  until_ms: number;
}

export interface Schema {
  settings: SettingsTable;
  admission_tokens: AdmissionTokensTable;
  api_tokens: ApiTokensTable;
  users: UsersTable;
  sessions: SessionsTable;
  sign_in_failures: SignInFailuresTable;
  members: MembersTable;
  order_revisions: OrderRevisionsTable;
  peers: PeersTable;
  protections: ProtectionsTable;
  replicas: ReplicasTable;
  claims: ClaimsTable;
  tasks: TasksTable;
  jobs: JobsTable;
  job_steps: JobStepsTable;
  events: EventsTable;
  audit: AuditTable;
  audit_chain: AuditChainTable;
  audit_archives: AuditArchivesTable;
  alarms: AlarmsTable;
  alarm_notices: AlarmNoticesTable;
  violations: ViolationsTable;
  mappings: MappingsTable;
  vm_facts: VmFactsTable;
  protection_groups: ProtectionGroupsTable;
  plans: PlansTable;
  runs: RunsTable;
  run_steps: RunStepsTable;
  leases: LeasesTable;
  peer_documents: PeerDocumentsTable;
}
