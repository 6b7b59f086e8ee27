/**
 * The Source port over a simulated VM: what libvirt's driver promises, at its worst. It takes time, fails, forgets
 * stale checkpoints late, and gives a moment up when its scratch is full.
 */
import { Failure } from '#/lib/failure.ts';
import { chance, integerBelow } from '#/lib/random.ts';
import type { Random } from '#/lib/random.ts';
import type { Moment, MomentRequest, Source } from '#/replication/source.ts';
import { waitMs } from './chance.ts';
import type { Fence } from './fence.ts';
import type { PointLedger } from './point-ledger.ts';
import type { SiteTime } from './sim-clock.ts';
import { SimMoment } from './sim-moment.ts';
import type { SimVm } from './sim-vm.ts';
import type { Timeline } from './timeline.ts';
import type { Violations } from './violations.ts';

/** How the host behaves at the moment. */
export type SourceConditions = { errorRate: number; readMs: number };

export type SourceParts = {
  vm: SimVm;
  timeline: Timeline;
  random: Random;
  fence: Fence;
  site: SiteTime;
  ledger: PointLedger;
  conditions: SourceConditions;
  violations: Violations;
  onOperation?: (name: string) => void;
};

export class SimSource implements Source {
  readonly #parts: SourceParts;
  #open: SimMoment | undefined;

  constructor(parts: SourceParts) {
    this.#parts = parts;
  }

  freeze(request: MomentRequest, signal: AbortSignal): Promise<Moment> {
    return this.#parts.fence.guard(this.#freeze(request, signal));
  }

  async #freeze(request: MomentRequest, signal: AbortSignal): Promise<Moment> {
    const { vm, timeline, random, fence, conditions, violations } = this.#parts;
    await timeline.sleep(10 + waitMs(random, 30));
    signal.throwIfAborted();
    if (!fence.alive) return new Promise(() => undefined);
    this.#parts.onOperation?.('freeze');
    if (chance(random, conditions.errorRate))
      throw new Failure('libvirt_error', 'simulated host: freeze failed');
    if (this.#open?.isOpen === true)
      violations.add('I6', 'a moment is frozen while the last one is still open');
    vm.watcher?.disturbed('another moment was frozen');
    vm.watcher = undefined;
    if (request.since !== undefined && !vm.isTracked(request.since)) {
      throw new Failure('tracking_lost', `simulated host: no checkpoint ${request.since}`);
    }
    if (vm.isTracked(request.next)) violations.add('I4', `tracking id ${request.next} was used before`);
    for (const id of vm.trackingIds()) {
      if (id !== request.since && chance(random, 0.8)) vm.untrack(id);
    }
    const moment = new SimMoment(this.#parts, request, this.#momentMs());
    this.#open = moment;
    await timeline.sleep(waitMs(random, 10));
    return moment;
  }

  /** The source's wall clock, made unique: the checkers find the contents by it. */
  #momentMs(): number {
    const { ledger, site, random } = this.#parts;
    let momentMs = site.now();
    while (ledger.moment(momentMs)) momentMs += 1 + integerBelow(random, 3);
    return momentMs;
  }
}
