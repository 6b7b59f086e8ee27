/** One protection of the orders, carried out: a replicator with its source and link, and what is told of it. */
import type { EventBuffer, NewEvent } from '#/control/event-buffer.ts';
import type { ProtectionOrder } from '#/control/orders.ts';
import type { ReplicationReport, VmReport } from '#/control/reports.ts';
import { describe, type Failure } from '#/lib/failure.ts';
import { failureFields, type Log } from '#/lib/log.ts';
import { systemRandom } from '#/lib/system-random.ts';
import { NodeFileSystem } from '#/disk/node-file-system.ts';
import type { BlockCodec } from '#/replication/block-codec.ts';
import type { CycleResult } from '#/replication/cycle.ts';
import type { CycleGate } from '#/replication/cycle-gate.ts';
import { Replicator, type ReplicatorEvent, type ReplicatorOrder } from '#/replication/replicator.ts';
import type { SessionPool } from '#/wire/session-pool.ts';
import type { Baselines } from './baseline/baselines.ts';
import { chooseDisks } from './disk-choice.ts';
import { LibvirtSource } from './libvirt-source.ts';
import type { LibvirtSourceOptions } from './moment-parts.ts';
import { ReplicaConnection, type LinkIdentity } from './replica-connection.ts';

export type ProtectionParts = Omit<LibvirtSourceOptions, 'replicaId' | 'vm'> & {
  codec: BlockCodec;
  gate: CycleGate;
  identity: () => LinkIdentity;
  /** Of all protections: their sessions share connections. */
  pool: SessionPool;
  events: EventBuffer;
  log: Log;
  baselines: Baselines;
  /** Holds a directory for each replica's record. */
  recordsDirectory: string;
  vm: (uuid: string) => VmReport | undefined;
  changed: () => void;
  /** Takes what only a bug can cause. */
  broken: (error: unknown) => void;
};

export class Protection {
  readonly #parts: ProtectionParts;
  readonly #replicator: Replicator;
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;
  #order: ProtectionOrder;
  #notices: string[] = [];

  constructor(order: ProtectionOrder, parts: ProtectionParts) {
    this.#order = order;
    this.#parts = parts;
    const { clock, codec, gate, identity, pool } = parts;
    const vm = { uuid: order.vm_uuid, name: order.vm_name };
    this.#replicator = new Replicator({
      source: new LibvirtSource({ ...parts, replicaId: order.replica_id, vm }),
      link: new ReplicaConnection({ order: () => this.#order, identity, pool }),
      codec,
      clock,
      random: systemRandom,
      fs: new NodeFileSystem(parts.recordsDirectory),
      directory: order.replica_id,
      replicaId: order.replica_id,
      order: replicatorOrder(order),
      gate,
      baseline: parts.baselines.of(order.vm_uuid),
      onEvent: (event) => this.#tell(event),
      onChange: () => parts.changed(),
      chooseDisks: (_, recorded) => this.#chooseDisks(recorded),
    });
    this.#running = this.#replicator.run(this.#stop.signal);
    this.#running.catch((error: unknown) => parts.broken(error));
  }

  get order(): ProtectionOrder {
    return this.#order;
  }

  /** True when the order only changes what may change while it runs. */
  canBecome(order: ProtectionOrder): boolean {
    return order.replica_id === this.#order.replica_id && order.vm_uuid === this.#order.vm_uuid;
  }

