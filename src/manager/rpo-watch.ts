/** Applies the law of RPO to every VM that is protected from here or to here, and records each beginning and end. */
import type { Context } from './context.ts';
import { advanceRpo, NO_RECORD, type RpoPoint, type RpoRecord } from './rpo-law.ts';
import { listProtections, type Protection } from './store/protection-store.ts';
import { listReplicas, type ReplicaRecord } from './store/replica-store.ts';
import { addViolation, dropViolation, listViolations } from './store/violation-store.ts';

type Watched = { replicaId: string; vmUuid: string; vmName: string; rpoMs: number; points: RpoPoint[] };

export class RpoWatch {
  readonly #context: Context;
  readonly #records = new Map<string, RpoRecord>();
  #isLoaded = false;

  constructor(context: Context) {
    this.#context = context;
  }

  /** Since when the RPO of this replica is violated, as far as recorded. */
  violatedSinceMs(replicaId: string): number | undefined {
    return this.#records.get(replicaId)?.beganMs;
  }

  async look(): Promise<void> {
    const { clock, db, events } = this.#context;
    if (!this.#isLoaded) await this.#load();
    const watched = await this.#watched();
    for (const one of watched) {
      const before = this.#records.get(one.replicaId) ?? NO_RECORD;
      const at = { rpoMs: one.rpoMs, nowMs: clock.now() };
      const { record, turns } = advanceRpo(before, one.points, at);
      this.#records.set(one.replicaId, record);
      if (turns.length === 0) continue;
      await db.transaction().execute(async (inside) => {
        for (const turn of turns) {
          const isBegin = turn.kind === 'began';
          if (isBegin) await addViolation(inside, one.replicaId, turn.atMs);
          else await dropViolation(inside, one.replicaId);
          await events.record(inside, {
            kind: isBegin ? 'rpo.violation_began' : 'rpo.violation_ended',
            severity: isBegin ? 'error' : 'info',
            subject: { kind: 'vm', id: one.vmUuid },
            message: isBegin
              ? `the newest recovery point of VM ${one.vmName} is older than ${one.rpoMs} ms`
              : `the newest recovery point of VM ${one.vmName} is younger than ${one.rpoMs} ms again`,
            atMs: turn.atMs,
          });
        }
      });
    }
    await this.#forget(new Set(watched.map((one) => one.replicaId)));
  }

  async #load(): Promise<void> {
    for (const [replicaId, beganMs] of await listViolations(this.#context.db)) {
      this.#records.set(replicaId, { ...NO_RECORD, beganMs });
    }
    this.#isLoaded = true;
  }

  /** Those whose reports are fresh. The others are unknown: their violation is found when they report again. */
  async #watched(): Promise<Watched[]> {
    const { db } = this.#context;
    const kept = (await listReplicas(db)).map((replica) => this.#ofReplica(replica));
    const protectedHere = (await listProtections(db)).map((one) => this.#ofProtection(one));
    return [...kept, ...protectedHere].filter(
      (one) => one !== undefined && one.points.length > 0,
    ) as Watched[];
  }

  #ofReplica(replica: ReplicaRecord): Watched | undefined {
    const { inventory } = this.#context;
    const { report, isFresh } = inventory.replicaReport(replica.server_id, replica.id);
    if (replica.state !== 'active' || report === undefined || !isFresh) return undefined;
    const points = report.points.map(
      ({ sequence, moment_ms: momentMs, acknowledged_ms: acknowledgedMs }) => ({
        sequence,
        momentMs,
        acknowledgedMs,
      }),
    );
    return watchedOf(replica, replica.id, points);
  }

  #ofProtection(protection: Protection): Watched | undefined {
    const { inventory } = this.#context;
    const agent = inventory.hostOf(protection.vm_uuid) ?? inventory.agent(protection.host_id);
    if (protection.state !== 'active' || agent?.report === undefined || !inventory.isFresh(agent))
      return undefined;
    const report = inventory.replicationReport(agent, protection.replica_id);
    if (report === undefined || report.sequence === null || report.moment_ms === null) return undefined;
    const { last_cycle: cycle, moment_ms: momentMs, sequence } = report;
    // The end of the cycle is when the agent had the acknowledgement.
    const endedMs = cycle === null ? agent.report.sent_ms : cycle.started_ms + cycle.duration_ms;
    const acknowledgedMs = Math.max(endedMs, momentMs);
    return watchedOf(protection, report.replica_id, [{ sequence, momentMs, acknowledgedMs }]);
  }

  async #forget(watched: ReadonlySet<string>): Promise<void> {
    const { db } = this.#context;
    const isKnown = new Set([
      ...watched,
      ...(await listReplicas(db)).filter(({ state }) => state === 'active').map(({ id }) => id),
      ...(await listProtections(db))
        .filter(({ state }) => state === 'active')
        .map((protection) => protection.replica_id),
    ]);
    for (const [replicaId, record] of this.#records) {
      if (isKnown.has(replicaId)) continue;
      this.#records.delete(replicaId);
      if (record.beganMs !== undefined) await dropViolation(db, replicaId);
    }
  }
}

function watchedOf(
  row: { vm_uuid: string; vm_name: string; rpo_ms: number },
  replicaId: string,
  points: RpoPoint[],
): Watched {
  return { replicaId, vmUuid: row.vm_uuid, vmName: row.vm_name, rpoMs: row.rpo_ms, points };
}
