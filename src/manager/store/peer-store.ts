/** The sites this one is paired with. */
import type { Selectable } from 'kysely';
import type { Database } from './database.ts';
import type { PeersTable } from './schema.ts';

export type PeerRow = Selectable<PeersTable>;

/** Pairing again replaces the address and the authority: the token has proven that the other side wants it. */
export async function putPeer(db: Database, peer: PeerRow): Promise<void> {
  const { site_id: _, ...values } = peer;
  await db
    .insertInto('peers')
    .values(peer)
    .onConflict((conflict) => conflict.column('site_id').doUpdateSet(values))
    .execute();
}

export async function listPeers(db: Database): Promise<PeerRow[]> {
  return db.selectFrom('peers').selectAll().orderBy('site_name').execute();
}
