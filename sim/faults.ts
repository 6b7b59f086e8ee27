/**
 * What goes wrong in a run, and when: drawn from the seed, each kind with a chance of its own, so that most runs have
 * a few kinds often rather than all of them rarely.
 */
import { chance, integerBelow } from '#/lib/random.ts';
import type { Random } from '#/lib/random.ts';
import { integerFrom, pick, waitMs } from './chance.ts';
import type { Fence } from './fence.ts';
import type { Network } from './network.ts';
import type { Medium } from './medium.ts';
import type { SiteTime } from './sim-clock.ts';
import type { StorageConditions } from './sim-file-system.ts';
import type { SourceConditions } from './sim-source.ts';
import type { ImageCopy, SimVm } from './sim-vm.ts';
import type { Timeline } from './timeline.ts';
import type { Trace } from './trace.ts';

/** Before the operation after `operations` others whose names include `where`. */
export type Death = { how: 'kill' | 'power'; operations: number; where: string };

/** Where an order matters most: half of all deaths are aimed there. */
const WHERE = {
  agent: ['datasync', 'pending', 'state', 'confirm'],
  server: ['datasync', 'datasync points.log', 'rename', 'base'],
};

/** A program of ours on its machine, as the faults see it. */
export interface Victim {
  readonly medium: Medium;
  readonly conditions: StorageConditions;
  readonly site: SiteTime;
  /** kill -9: the machine and its page cache live on. Starts again by itself after a while. */
  kill(): void;
  /** The machine loses power; what was not synced is lost. */
  losePower(): void;
  /** Lets the program die before one of its next operations on the outside. */
  dieSoon(death: Death): void;
  readonly fence: Fence | undefined;
}

export type FaultTargets = {
  timeline: Timeline;
  random: Random;
  trace: Trace;
  network: Network;
  agent: Victim;
  server: Victim;
  vm: SimVm;
  source: SourceConditions;
  /** Tells the agent which disks are replicated from now on. */
  replicate: (keys: string[]) => void;
  /** The VM runs at another site from now on, and the old one does not know. Once. */
  takeOver: () => void;
  /** What goes wrong, where the seed is not to choose. */
  groups?: readonly FaultGroup[] | undefined;
};

export const FAULT_GROUPS = [
  'link',
  'agent',
  'server',
  'agent-disk',
  'server-disk',
  'vm',
  'image',
  'shape',
  'clock',
  'takeover',
] as const;
export type FaultGroup = (typeof FAULT_GROUPS)[number];

/** The most a run's replica may grow to in disks; more would only make it slow. */
const DISKS_MAX = 4;

export class Faults {
  readonly #targets: FaultTargets;
  readonly #groups: readonly FaultGroup[];
  readonly #everyMs: number;
  #copy: ImageCopy | undefined;
  #isOver = false;

  constructor(targets: FaultTargets) {
    this.#targets = targets;
    const { random } = targets;
    const drawn = FAULT_GROUPS.filter(() => chance(random, 0.5));
    this.#groups = targets.groups ?? drawn;
    this.#everyMs = pick(random, [2_000, 5_000, 15_000]);
  }

