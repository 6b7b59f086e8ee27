/** Ids that people can tell apart in a log, and that never collide between sites. */
import { randomHex, type Random } from '#/lib/random.ts';

export type IdKind =
  | 'site'
  | 'manager'
  | 'host'
  | 'server'
  | 'protection'
  | 'replica'
  | 'job'
  | 'seed'
  | 'token'
  | 'group'
  | 'plan'
  | 'run'
  | 'user'
  | 'session'
  | 'alarm'
  | 'console';

export function newId(random: Random, kind: IdKind): string {
  return `${kind}-${randomHex(random, 6)}`;
}
