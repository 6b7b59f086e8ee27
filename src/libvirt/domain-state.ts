/** The states of a domain and the reasons for them, by name. Source: libvirt 9.0, `libvirt-domain.h`. */

const STATES = [
  'nostate',
  'running',
  'blocked',
  'paused',
  'shutting-down',
  'shutoff',
  'crashed',
  'pmsuspended',
] as const;

export type DomainStateName = (typeof STATES)[number] | 'unknown';

export type DomainState = {
  state: DomainStateName;
  /** Why, in the words of REASONS; `unknown` for one that this table does not have. */
  reason: string;
  /** libvirt's own numbers. */
  stateNumber: number;
  reasonNumber: number;
};

const REASONS: Partial<Record<DomainStateName, readonly string[]>> = {
  running: [
    'unknown',
    'booted',
    'migrated',
    'restored',
    'from-snapshot',
    'unpaused',
    'migration-canceled',
    'save-canceled',
    'wakeup',
    'crashed',
    'postcopy',
    'postcopy-failed',
  ],
  paused: [
    'unknown',
    'user',
    'migration',
    'save',
    'dump',
    'io-error',
    'watchdog',
    'from-snapshot',
    'shutting-down',
    'snapshot',
    'crashed',
    'starting-up',
    'postcopy',
    'postcopy-failed',
  ],
  'shutting-down': ['unknown', 'user'],
  shutoff: [
    'unknown',
    'shutdown',
    'destroyed',
    'crashed',
    'migrated',
    'saved',
    'failed',
    'from-snapshot',
    'daemon',
  ],
  crashed: ['unknown', 'panicked'],
};

export function domainState(stateNumber: number, reasonNumber: number): DomainState {
  const state = STATES[stateNumber] ?? 'unknown';
  const reason = REASONS[state]?.[reasonNumber] ?? 'unknown';
  return { state, reason, stateNumber, reasonNumber };
}
