/** What something of a paired site becomes at this one. */
import type { Selectable } from 'kysely';
import type { Database } from './database.ts';
import type { MappingsTable } from './schema.ts';

export type MappingRecord = Selectable<MappingsTable>;

/** A thing of the other site becomes one thing here: a second mapping of it takes the place of the first. */
export async function putMapping(db: Database, mapping: MappingRecord): Promise<void> {
  await db
    .insertInto('mappings')
    .values(mapping)
    .onConflict((conflict) =>
      conflict.columns(['peer_site_id', 'kind', 'there']).doUpdateSet({ here: mapping.here }),
    )
    .execute();
}

/** True when there was such a mapping. */
export async function dropMapping(
  db: Database,
  { peer_site_id: siteId, kind, there }: Omit<MappingRecord, 'here'>,
): Promise<boolean> {
  const { numDeletedRows } = await db
    .deleteFrom('mappings')
    .where('peer_site_id', '=', siteId)
    .where('kind', '=', kind)
    .where('there', '=', there)
    .executeTakeFirst();
  return numDeletedRows === 1n;
}

export async function listMappings(db: Database): Promise<MappingRecord[]> {
  return db
    .selectFrom('mappings')
    .selectAll()
    .orderBy('peer_site_id')
    .orderBy('kind')
    .orderBy('there')
    .execute();
}
