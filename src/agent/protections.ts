/**
 * All protections of the orders, carried out: started, changed and stopped until they are what was ordered. What a
 * protection that is gone left here is removed: its record, and its checkpoints, without which QEMU would track
 * changes for nobody.
 */
import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { ProtectionOrder } from '#/control/orders.ts';
import type { ReplicationReport } from '#/control/reports.ts';
import { Failure, failureIn } from '#/lib/failure.ts';
import { failureFields } from '#/lib/log.ts';
import { Mutex } from '#/lib/mutex.ts';
import type { CycleResult } from '#/replication/cycle.ts';
import { dropCheckpoints, endStaleJob } from './own-tracking.ts';
import { Protection, type ProtectionParts } from './protection.ts';

export class Protections {
  readonly #parts: ProtectionParts;
  readonly #protections = new Map<string, Protection>();
  readonly #turn = new Mutex();

  constructor(parts: ProtectionParts) {
    this.#parts = parts;
  }

  reports(): ReplicationReport[] {
    return [...this.#protections.values()].map((protection) => protection.report());
  }

  report(replicaId: string): ReplicationReport | undefined {
    return this.#protections.get(replicaId)?.report();
  }

  /** As `Replicator.nextCycle`. Throws not_found when nothing is replicated to that replica. */
  async nextCycle(replicaId: string, signal: AbortSignal): Promise<CycleResult> {
    const protection = this.#protections.get(replicaId);
    if (protection !== undefined) return protection.nextCycle(signal);
    throw new Failure('not_found', `no VM of this host is replicated to ${replicaId}`);
  }

  /** A VM has shut down: its last state is worth a cycle at once. */
  vmChanged(uuid: string): void {
    for (const protection of this.#protections.values()) {
      if (protection.order.vm_uuid === uuid) protection.trigger();
    }
  }

  /**
   * Resolves when what is not ordered any more has been stopped and what is ordered runs. Records that are to be kept
   * are of replicas that nobody here writes any more; they still say what the other site had.
   */
  async take(orders: readonly ProtectionOrder[], keptRecords: readonly string[] = []): Promise<void> {
    await this.#turn.run(async () => {
      const wanted = new Map(orders.map((order) => [order.replica_id, order]));
      for (const [replicaId, protection] of this.#protections) {
        const order = wanted.get(replicaId);
        if (order !== undefined && protection.canBecome(order)) continue;
        await protection.stop();
        this.#protections.delete(replicaId);
      }
      await mkdir(this.#parts.recordsDirectory, { recursive: true, mode: 0o700 });
      await this.#sweep(new Set([...wanted.keys(), ...keptRecords]));
      for (const [replicaId, order] of wanted) {
        const running = this.#protections.get(replicaId);
        if (running === undefined) this.#protections.set(replicaId, new Protection(order, this.#parts));
        else running.become(order);
      }
    });
  }

  async stop(): Promise<void> {
    await this.#turn.run(async () => {
      await Promise.all([...this.#protections.values()].map((protection) => protection.stop()));
    });
  }

  /** Removes what replicas that nobody wants left; what cannot be reached now is swept with the next orders. */
  async #sweep(wanted: ReadonlySet<string>): Promise<void> {
    const { recordsDirectory, scratchDirectory, log } = this.#parts;
    for (const replicaId of await readdir(recordsDirectory)) {
      if (wanted.has(replicaId)) continue;
      try {
        await this.#dropTracking(replicaId);
        for (const directory of [scratchDirectory, recordsDirectory]) {
          await rm(join(directory, replicaId), { recursive: true, force: true });
        }
        log.info('protection.removed', { replica: replicaId });
      } catch (error) {
        if (failureIn(error) === undefined) throw error;
        log.warning('protection.remains', { replica: replicaId, ...failureFields(error) });
      }
    }
  }

  async #dropTracking(replicaId: string): Promise<void> {
    const { libvirt, runDirectory, clock } = this.#parts;
    for (const domain of await libvirt().listDomains(['running', 'hasCheckpoint'])) {
      const names = (await domain.checkpoints.list()).map(({ name }) => name);
      if (!names.some((name) => name.includes(replicaId))) continue;
      await endStaleJob(domain, runDirectory, clock);
      await dropCheckpoints(domain, replicaId, undefined);
    }
  }
}
