/**
 * The newest epoch claim of each VM that this site knows, its own and those of other sites (docs/fencing.md,
 * section 1). A row is never removed: what was forgotten could be claimed with the same epoch again.
 */
import type { Selectable, Updateable } from 'kysely';
import type { EpochClaim } from '#/lib/epoch-claim.ts';
import type { Database } from './database.ts';
import type { ClaimsTable } from './schema.ts';

type Row = Selectable<ClaimsTable>;
/** `related_site_ids`: sites that have, or had, a replica of the VM; only they may claim it. */
export type ClaimRecord = Omit<Row, 'related_site_ids'> & { related_site_ids: string[] };

export function claimOf(record: ClaimRecord): EpochClaim {
  const { vm_uuid, epoch, site_id, issued_ms, signature } = record;
  return { vm_uuid, epoch, site_id, issued_ms, signature };
}

export async function putClaim(db: Database, record: ClaimRecord): Promise<void> {
  const row = { ...record, related_site_ids: JSON.stringify(record.related_site_ids) };
  const { vm_uuid: _, ...values } = row;
  await db
    .insertInto('claims')
    .values(row)
    .onConflict((conflict) => conflict.column('vm_uuid').doUpdateSet(values))
    .execute();
}

/** Changes what is kept beside that very claim; nothing when another has taken its place. */
export async function updateClaim(
  db: Database,
  claim: Pick<EpochClaim, 'vm_uuid' | 'signature'>,
  change: Partial<Pick<ClaimRecord, 'host_id' | 'is_withdrawn' | 'related_site_ids'>>,
): Promise<void> {
  const { related_site_ids: related, ...rest } = change;
  const row: Updateable<Row> = {
    ...rest,
    ...(related === undefined ? {} : { related_site_ids: JSON.stringify(related) }),
  };
  await db
    .updateTable('claims')
    .set(row)
    .where('vm_uuid', '=', claim.vm_uuid)
    .where('signature', '=', claim.signature)
    .execute();
}

export async function findClaim(db: Database, vmUuid: string): Promise<ClaimRecord | undefined> {
  const row = await db.selectFrom('claims').selectAll().where('vm_uuid', '=', vmUuid).executeTakeFirst();
  return row === undefined ? undefined : decode(row);
}

export async function listClaims(db: Database): Promise<ClaimRecord[]> {
  const rows = await db.selectFrom('claims').selectAll().orderBy('vm_uuid').execute();
  return rows.map(decode);
}

function decode(row: Row): ClaimRecord {
  return { ...row, related_site_ids: JSON.parse(row.related_site_ids) as string[] };
}
