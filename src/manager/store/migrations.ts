/**
 * The numbered, forward-only steps that make the tables. A step that was released is never edited: what changes
 * later is another step, tested from the data of the one before.
 */
import { sql, type Kysely } from 'kysely';
import { chainOldRows } from './audit-store.ts';

export type DatabaseKind = 'sqlite' | 'postgresql';
type Migration = (db: Kysely<unknown>, kind: DatabaseKind) => Promise<void>;

export const MIGRATIONS: Record<string, Migration> = {
  '0001-first-tables': firstTables,
  '0002-epoch-claims': epochClaims,
  '0003-recovery-plans': recoveryPlans,
  '0005-access': access,
  '0007-alarms': alarms,
  '0008-alarm-notices': alarmNotices,
  '0009-audit': audit,
  '0010-protection-changes': protectionChanges,
  '0011-bookmarks': bookmarks,
};

/** A number that rises with every row and is never used again. */
const SEQUENCE: Record<DatabaseKind, string> = {
  sqlite: 'integer primary key autoincrement',
  postgresql: 'bigint generated always as identity primary key',
};

async function firstTables(db: Kysely<unknown>, kind: DatabaseKind): Promise<void> {
  for (const statement of FIRST_TABLES) {
    await sql.raw(statement.replace('SEQUENCE', SEQUENCE[kind])).execute(db);
  }
}

/** Protections of before carry an epoch without a claim; they claim it with their next word from the other site. */
async function epochClaims(db: Kysely<unknown>): Promise<void> {
  for (const statement of EPOCH_CLAIMS) await sql.raw(statement).execute(db);
}

async function recoveryPlans(db: Kysely<unknown>): Promise<void> {
  for (const statement of RECOVERY_PLANS) await sql.raw(statement).execute(db);
}

/** Tokens of before are their holders' for everything and without an end, as they were. */
async function access(db: Kysely<unknown>): Promise<void> {
  for (const statement of ACCESS) await sql.raw(statement).execute(db);
}

async function alarms(db: Kysely<unknown>): Promise<void> {
  await sql.raw(ALARMS).execute(db);
}

async function alarmNotices(db: Kysely<unknown>, kind: DatabaseKind): Promise<void> {
  await sql.raw(ALARM_NOTICES.replace('SEQUENCE', SEQUENCE[kind])).execute(db);
}

const ALARM_NOTICES = `create table alarm_notices (
    sequence SEQUENCE, target text not null, body text not null, attempts bigint not null, next_ms bigint not null,
    created_ms bigint not null)`;

const ALARMS = `create table alarms (
    id text primary key, standing_key text unique, kind text not null, severity text not null,
    subject_kind text not null, subject_id text not null, subject_name text not null, message text not null,
    hint text, raised_ms bigint not null, cleared_ms bigint, acknowledged_ms bigint, acknowledged_by text, note text)`;

async function audit(db: Kysely<unknown>, kind: DatabaseKind): Promise<void> {
  for (const statement of AUDIT) await sql.raw(statement).execute(db);
  // The chain numbers its rows without a gap, which an identity does not.
  if (kind === 'postgresql') {
    await sql.raw('alter table audit alter column sequence drop identity').execute(db);
  }
  await chainOldRows(db);
}

/** What was protected before has been told to the other site as it is. */
async function protectionChanges(db: Kysely<unknown>): Promise<void> {
  for (const statement of PROTECTION_CHANGES) await sql.raw(statement).execute(db);
}

async function bookmarks(db: Kysely<unknown>): Promise<void> {
  await sql.raw(`alter table replicas add column bookmarks text not null default '[]'`).execute(db);
}

const PROTECTION_CHANGES = [
  `alter table protections add column revision bigint not null default 1`,
  `alter table protections add column told_revision bigint not null default 1`,
  `alter table replicas add column revision bigint not null default 1`,
];

const AUDIT = [
  `alter table audit add column "by" text not null default 'unknown'`,
  `alter table audit add column address text not null default ''`,
  `alter table audit add column reason text`,
  `alter table audit add column begun bigint`,
  `alter table audit add column hash text not null default ''`,
  `create index audit_by_begun on audit (begun)`,
  `create table audit_chain (name text primary key, sequence bigint not null, hash text not null)`,
  `create table audit_archives (
    first_sequence bigint primary key, last_sequence bigint not null, last_hash text not null, file text not null,
    sha256 text not null, manager_id text not null, archived_ms bigint not null)`,
];

const ACCESS = [
  `create table users (
    id text primary key, key text not null unique, name text not null, password text not null, grants text not null,
    is_locked bigint not null, is_break_glass bigint not null, created_ms bigint not null,
    password_ms bigint not null, signed_in_ms bigint)`,
  `create table sessions (
    id text primary key, secret_sha256 text not null unique, user_key text not null, user_name text not null,
    grants text, begun_ms bigint not null, seen_ms bigint not null, ends_ms bigint not null,
    address text not null, agent text not null)`,
  `create index sessions_by_user on sessions (user_key)`,
  `create table sign_in_failures (name_sha256 text primary key, count bigint not null, last_ms bigint not null)`,
  `alter table api_tokens add column grants text not null default '[{"role":"administrator","group_id":null}]'`,
  `alter table api_tokens add column expires_ms bigint`,
];

