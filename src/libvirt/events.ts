/**
 * Events of domains: their numbers, their layouts, and what they mean by name.
 *
 * Every event packet starts with the number of the callback that it is for. Source: libvirt 9.0, `remote_protocol.x`,
 * `libvirt-domain.h`.
 */
import { JOB_PARAMETERS_MAX } from './limits.ts';
import { Procedure } from './procedures.ts';
import { decodeDomainRef, decodeTypedParameters } from './remote-types.ts';
import type { DomainRef, TypedValue } from './remote-types.ts';
import { XdrReader } from './xdr.ts';

export type LifecycleChange =
  | 'defined'
  | 'undefined'
  | 'started'
  | 'suspended'
  | 'resumed'
  | 'stopped'
  | 'shutdown'
  | 'pmsuspended'
  | 'crashed'
  | 'unknown';

export type DomainEvent =
  /** `reason` is a word of LIFECYCLE below: a stop is `shutdown`, `destroyed`, `crashed`, ... */
  | { kind: 'lifecycle'; domain: DomainRef; change: LifecycleChange; reason: string }
  | { kind: 'reboot'; domain: DomainRef }
  | {
      kind: 'io-error';
      domain: DomainRef;
      /** Path and alias are empty where QEMU names a node only: `Domain.getDiskErrors` tells the disk then. */
      path: string;
      deviceAlias: string;
      action: 'none' | 'pause' | 'report' | 'unknown';
      /** `enospc`, `eio`, or empty when QEMU does not say. */
      reason: string;
    }
  | {
      kind: 'block-job';
      domain: DomainRef;
      target: string;
      job: 'unknown' | 'pull' | 'copy' | 'commit' | 'active-commit' | 'backup';
      status: 'completed' | 'failed' | 'canceled' | 'ready' | 'unknown';
    }
  /** A backup, migration or save came to its end; the parameters are those of `DomainBackup.getStats`. */
  | { kind: 'job-completed'; domain: DomainRef; parameters: Map<string, TypedValue> }
  | { kind: 'agent'; domain: DomainRef; state: 'connected' | 'disconnected' | 'unknown'; reason: number }
  | { kind: 'device-added'; domain: DomainRef; deviceAlias: string }
  | { kind: 'device-removed'; domain: DomainRef; deviceAlias: string }
  | {
      kind: 'block-threshold';
      domain: DomainRef;
      /** `vda`, or `vda[1]` for an image of the backing chain. */
      device: string;
      path: string | undefined;
      thresholdBytes: number;
      excessBytes: number;
    };

export type DomainEventKind = DomainEvent['kind'];

/** The number under which each kind is registered. */
export const EVENT_NUMBERS: Readonly<Record<DomainEventKind, number>> = {
  lifecycle: 0,
  reboot: 1,
  'io-error': 6,
  'device-removed': 15,
  'block-job': 16,
  agent: 18,
  'device-added': 19,
  'job-completed': 21,
  'block-threshold': 24,
};

/** In the order of libvirt's numbers: the change, and the reasons for it. */
const LIFECYCLE: readonly (readonly [LifecycleChange, ...string[]])[] = [
  ['defined', 'added', 'updated', 'renamed', 'from-snapshot'],
  ['undefined', 'removed', 'renamed'],
  ['started', 'booted', 'migrated', 'restored', 'from-snapshot', 'wakeup'],
  [
    'suspended',
    'paused',
    'migrated',
    'io-error',
    'watchdog',
    'restored',
    'from-snapshot',
    'api-error',
    'postcopy',
    'postcopy-failed',
  ],
  ['resumed', 'unpaused', 'migrated', 'from-snapshot', 'postcopy', 'postcopy-failed'],
  ['stopped', 'shutdown', 'destroyed', 'crashed', 'migrated', 'saved', 'failed', 'from-snapshot'],
  ['shutdown', 'finished', 'guest', 'host'],
  ['pmsuspended', 'memory', 'disk'],
  ['crashed', 'panicked', 'crash-loaded'],
];

const IO_ACTIONS = ['none', 'pause', 'report'] as const;
const JOBS = ['unknown', 'pull', 'copy', 'commit', 'active-commit', 'backup'] as const;
const JOB_STATUSES = ['completed', 'failed', 'canceled', 'ready'] as const;
const AGENT_STATES = ['unknown', 'connected', 'disconnected'] as const;

type EventReader = (reader: XdrReader, domain: DomainRef) => DomainEvent;

/** How each event packet reads after its callback number and its domain. */
const READERS: ReadonlyMap<number, EventReader> = new Map<number, EventReader>([
  [Procedure.eventLifecycle, readLifecycle],
  [Procedure.eventReboot, (_, domain) => ({ kind: 'reboot', domain })],
  [
    Procedure.eventIoErrorReason,
    (r, domain) => ({
      kind: 'io-error',
      domain,
      path: r.string(),
      deviceAlias: r.string(),
      action: IO_ACTIONS[r.int()] ?? 'unknown',
      reason: r.string(),
    }),
  ],
  [
    Procedure.eventBlockJob2,
    (r, domain) => ({
      kind: 'block-job',
      domain,
      target: r.string(),
      job: JOBS[r.int()] ?? 'unknown',
      status: JOB_STATUSES[r.int()] ?? 'unknown',
    }),
  ],
  [
    Procedure.eventJobCompleted,
    (r, domain) => ({
      kind: 'job-completed',
      domain,
      parameters: decodeTypedParameters(r, JOB_PARAMETERS_MAX),
    }),
  ],
  [
    Procedure.eventAgentLifecycle,
    (r, domain) => ({ kind: 'agent', domain, state: AGENT_STATES[r.int()] ?? 'unknown', reason: r.int() }),
  ],
  [Procedure.eventDeviceAdded, (r, domain) => ({ kind: 'device-added', domain, deviceAlias: r.string() })],
  [
    Procedure.eventDeviceRemoved,
    (r, domain) => ({ kind: 'device-removed', domain, deviceAlias: r.string() }),
  ],
  [
    Procedure.eventBlockThreshold,
    (r, domain) => ({
      kind: 'block-threshold',
      domain,
      device: r.string(),
      path: r.optional((reader) => reader.string()),
      thresholdBytes: r.uhyper(),
      excessBytes: r.uhyper(),
    }),
  ],
]);

/** The event and its callback's number, or `undefined` for a packet of an event that nobody here registers. */
export function decodeEvent(
  procedure: number,
  payload: Uint8Array,
): { callback: number; event: DomainEvent } | undefined {
  const read = READERS.get(procedure);
  if (read === undefined) return undefined;
  const reader = new XdrReader(payload);
  const callback = reader.int();
  const event = read(reader, decodeDomainRef(reader));
  reader.end();
  return { callback, event };
}

function readLifecycle(reader: XdrReader, domain: DomainRef): DomainEvent {
  const [change = 'unknown', ...reasons] = LIFECYCLE[reader.int()] ?? [];
  return { kind: 'lifecycle', domain, change, reason: reasons[reader.int()] ?? 'unknown' };
}
