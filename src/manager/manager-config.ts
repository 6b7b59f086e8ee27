/** The manager's configuration (docs/operate/configuration.md), typed and frozen. */
import { join } from 'node:path';
import { absolutePath, optional, port, readConfig, section, text, type ConfigOf } from '#/lib/config.ts';
import { openidConnect } from './access/oidc-config.ts';

const PORT = 7480;

const MANAGER = {
  dataDirectory: absolutePath,
  siteName: text,
  listen: optional(section({ host: optional(text, '0.0.0.0'), port: optional(port, PORT) }), {
    host: '0.0.0.0',
    port: PORT,
  }),
  advertisedHost: text,
  socketPath: optional(absolutePath, '/run/antipode/manager.sock'),
  databaseUrl: optional(text, ''),
  /** Programs that plans may run, which only root can put there. Null: none. */
  openidConnect,
  planCommandsDirectory: optional(absolutePath, null),
  /** TrueType fonts for reports with characters outside Latin-1. Null: Debian's. */
  reportFontsDirectory: optional(absolutePath, null),
  /** Who is told of alarms; root's alone, since it may hold passwords. Null: nobody. */
  alarmTargetsFile: optional(absolutePath, null),
};

export type ManagerConfig = ConfigOf<typeof MANAGER>;

/** Throws config_invalid that names the key. */
export async function readManagerConfig(path: string): Promise<ManagerConfig> {
  const config = await readConfig(path, MANAGER);
  if (config.databaseUrl !== '') return config;
  return Object.freeze({ ...config, databaseUrl: sqliteIn(config.dataDirectory) });
}

export function sqliteIn(dataDirectory: string): string {
  return `sqlite:${join(dataDirectory, 'manager.db')}`;
}
