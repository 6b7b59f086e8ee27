/**
 * A machine with one program of ours: it is booted, killed at any operation, loses power, and is started again by
 * its supervisor. Each incarnation has a fence of its own and everything it touches goes through it.
 */
import type { Clock } from '#/lib/clock.ts';
import { integerBelow, type Random } from '#/lib/random.ts';
import { fork, waitMs } from './chance.ts';
import { STORAGE_CALM, type Death, type Victim } from './faults.ts';
import { Fence } from './fence.ts';
import { Medium } from './medium.ts';
import { simClock, SiteTime } from './sim-clock.ts';
import { SimFileSystem, type StorageConditions } from './sim-file-system.ts';
import type { Timeline } from './timeline.ts';
import type { Trace } from './trace.ts';

/** What one incarnation of a program is given. */
export type Life = {
  fence: Fence;
  clock: Clock;
  fileSystem: SimFileSystem;
  random: Random;
  /** Ends the program because it says so itself; its supervisor starts it again. */
  exit: (why: string) => void;
  onOperation: (name: string) => void;
};

export type MachineParts = {
  name: string;
  timeline: Timeline;
  random: Random;
  trace: Trace;
  boot: (life: Life) => void;
  /** What else the loss of power does. */
  onPowerLoss?: () => void;
  onCrash?: () => void;
  /** Called before each change of a file takes effect. */
  onChange?: (what: string) => void;
};

export class Machine implements Victim {
  readonly medium = new Medium();
  readonly conditions: StorageConditions = { ...STORAGE_CALM };
  readonly site: SiteTime;
  readonly #parts: MachineParts;
  #life: Life | undefined;
  #dieIn: Death | undefined;
  #isStopped = false;

  constructor(parts: MachineParts) {
    this.#parts = parts;
    this.site = new SiteTime(parts.timeline);
  }

  get fence(): Fence | undefined {
    return this.#life?.fence;
  }

  get life(): Life | undefined {
    return this.#life;
  }

  start(): void {
    if (this.#isStopped || this.#life) return;
    const { timeline, random, trace, name, boot } = this.#parts;
    trace.add(`${name} starts`);
    const fence = new Fence();
    const life: Life = {
      fence,
      clock: simClock(timeline, this.site, fence),
      random: fork(random),
      fileSystem: new SimFileSystem({
        medium: this.medium,
        timeline,
        random: fork(random),
        fence,
        conditions: this.conditions,
        onOperation: (operation, path) => this.#operation(life, `${operation} ${path}`),
      }),
      exit: (why) => this.#exit(life, why),
      onOperation: (operation) => this.#operation(life, operation),
    };
    this.#life = life;
    boot(life);
  }

  /** Ends the program for good. */
  stop(): void {
    this.#isStopped = true;
    this.#end();
  }

  kill(): void {
    if (!this.#life) return;
    this.#parts.trace.add(`${this.#parts.name} is killed`);
    this.#end();
    this.#parts.onCrash?.();
    this.#restart();
  }

  losePower(): void {
    this.#parts.trace.add(`${this.#parts.name} loses power`);
    this.#end();
    this.medium.crash(fork(this.#parts.random));
    this.#parts.onPowerLoss?.();
    this.#parts.onCrash?.();
    this.#restart();
  }

  dieSoon(death: Death): void {
    this.#dieIn = { ...death };
  }

  /** Nothing is to die any more. */
  spare(): void {
    this.#dieIn = undefined;
  }

  #operation(life: Life, what: string): void {
    if (!life.fence.alive) return;
    // Reads are too many to be worth a line, and dying before a read is dying after the change before it.
    if (/^(read|bytes|list|freeBytes) /.test(what)) return;
    this.#parts.trace.add(`${this.#parts.name} ${what}`);
    this.#parts.onChange?.(what);
    const due = this.#dieIn;
    if (!due || !what.includes(due.where) || due.operations-- > 0) return;
    this.#dieIn = undefined;
    this.#parts.trace.add(`${this.#parts.name} dies before ${what}`);
    if (due.how === 'kill') this.kill();
    else this.losePower();
  }

  #exit(life: Life, why: string): void {
    if (life !== this.#life || !life.fence.alive) return;
    this.#parts.trace.add(`${this.#parts.name} exits: ${why}`);
    this.#end();
    this.#restart();
  }

  #end(): void {
    this.#life?.fence.kill();
    this.#life = undefined;
  }

  #restart(): void {
    const { timeline, random } = this.#parts;
    timeline.after(200 + waitMs(random, 1_000) + integerBelow(random, 10), () => this.start());
  }
}
