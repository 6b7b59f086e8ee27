/** What paired sites have given us to keep for them: their plans, groups and mappings, one document a site. */
import type { Selectable } from 'kysely';
import type { Database } from './database.ts';
import type { PeerDocumentsTable } from './schema.ts';

export type PeerDocument = Selectable<PeerDocumentsTable>;

/** The newest one alone is kept. */
export async function putPeerDocument(db: Database, row: PeerDocument): Promise<void> {
  const { site_id: _, ...values } = row;
  await db
    .insertInto('peer_documents')
    .values(row)
    .onConflict((conflict) => conflict.column('site_id').doUpdateSet(values))
    .execute();
}

export async function findPeerDocument(db: Database, siteId: string): Promise<PeerDocument | undefined> {
  return db.selectFrom('peer_documents').selectAll().where('site_id', '=', siteId).executeTakeFirst();
}
