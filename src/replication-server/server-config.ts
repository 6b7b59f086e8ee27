/** The replication server's configuration (docs/operate/configuration.md), typed and frozen. */
import { absolutePath, type ConfigOf, httpsUrl, optional, port, section, text } from '#/lib/config.ts';

const ADDRESS = { host: optional(text, '0.0.0.0'), port: optional(port, 7481) };

export const SERVER_CONFIG = {
  /** Key, certificate, last orders, which views are open. */
  dataDirectory: absolutePath,
  /** The replicas. */
  storeDirectory: absolutePath,
  /** Unix sockets of opened views. */
  runDirectory: optional(absolutePath, '/run/antipode'),
  listen: optional(section(ADDRESS), { host: '0.0.0.0', port: 7481 }),
  /** Where agents of other sites reach it. */
  advertisedHost: text,
  managerUrl: httpsUrl,
  joinTokenFile: optional(absolutePath, undefined),
};

export type ServerConfig = ConfigOf<typeof SERVER_CONFIG>;
