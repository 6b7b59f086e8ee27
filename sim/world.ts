/** One world from one seed: two sites, a VM, the link, our programs, what may go wrong, and who watches. */
import { failureIn } from '#/lib/failure.ts';
import { SeededRandom, chance } from '#/lib/random.ts';
import type { Replica, RetentionPolicy } from '#/replica/replica.ts';
import { WINDOW_BYTES_MIN } from '#/wire/limits.ts';
import { AGENT, bootAgent, RIVAL, type AgentOrders } from './agent-program.ts';
import { fork, integerFrom, pick } from './chance.ts';
import { Checkers } from './checkers.ts';
import { Faults, type FaultGroup } from './faults.ts';
import { Guest } from './guest.ts';
import { Machine, type Life } from './machine.ts';
import { Network } from './network.ts';
import { PointLedger } from './point-ledger.ts';
import { bootServer } from './server-program.ts';
import { SimVm } from './sim-vm.ts';
import { Timeline } from './timeline.ts';
import { Trace } from './trace.ts';
import { Violations } from './violations.ts';

export type WorldOptions = {
  seed: number;
  print?: ((line: string) => void) | undefined;
  /** What goes wrong, where the seed is not to choose. */
  faults?: readonly FaultGroup[] | undefined;
};

/** More than the disks hold. */
const SCRATCH_BYTES: number = 2 ** 30;

/** How soon a takeover without an answer is tried again once nothing goes wrong any more. */
const TAKEOVER_AGAIN_MS = 1000;

export class World {
  readonly timeline = new Timeline();
  readonly violations = new Violations();
  oldestMs = 0;
  readonly trace: Trace;
  readonly ledger: PointLedger;
  readonly vm: SimVm;
  readonly agent: Machine;
  readonly server: Machine;
  readonly faults: Faults;
  readonly checkers: Checkers;
  readonly orders: AgentOrders;
  readonly network: Network;
  /** The agent of a site that was recovered from: it starts when the VM has been taken over. */
  readonly rival: Machine;
  #rivalVm = new SimVm([]);
  /** A takeover was begun; whether the replica has recorded it is known once the epoch of the orders has risen. */
  #isTakingOver = false;
  readonly #live: { replica: Replica | undefined } = { replica: undefined };
  readonly #guest: Guest;

