/**
 * What the world knows about recovery points without asking the replica: which were acknowledged, and what each must
 * contain. The checkers hold the replica against it.
 */
import type { PointRef } from '#/wire/messages.ts';
import type { RecoveryPoint } from '#/replica/replica.ts';
import type { DiskPages } from './guest-pages.ts';
import type { SimVm } from './sim-vm.ts';
import type { Trace } from './trace.ts';
import type { Violations } from './violations.ts';

export type AcknowledgedPoint = PointRef & {
  momentMs: number;
  /** Virtual time at which the protected side learnt of it. */
  learntMs: number;
};

export type LedgerParts = {
  trace: Trace;
  violations: Violations;
  nowMs: () => number;
  /** Every point younger than this must be kept. */
  keepAllMs: number;
};

export class PointLedger {
  /** By sequence. */
  readonly points = new Map<number, AcknowledgedPoint>();
  /** Set when there is something new to check; the checker takes it back. */
  news: 'none' | 'likely' | 'rare' = 'none';
  readonly #ages = new Map<string, RecoveryPoint>();
  #compactedMs = 0;
  #head: AcknowledgedPoint | undefined;
  #epoch = 0;
  readonly #vms: SimVm[] = [];
  readonly #trace: Trace;
  readonly #violations: Violations;
  readonly #nowMs: () => number;

  readonly #keepAllMs: number;

  constructor({ trace, violations, nowMs, keepAllMs }: LedgerParts) {
    this.#trace = trace;
    this.#violations = violations;
    this.#nowMs = nowMs;
    this.#keepAllMs = keepAllMs;
  }

  /** The server has committed a point; whether the acknowledgement arrives is another matter. */
  committed(point: RecoveryPoint): void {
    this.#trace.add(`committed ${point.sequence} ${point.stamp.slice(0, 8)}`);
    if (point.epoch < this.#epoch) {
      this.#violations.add(
        'I5',
        `point ${point.sequence} of epoch ${point.epoch} after epoch ${this.#epoch} was raised`,
      );
    }
    this.#ages.set(point.stamp, point);
    this.news = 'likely';
  }

  /** The replica has recorded this epoch: nothing of an older one may follow. */
  epochRaised(epoch: number): void {
    this.#trace.add(`epoch ${epoch} is raised`);
    this.#epoch = Math.max(this.#epoch, epoch);
  }

  /** The server runs retention by this time of its clock. */
  compacting(nowMs: number): void {
    this.#compactedMs = Math.max(this.#compactedMs, nowMs);
  }

  /** What a server that has just started offers. */
  opened(points: readonly RecoveryPoint[], epoch: number): void {
    this.#trace.add(`server offers ${points.map(({ sequence }) => sequence).join(',')} in epoch ${epoch}`);
    for (const point of points) this.#ages.set(point.stamp, point);
    this.checkEpoch(epoch);
    for (const what of this.missing(points)) this.#violations.add('I2', what);
  }

  checkEpoch(epoch: number): void {
    if (epoch < this.#epoch)
      this.#violations.add('I5', `the replica is of epoch ${epoch} after ${this.#epoch} was raised`);
  }

  /** Acknowledged points that should be among these and are not. */
  missing(points: readonly RecoveryPoint[]): string[] {
    const stamps = new Map(points.map(({ sequence, stamp }) => [sequence, stamp]));
    const missing: string[] = [];
    // Retention takes no point but for a newer one, whether its acknowledgement has arrived yet or not.
    const newest = points.at(-1)?.sequence ?? 0;
    for (const { sequence, stamp, learntMs } of this.points.values()) {
      const found = stamps.get(sequence);
      if (found === stamp) continue;
      if (found === undefined && sequence < newest && this.#mayBePruned(stamp)) continue;
      missing.push(
        `point ${sequence}, acknowledged at ${learntMs}, is ${found === undefined ? 'gone' : 'another'}`,
      );
    }
    return missing;
  }

  #mayBePruned(stamp: string): boolean {
    const point = this.#ages.get(stamp);
    if (!point) return true;
    const ageMs = this.#compactedMs - Math.min(point.momentMs, point.acknowledgedMs);
    // What is exactly as old as that is not younger any more.
    return ageMs >= this.#keepAllMs;
  }

  addVm(vm: SimVm): void {
    this.#vms.push(vm);
  }

  get head(): AcknowledgedPoint | undefined {
    return this.#head;
  }

  acknowledged(point: PointRef & { momentMs: number; how: 'commit' | 'head' }): void {
    const { sequence, stamp, momentMs, how } = point;
    this.#trace.add(`acknowledged ${sequence} ${stamp.slice(0, 8)} by ${how}`);
    const known = this.points.get(sequence);
    if (known && known.stamp !== stamp) {
      this.#violations.add(
        'I2',
        `sequence ${sequence} was acknowledged as ${known.stamp} and then as ${stamp}`,
      );
    }
    const head = this.head;
    if (how === 'head' && head && head.sequence > sequence) {
      this.#violations.add('I2', `the server's head is ${sequence} after it acknowledged ${head.sequence}`);
    }
    // A point that is learnt of as the head alone was committed by a server that did not live to say so.
    this.news = how === 'head' && !known ? 'rare' : 'likely';
    if (known) return;
    const entry = { sequence, stamp, momentMs, learntMs: this.#nowMs() };
    this.points.set(sequence, entry);
    if (!head || head.sequence < sequence) this.#head = entry;
  }

  /** The exact contents of all disks at a moment. */
  moment(momentMs: number): readonly DiskPages[] | undefined {
    for (const vm of this.#vms) {
      const moment = vm.history.get(momentMs);
      if (moment) return moment.disks;
    }
    return undefined;
  }

  contents({ sequence, stamp }: PointRef): readonly DiskPages[] | undefined {
    const point = this.points.get(sequence);
    return point?.stamp === stamp ? this.moment(point.momentMs) : undefined;
  }
}