  start(): void {
    this.#targets.trace.add(`faults ${this.#groups.join(' ')} every ${this.#everyMs}`);
    if (this.#groups.length > 0) this.#next();
  }

  /** From now on the world is as it should be. */
  stop(): void {
    const { network, agent, server, source, vm } = this.#targets;
    this.#isOver = true;
    Object.assign(network.conditions, network.calm, { flipRate: 0 });
    network.heal();
    for (const victim of [agent, server]) calm(victim);
    source.errorRate = 0;
    vm.start();
  }

  #next(): void {
    this.#targets.timeline.after(waitMs(this.#targets.random, this.#everyMs), () => {
      if (this.#isOver) return;
      this.#strike(pick(this.#targets.random, this.#groups));
      this.#next();
    });
  }

  #strike(group: FaultGroup): void {
    switch (group) {
      case 'link':
        this.#strikeLink();
        break;
      case 'agent':
        this.#strikeProgram('agent', this.#targets.agent);
        break;
      case 'server':
        this.#strikeProgram('server', this.#targets.server);
        break;
      case 'agent-disk':
        this.#strikeStorage('agent', this.#targets.agent);
        break;
      case 'server-disk':
        this.#strikeStorage('server', this.#targets.server);
        break;
      case 'vm':
        this.#strikeVm();
        break;
      case 'image':
        this.#strikeImage();
        break;
      case 'shape':
        this.#changeShape();
        break;
      case 'clock':
        this.#strikeClock();
        break;
      case 'takeover':
        this.#say('takeover');
        this.#targets.takeOver();
        break;
    }
  }

  #strikeLink(): void {
    const { network, random } = this.#targets;
    const { conditions } = network;
    const kind = pick(random, ['cut', 'one-way', 'reset', 'reset', 'slow', 'late', 'flip'] as const);
    this.#say(`link ${kind}`);
    switch (kind) {
      case 'cut':
      case 'one-way': {
        const both = ['to-server', 'to-agent'] as const;
        for (const direction of kind === 'cut' ? both : [pick(random, both)])
          conditions.blocked.add(direction);
        this.#later(pick(random, [300, 3_000, 30_000]), () => network.heal());
        break;
      }
      case 'reset':
        for (const connection of network.connections)
          connection.reset(pick(random, ['both', 'agent', 'server']));
        break;
      case 'slow':
        conditions.bytesPerMs = pick(random, [20, 200, 800]);
        this.#later(10_000, () => (conditions.bytesPerMs = network.calm.bytesPerMs));
        break;
      case 'late':
        conditions.latencyMs = pick(random, [20, 150, 600]);
        this.#later(10_000, () => (conditions.latencyMs = network.calm.latencyMs));
        break;
      case 'flip':
        conditions.flipRate = pick(random, [0.002, 0.02]);
        this.#later(10_000, () => (conditions.flipRate = 0));
        break;
    }
  }

  #strikeProgram(name: 'agent' | 'server', victim: Victim): void {
    const { random } = this.#targets;
    const how = pick(random, ['kill', 'power'] as const);
    if (chance(random, 0.6)) {
      const where = chance(random, 0.5) ? '' : pick(random, WHERE[name]);
      const operations = integerFrom(random, 0, pick(random, where === '' ? [10, 60, 400] : [2, 10, 30]));
      this.#say(`${name} ${how} in ${operations} operations ${where}`);
      victim.dieSoon({ how, operations, where });
      return;
    }
    this.#say(`${name} ${how}`);
    if (how === 'power') this.#powerLoss(name, victim);
    else victim.kill();
  }

  /** The agent's machine is the guest's host. */
  #powerLoss(name: string, victim: Victim): void {
    if (name === 'agent') this.#stopGuest(() => this.#targets.vm.kill());
    victim.losePower();
  }

  #strikeStorage(name: 'agent' | 'server', victim: Victim): void {
    const { random } = this.#targets;
    const kind = pick(random, [
      'errors',
      'errors',
      'full',
      'slow',
      ...(name === 'agent' ? ['rot', 'gone'] : []),
    ]);
    this.#say(`${name} storage ${kind}`);
    switch (kind) {
      case 'errors':
        victim.conditions.errorRate = pick(random, [0.003, 0.02, 0.2]);
        break;
      case 'full':
        victim.medium.capacityBytes = victim.medium.usedBytes() + integerBelow(random, 300_000);
        break;
      case 'slow':
        victim.conditions.operationMs = pick(random, [5, 40]);
        break;
      case 'rot':
        rot(victim, random);
        break;
      case 'gone':
        victim.losePower();
        for (const name of victim.medium.root.current.keys())
          victim.medium.name(victim.medium.root, { drop: name });
        victim.medium.syncNames(victim.medium.root, victim.medium.mark());
        break;
    }
    if (kind !== 'rot' && kind !== 'gone')
      this.#later(pick(random, [500, 5_000, 20_000]), () => calm(victim));
  }

  #strikeVm(): void {
    const { random, vm, source } = this.#targets;
    const kind = pick(random, ['kill', 'shutdown', 'shutdown', 'checkpoints', 'errors'] as const);
    this.#say(`vm ${kind}`);
    switch (kind) {
      case 'kill':
        this.#stopGuest(() => vm.kill());
        break;
      case 'shutdown':
        this.#stopGuest(() => vm.shutdown());
        break;
      case 'checkpoints':
        vm.loseTracking();
        break;
      case 'errors':
        source.errorRate = pick(random, [0.02, 0.2]);
        this.#later(5_000, () => (source.errorRate = 0));
        break;
    }
  }

  /** Older images are copied now and put back some time later, behind everybody's back. */
  #strikeImage(): void {
    const { random, vm } = this.#targets;
    const copy = this.#copy;
    if (!copy || chance(random, 0.4)) {
      this.#say('image copied');
      if (chance(random, 0.7)) this.#stopGuest(() => vm.shutdown());
      this.#copy = vm.copyImages();
      return;
    }
    this.#say('image restored');
    this.#stopGuest(() => (chance(random, 0.5) ? vm.shutdown() : vm.kill()));
    vm.restoreImages(copy, chance(random, 0.5));
  }

  #changeShape(): void {
    const { random, vm, replicate } = this.#targets;
    const kind = pick(random, ['add', 'grow', 'grow', 'shrink'] as const);
    const disk = pick(random, vm.disks);
    if (kind === 'add' && vm.disks.length < DISKS_MAX) {
      const key = `vd${'abcdef'[vm.disks.length]!}`;
      this.#say(`disk ${key} added`);
      vm.addDisk(key, 4096 * integerFrom(random, 16, 100));
      replicate(vm.disks.map((each) => each.key));
    } else if (kind === 'shrink' && vm.power === 'off' && disk.bytes > 30 * 4096) {
      this.#say(`disk ${disk.key} cut`);
      vm.shrink(disk.key, disk.bytes - 512 * integerBelow(random, 100));
    } else if (disk.bytes < 600 * 4096) {
      this.#say(`disk ${disk.key} grown`);
      vm.grow(disk.key, disk.bytes + 512 * integerBelow(random, 300));
    }
  }

  #strikeClock(): void {
    const { random, agent, server } = this.#targets;
    const { site } = pick(random, [agent, server]);
    site.skewMs += pick(random, [-60_000, -1_000, 1_000, 60_000, 600_000]);
    this.#say(`clock now ${site.skewMs} ms off`);
  }

  #stopGuest(stop: () => void): void {
    const { vm, random } = this.#targets;
    stop();
    this.#later(pick(random, [100, 5_000, 20_000]), () => vm.start());
  }

  #later(meanMs: number, act: () => void): void {
    this.#targets.timeline.after(waitMs(this.#targets.random, meanMs), () => {
      if (!this.#isOver) act();
    });
  }

  #say(what: string): void {
    this.#targets.trace.add(`fault ${what}`);
  }
}

export const STORAGE_CALM: StorageConditions = { errorRate: 0, operationMs: 0.3 };

function calm(victim: Victim): void {
  Object.assign(victim.conditions, STORAGE_CALM);
  victim.medium.capacityBytes = 2 ** 40;
}

/** One bit of one of the program's files turns around at rest. */
export function rot(victim: { medium: Medium }, random: Random): string | undefined {
  const files = [...victim.medium.files()].filter(([, file]) => file.current.bytes > 0);
  if (files.length === 0) return undefined;
  const [path, file] = pick(random, files);
  victim.medium.flipBit(file, integerBelow(random, file.current.bytes * 8));
  return path;
}