  become(order: ProtectionOrder): void {
    if (JSON.stringify(order) === JSON.stringify(this.#order)) return;
    this.#order = order;
    this.#replicator.change(replicatorOrder(order));
  }

  /** Starts a cycle now. */
  trigger(): void {
    this.#replicator.trigger();
  }

  /** As `Replicator.nextCycle`. */
  nextCycle(signal: AbortSignal): Promise<CycleResult> {
    return this.#replicator.nextCycle(signal);
  }

  /** Resolves once the running cycle has let go of everything. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  report(): ReplicationReport {
    const { state, point, lastCycle, progress, failure } = this.#replicator.status;
    return {
      replica_id: this.#order.replica_id,
      state,
      sequence: point?.sequence ?? null,
      moment_ms: point?.momentMs ?? null,
      last_cycle:
        lastCycle === undefined
          ? null
          : {
              started_ms: lastCycle.startedMs,
              duration_ms: Math.round(lastCycle.durationMs),
              read_bytes: lastCycle.readBytes,
              changed_bytes: lastCycle.changedBytes,
              wire_bytes: lastCycle.wireBytes,
            },
      progress:
        progress === undefined ? null : { done_bytes: progress.doneBytes, total_bytes: progress.totalBytes },
      failure: failure === undefined ? null : failureReport(failure),
      notices: this.#notices,
    };
  }

  #chooseDisks(recorded: string[]): string[] {
    const { disks, notices } = chooseDisks(this.#order, recorded, this.#parts.vm(this.#order.vm_uuid));
    this.#notices = notices;
    return disks;
  }

  #tell(event: ReplicatorEvent): void {
    const { log, events } = this.#parts;
    const fields = { replica: this.#order.replica_id, vm: this.#order.vm_name, at_ms: event.atMs };
    if (event.kind === 'failing_began')
      log.warning('replication.failing', { ...fields, ...failureFields(event.failure) });
    else log.info(`replication.${event.kind}`, fields);
    const subject = { kind: 'replica', id: this.#order.replica_id };
    events.add({ ...wordsFor(event, this.#order), subject }, event.atMs);
  }
}

const TEXT_LENGTH_MAX = 4096;

export function failureReport(failure: Failure): { code: string; message: string; hint: string | null } {
  return {
    code: failure.code,
    message: describe(failure).slice(0, TEXT_LENGTH_MAX),
    hint: failure.hint?.slice(0, TEXT_LENGTH_MAX) ?? null,
  };
}

function replicatorOrder(order: ProtectionOrder): ReplicatorOrder {
  return { rpoMs: order.rpo_ms, disks: order.disks, scratchBytes: order.scratch_bytes };
}

function wordsFor(event: ReplicatorEvent, order: ProtectionOrder): Omit<NewEvent, 'subject'> {
  const vm = `VM ${order.vm_name}`;
  const rpo = `its RPO of ${order.rpo_ms / 1000} s`;
  switch (event.kind) {
    case 'violation_began':
      return {
        kind: 'rpo.violation_began',
        severity: 'error',
        message: `${vm}: the newest point has reached ${rpo}.`,
      };
    case 'violation_ended':
      return {
        kind: 'rpo.violation_ended',
        severity: 'info',
        message: `${vm}: the newest point is within ${rpo}.`,
      };
    case 'risk_began':
      return {
        kind: 'rpo.risk_began',
        severity: 'warning',
        message: `${vm}: a cycle takes more than half of ${rpo}; a violation is coming.`,
      };
    case 'risk_ended':
      return {
        kind: 'rpo.risk_ended',
        severity: 'info',
        message: `${vm}: cycles fit well within ${rpo} again.`,
      };
    case 'first_copy_ended':
      return {
        kind: 'replication.first_copy_ended',
        severity: 'info',
        message: `${vm}: the first copy is complete.`,
      };
    case 'compared':
      return {
        kind: 'replication.compared',
        severity: 'info',
        message: `${vm}: change tracking was lost; all disks were compared locally and only what differed was sent.`,
      };
    case 'returned':
      return {
        kind: 'replication.returned',
        severity: 'info',
        message:
          `${vm}: the first cycle back has read ${event.readBytes} bytes, of which ${event.changedBytes} ` +
          'differed; what it wrote was tracked since before its first instruction.',
      };
    case 'failing_began':
      return {
        kind: 'replication.failing_began',
        severity: 'warning',
        message: `${vm}: ${describe(event.failure)}`,
      };
    case 'failing_ended':
      return {
        kind: 'replication.failing_ended',
        severity: 'info',
        message: `${vm}: replication works again.`,
      };
  }
}
