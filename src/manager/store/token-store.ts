/**
 * Tokens: those that admit a program or a site once, and those of administrators. Only hashes are kept.
 *
 * Invariant: of two uses of one admission token at the same time, one wins, because use is a single update.
 */
import type { TokenKind } from '#/control/join-token.ts';
import type { Database } from './database.ts';

/** A program, a site, the first of all people, or one who is to choose a password: with which user, and of when. */
export type AdmissionKind = TokenKind | 'first-administrator' | `password-reset ${string} ${number}`;

export type AdmissionRecord = {
  kind: string;
  expiresMs: number;
  usedMs: number | null;
  usedBy: string | null;
};

export async function addAdmissionToken(
  db: Database,
  token: { secretSha256: string; kind: AdmissionKind; createdMs: number; expiresMs: number },
): Promise<void> {
  // Tokens that expired a day ago only have to be told apart from unknown ones for so long.
  await db
    .deleteFrom('admission_tokens')
    .where('expires_ms', '<', token.createdMs - 86_400_000)
    .execute();
  await db
    .insertInto('admission_tokens')
    .values({
      secret_sha256: token.secretSha256,
      kind: token.kind,
      created_ms: token.createdMs,
      expires_ms: token.expiresMs,
      used_ms: null,
      used_by: null,
    })
    .execute();
}

/** True when this very call used the token up. */
export async function takeAdmissionToken(
  db: Database,
  use: { secretSha256: string; kind: AdmissionKind; nowMs: number; by: string },
): Promise<boolean> {
  const { numUpdatedRows } = await db
    .updateTable('admission_tokens')
    .set({ used_ms: use.nowMs, used_by: use.by })
    .where('secret_sha256', '=', use.secretSha256)
    .where('kind', '=', use.kind)
    .where('used_ms', 'is', null)
    .where('expires_ms', '>', use.nowMs)
    .executeTakeFirst();
  return numUpdatedRows === 1n;
}

export async function findAdmissionToken(
  db: Database,
  secretSha256: string,
): Promise<AdmissionRecord | undefined> {
  const row = await db
    .selectFrom('admission_tokens')
    .selectAll()
    .where('secret_sha256', '=', secretSha256)
    .executeTakeFirst();
  if (row === undefined) return undefined;
  return { kind: row.kind, expiresMs: row.expires_ms, usedMs: row.used_ms, usedBy: row.used_by };
}

export async function addApiToken(
  db: Database,
  token: {
    id: string;
    name: string;
    tokenSha256: string;
    grants: string;
    createdMs: number;
    expiresMs: number | null;
  },
): Promise<void> {
  await db
    .insertInto('api_tokens')
    .values({
      id: token.id,
      name: token.name,
      token_sha256: token.tokenSha256,
      grants: token.grants,
      created_ms: token.createdMs,
      expires_ms: token.expiresMs,
    })
    .execute();
}

export async function listApiTokens(db: Database) {
  return db
    .selectFrom('api_tokens')
    .select(['id', 'name', 'grants', 'created_ms', 'expires_ms'])
    .orderBy('created_ms')
    .limit(1000)
    .execute();
}

export async function removeApiToken(db: Database, id: string): Promise<boolean> {
  const { numDeletedRows } = await db.deleteFrom('api_tokens').where('id', '=', id).executeTakeFirst();
  return numDeletedRows === 1n;
}

/** By the token's hash: comparing hashes takes no secret-dependent time. */
export async function findApiToken(db: Database, tokenSha256: string) {
  return db
    .selectFrom('api_tokens')
    .select(['name', 'grants', 'expires_ms'])
    .where('token_sha256', '=', tokenSha256)
    .executeTakeFirst();
}
