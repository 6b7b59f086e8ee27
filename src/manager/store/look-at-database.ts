/** A look into a manager's database from beside it: nothing is made, migrated or changed, whatever is found there. */
import { access } from 'node:fs/promises';
import { sql } from 'kysely';
import { silentLog } from '#/lib/log.ts';
import { connectDatabase, kindOf } from './database.ts';
import type { DatabaseKind } from './migrations.ts';
import { readSetting } from './settings-store.ts';
import { listPeers } from './peer-store.ts';

export type DatabaseLook = {
  kind: DatabaseKind;
  /** Names of the steps that made its tables; undefined where there are none yet. */
  migrations: string[] | undefined;
  /** When the last backup was made; undefined: never. */
  backupMs: number | undefined;
  peers: { siteName: string; host: string; port: number; caPem: string }[];
};

/** Throws unreachable, config_invalid, storage_io. */
export async function lookAtDatabase(url: string): Promise<DatabaseLook> {
  const kind = kindOf(url);
  if (kind === 'sqlite') {
    try {
      await access(url.slice('sqlite:'.length));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT')
        return { kind, migrations: undefined, backupMs: undefined, peers: [] };
      throw error;
    }
  }
  const db = connectDatabase(url, silentLog, { readOnly: true });
  try {
    const tables = await db.introspection.getTables({ withInternalKyselyTables: true });
    if (!tables.some(({ name }) => name === 'kysely_migration')) {
      return { kind, migrations: undefined, backupMs: undefined, peers: [] };
    }
    const { rows } = await sql<{ name: string }>`select name from kysely_migration order by name`.execute(db);
    const peers = tables.some(({ name }) => name === 'peers') ? await listPeers(db) : [];
    const kept = await readSetting(db, 'last_backup');
    const backup = kept === undefined ? undefined : (JSON.parse(kept) as { created_ms: number });
    return {
      kind,
      backupMs: backup?.created_ms,
      migrations: rows.map(({ name }) => name),
      peers: peers.map(({ ca_pem: caPem, host, port, site_name: siteName }) => ({
        siteName,
        host,
        port,
        caPem,
      })),
    };
  } finally {
    await db.destroy();
  }
}
