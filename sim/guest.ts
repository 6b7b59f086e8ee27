/**
 * What runs in the simulated VM: bursts of writes of all kinds, and a ledger that writes record n to the second disk
 * only after record n is on the first, so that order across disks can be checked without knowing the contents.
 */
import { BLOCK_BYTES } from '#/disk/disk.ts';
import { chance, integerBelow } from '#/lib/random.ts';
import type { Random } from '#/lib/random.ts';
import { pick, waitMs } from './chance.ts';
import { nextPage } from './guest-pages.ts';
import type { SimVm } from './sim-vm.ts';
import type { Timeline } from './timeline.ts';

/** The block of each ledger disk that holds the newest record's number. */
export const LEDGER_BLOCK = 1;
export const LEDGER_DISKS: readonly [string, string] = ['vda', 'vdb'];

/** From the start of the VM to its first writes. */
const BOOT_MS = 50;

export type GuestHabits = { burstEveryMs: number; burstBlocksMax: number; isLocal: boolean };

export class Guest {
  readonly #vm: SimVm;
  readonly #timeline: Timeline;
  readonly #random: Random;
  readonly #habits: GuestHabits;
  /** Where a guest with locality writes at the moment. */
  #hot = 0;

  constructor(vm: SimVm, timeline: Timeline, random: Random, habits: GuestHabits) {
    this.#vm = vm;
    this.#timeline = timeline;
    this.#random = random;
    this.#habits = habits;
  }

  /** Fills part of the disks, then goes on until the run ends. A guest that boots writes at once. */
  run(): void {
    this.#vm.onStart = () => {
      this.#timeline.after(waitMs(this.#random, BOOT_MS), () => {
        if (this.#vm.power === 'running') this.#burst();
      });
    };
    for (const disk of this.#vm.disks) {
      const full = Math.floor(disk.pages.length * this.#random.next() * 0.6);
      for (let i = 0; i < full; i++) this.#write(disk.key, integerBelow(this.#random, disk.pages.length));
    }
    this.#nextBurst();
    this.#nextRecord();
  }

  #nextBurst(): void {
    this.#timeline.after(waitMs(this.#random, this.#habits.burstEveryMs), () => {
      if (this.#vm.power === 'running') this.#burst();
      this.#nextBurst();
    });
  }

  #burst(): void {
    const { key, pages } = pick(this.#random, this.#vm.disks);
    if (chance(this.#random, 0.1)) this.#hot = integerBelow(this.#random, pages.length);
    const count = 1 + integerBelow(this.#random, this.#habits.burstBlocksMax);
    for (let i = 0; i < count; i++) {
      const index = this.#habits.isLocal
        ? (this.#hot + integerBelow(this.#random, 24)) % pages.length
        : undefined;
      this.#write(key, index ?? integerBelow(this.#random, pages.length));
    }
  }

  #write(key: string, index: number): void {
    if (index === LEDGER_BLOCK) return;
    this.#vm.write(key, index, nextPage(this.#random, this.#vm.disk(key), index));
  }

  /** Record n on the first disk, some time later on the second; a stop in between leaves them one apart. */
  #nextRecord(): void {
    this.#timeline.after(waitMs(this.#random, 2 * this.#habits.burstEveryMs), () => {
      if (this.#vm.power === 'running') {
        const [a, b] = LEDGER_DISKS.map((key) => recordIn(this.#vm.disk(key).pages[LEDGER_BLOCK]));
        const behind = b! < a!;
        this.#vm.write(LEDGER_DISKS[behind ? 1 : 0], LEDGER_BLOCK, recordPage(a! + (behind ? 0 : 1)));
      }
      this.#nextRecord();
    });
  }
}

export function recordIn(page: Uint8Array | undefined): number {
  return page ? new DataView(page.buffer, page.byteOffset).getUint32(0) : 0;
}

function recordPage(number: number): Uint8Array {
  const page = new Uint8Array(BLOCK_BYTES);
  new DataView(page.buffer).setUint32(0, number);
  return page;
}