const RECOVERY_PLANS = [
  `create table leases (
    name text primary key, holder text not null, number bigint not null, until_ms bigint not null)`,
  `create table mappings (
    peer_site_id text not null, kind text not null, there text not null, here text not null,
    primary key (peer_site_id, kind, there))`,
  `create table vm_facts (replica_id text primary key, facts text not null, told_ms bigint not null)`,
  `create table protection_groups (
    id text primary key, name text not null unique, document text not null, created_ms bigint not null,
    updated_ms bigint not null)`,
  `create table plans (
    id text primary key, name text not null unique, revision bigint not null, document text not null,
    created_ms bigint not null, updated_ms bigint not null)`,
  `create table runs (
    id text primary key, plan_id text, plan_name text not null, kind text not null, state text not null,
    request text not null, failure text, lease_holder text, lease_number bigint not null,
    lease_until_ms bigint not null, created_ms bigint not null, updated_ms bigint not null, ended_ms bigint)`,
  `create index runs_by_state on runs (state)`,
  `create table run_steps (
    run_id text not null, key text not null, position bigint not null, kind text not null, vm_uuid text,
    body text not null, state text not null, attempts bigint not null, tries bigint not null, started_ms bigint,
    ended_ms bigint, failure text, note text, result text, answer text, primary key (run_id, key))`,
  `alter table protections add column from_old_copy bigint not null default 0`,
  `alter table replicas add column seed_sequence bigint`,
  `alter table replicas add column seed_note text`,
  `create table peer_documents (
    site_id text primary key, document text not null, signature text not null, received_ms bigint not null)`,
];

const EPOCH_CLAIMS = [
  `create table claims (
    vm_uuid text primary key, vm_name text not null, epoch bigint not null, site_id text not null,
    issued_ms bigint not null, signature text not null, host_id text, is_withdrawn bigint not null,
    related_site_ids text not null)`,
  `alter table job_steps add column note text`,
];

const FIRST_TABLES = [
  `create table settings (name text primary key, value text not null)`,
  `create table admission_tokens (
    secret_sha256 text primary key, kind text not null, created_ms bigint not null, expires_ms bigint not null,
    used_ms bigint, used_by text)`,
  `create table api_tokens (
    id text primary key, name text not null, token_sha256 text not null unique, created_ms bigint not null)`,
  `create table members (
    id text primary key, kind text not null, name text not null, joined_ms bigint not null, removed_ms bigint,
    certificate_expires_ms bigint not null, report text, report_ms bigint)`,
  `create table order_revisions (member_id text primary key, revision bigint not null, sha256 text not null)`,
  `create table peers (
    site_id text primary key, site_name text not null, ca_pem text not null, host text not null,
    port bigint not null, paired_ms bigint not null)`,
  `create table protections (
    id text primary key, vm_uuid text not null, vm_name text not null, host_id text not null,
    target_site_id text not null, disks text not null, rpo_ms bigint not null, added_disks text not null,
    retention text not null, scratch_bytes bigint not null, state text not null, replica_id text,
    epoch bigint not null, server text, delete_replica bigint not null, created_ms bigint not null,
    unique (vm_uuid, target_site_id))`,
  `create table replicas (
    id text primary key, protection_id text not null unique, vm_uuid text not null, vm_name text not null,
    source_site_id text not null, server_id text not null, disks text not null, rpo_ms bigint not null,
    retention text not null, epoch bigint not null, state text not null, created_ms bigint not null,
    unique (vm_uuid, source_site_id))`,
  `create table tasks (
    id text primary key, member_id text not null, job_id text, body text not null, state text not null,
    report text, created_ms bigint not null)`,
  `create index tasks_by_member on tasks (member_id, state)`,
  `create table jobs (
    id text primary key, kind text not null, replica_id text not null, request text not null, state text not null,
    failure text, created_ms bigint not null, updated_ms bigint not null)`,
  `create index jobs_by_state on jobs (state)`,
  `create table job_steps (
    job_id text not null, position bigint not null, name text not null, state text not null,
    started_ms bigint not null, ended_ms bigint, failure text, primary key (job_id, position))`,
  `create table events (
    sequence SEQUENCE, at_ms bigint not null, kind text not null, severity text not null,
    subject_kind text not null, subject_id text not null, message text not null, reporter text not null,
    reporter_event_id text not null, unique (reporter, reporter_event_id))`,
  `create table audit (
    sequence SEQUENCE, at_ms bigint not null, actor text not null, action text not null, subject text not null,
    outcome text not null)`,
  `create table violations (replica_id text primary key, began_ms bigint not null)`,
];
