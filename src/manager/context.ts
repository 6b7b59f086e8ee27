/** What every part of the manager needs, handed to each at its construction. */
import type { Clock } from '#/lib/clock.ts';
import type { Log } from '#/lib/log.ts';
import type { Random } from '#/lib/random.ts';
import type { CertificateAuthority } from './certificate-authority.ts';
import type { Changes } from './changes.ts';
import type { EventLog } from './event-log.ts';
import type { Inventory } from './inventory.ts';
import type { ManagerConfig } from './manager-config.ts';
import type { SiteIdentity } from './site-identity.ts';
import type { Database } from './store/database.ts';

export type Context = {
  config: ManagerConfig;
  identity: SiteIdentity;
  clock: Clock;
  random: Random;
  log: Log;
  db: Database;
  changes: Changes;
  authority: CertificateAuthority;
  events: EventLog;
  inventory: Inventory;
};