  constructor({ seed, print, faults: groups }: WorldOptions) {
    const random = new SeededRandom(seed);
    const { timeline, violations } = this;
    this.trace = new Trace(timeline, print);
    const retention = drawRetention(random);
    this.ledger = new PointLedger({
      trace: this.trace,
      violations,
      nowMs: () => timeline.nowMs,
      keepAllMs: retention.keepAllMs,
    });
    this.vm = new SimVm([drawDisk(random, 'vda'), drawDisk(random, 'vdb')]);
    this.ledger.addVm(this.vm);
    this.#guest = new Guest(this.vm, timeline, fork(random), {
      burstEveryMs: pick(random, [50, 200, 1_000]),
      burstBlocksMax: pick(random, [3, 12, 40]),
      isLocal: chance(random, 0.5),
    });
    this.orders = {
      epoch: 1,
      rpoMs: pick(random, [2_000, 5_000]),
      scratchBytes: pick(random, [512 * 1024, SCRATCH_BYTES, SCRATCH_BYTES]),
      disks: ['vda', 'vdb'],
    };
    const window = pick(random, [
      { segmentCount: 256, bytes: 16 * 2 ** 20 },
      { segmentCount: 2, bytes: WINDOW_BYTES_MIN },
    ]);
    this.network = new Network(timeline, fork(random));
    const source = { errorRate: 0, readMs: pick(random, [1, 1, 30]) };
    const { trace, network, ledger, vm, orders } = this;
    const parts = { timeline, trace, violations, network, ledger, source };
    this.agent = this.#machine('agent', random, (life) => {
      bootAgent({ ...parts, vm, site: this.agent.site, orders, peer: AGENT }, life);
    });
    this.rival = this.#machine('rival', random, (life) => {
      const stale = { ...orders, epoch: orders.epoch - 1, disks: [] };
      bootAgent({ ...parts, vm: this.#rivalVm, site: this.rival.site, orders: stale, peer: RIVAL }, life);
    });
    this.server = this.#machine('server', random, (life) => {
      bootServer({ trace, violations, network, ledger, retention, window, live: this.#live }, life);
    });
    const { agent, server } = this;
    const replicate = (keys: string[]): void => {
      orders.disks = keys;
    };
    this.faults = new Faults({
      timeline,
      random: fork(random),
      trace,
      network,
      agent,
      server,
      vm,
      source,
      replicate,
      takeOver: () => void this.#takeOver(),
      groups,
    });
    this.checkers = new Checkers({
      random: fork(random),
      network,
      agent,
      server,
      ledger,
      violations,
      window,
    });
  }

  start(): void {
    this.#guest.run();
    this.server.start();
    this.agent.start();
    this.faults.start();
  }

  /** Keeps the highest age that the newest point has had. */
  noteAge(): void {
    const { ledger, vm, timeline } = this;
    const moment = ledger.head && vm.history.get(ledger.head.momentMs);
    if (moment) this.oldestMs = Math.max(this.oldestMs, timeline.nowMs - moment.frozenMs);
  }

  /** Nothing goes wrong any more. */
  heal(): void {
    this.trace.add('faults stop');
    this.faults.stop();
    // With little scratch, a busy guest and a slow link there is no moment that could be sent in time.
    this.orders.scratchBytes = SCRATCH_BYTES;
    for (const machine of [this.agent, this.server]) {
      machine.spare();
      machine.start();
    }
    void this.#finishTakeover();
  }

  /** A recovery repeats its step until it has an answer: the server may have died after the epoch was durable. */
  async #finishTakeover(): Promise<void> {
    while (this.#isTakingOver && this.orders.epoch === 1) {
      await this.timeline.sleep(TAKEOVER_AGAIN_MS);
      await this.#takeOver();
    }
  }

  /** As a recovery does it: the replica records the higher epoch, and only then the VM goes on with it. */
  async #takeOver(): Promise<void> {
    const { replica } = this.#live;
    if (!replica || this.orders.epoch > 1) return;
    this.#isTakingOver = true;
    try {
      await replica.raiseEpoch(2);
    } catch (error) {
      if (!failureIn(error)) throw error;
      return;
    }
    if (this.orders.epoch > 1) return;
    this.ledger.epochRaised(2);
    this.orders.epoch = 2;
    this.#rivalVm = SimVm.of(this.vm.copyImages());
    this.ledger.addVm(this.#rivalVm);
    this.rival.start();
  }

  #machine(name: string, random: SeededRandom, boot: (life: Life) => void): Machine {
    const { timeline, trace } = this;
    const onPowerLoss = (): void => {
      // The agent's machine is the guest's host.
      if (name !== 'agent' || this.vm.power === 'off') return;
      this.vm.kill();
      timeline.after(500, () => this.vm.start());
    };
    const onCrash = (): void => {
      if (name === 'server') this.ledger.news = 'likely';
    };
    const onChange = (what: string): void => {
      if (name === 'server') this.checkers.beforeChange(what);
    };
    return new Machine({ name, timeline, trace, random: fork(random), boot, onPowerLoss, onCrash, onChange });
  }
}

function drawRetention(random: SeededRandom): RetentionPolicy {
  const everyMs = pick(random, [5_000, 10_000]);
  return { keepAllMs: pick(random, [3_000, 10_000, 40_000]), tiers: [{ everyMs, forMs: 25_000 }] };
}

/** Lengths that end within a block, too: half of all disks do. */
function drawDisk(random: SeededRandom, key: string): { key: string; bytes: number } {
  const blocks = integerFrom(random, 40, pick(random, [64, 64, 100, 100, 300, 600]));
  return { key, bytes: blocks * 4096 - (chance(random, 0.5) ? 512 * integerFrom(random, 1, 7) : 0) };
}
