/**
 * A simulated VM: disks a guest writes to, dirty bitmaps as QEMU keeps them, and every way in which they get lost or
 * come back old.
 *
 * Invariant: a guest's write never waits for anything. `history` keeps the exact contents of every moment that was
 * frozen: what the checkers compare recovery points with.
 */
import assert from 'node:assert/strict';
import { BLOCK_BYTES } from '#/disk/disk.ts';
import { emptyDisk, freezePages } from './guest-pages.ts';
import type { DiskPages, Page } from './guest-pages.ts';

/** Granularity of QEMU's dirty bitmaps by default. */
export const GRANULE_BYTES: number = 64 * 1024;
const GRANULE_BLOCKS = GRANULE_BYTES / BLOCK_BYTES;

/** Dirty granules by disk key since one tracking id began. */
export type Tracking = Map<string, Set<number>>;
export type VmDisk = DiskPages & { imageId: string };
/** `isDisturbed`: the image changed while a powered-off VM's moment was open, so what was read of it is anything. */
export type FrozenMoment = { disks: DiskPages[]; isDisturbed: boolean; frozenMs: number };
export type ImageCopy = { disks: VmDisk[]; tracking: Map<string, Tracking> };

/** What a frozen moment watches while it is read. */
export interface MomentWatcher {
  /** The guest is about to change this granule of a running VM: the old contents go to scratch. */
  beforeWrite(key: string, granule: number): void;
  /** The VM started, stopped, or its image was changed from outside. */
  disturbed(why: string): void;
}

export class SimVm {
  #power: 'running' | 'off' = 'running';
  #disks: VmDisk[] = [];
  #tracking = new Map<string, Tracking>();
  #images = 0;
  /** Rises whenever a powered-off VM's image may have changed. */
  generation = 0;
  watcher: MomentWatcher | undefined;
  onStart: (() => void) | undefined;
  /** Exact contents by `momentMs`, which the source never uses twice. */
  readonly history = new Map<number, FrozenMoment>();

  constructor(disks: { key: string; bytes: number }[]) {
    for (const { key, bytes } of disks) this.addDisk(key, bytes);
  }

  /** Another VM, running, of copied images: what a site that comes back starts. */
  static of(copy: ImageCopy): SimVm {
    const vm = new SimVm([]);
    vm.#disks = copyOf(copy).disks;
    return vm;
  }

  get power(): 'running' | 'off' {
    return this.#power;
  }

  get disks(): readonly VmDisk[] {
    return this.#disks;
  }

  disk(key: string): VmDisk {
    const disk = this.#disks.find((candidate) => candidate.key === key);
    assert(disk, `the simulated VM has no disk ${key}`);
    return disk;
  }

  write(key: string, index: number, page: Page): void {
    assert(this.#power === 'running');
    const granule = Math.floor(index / GRANULE_BLOCKS);
    this.watcher?.beforeWrite(key, granule);
    this.disk(key).pages[index] = page;
    for (const tracking of this.#tracking.values()) tracking.get(key)?.add(granule);
  }

  isTracked(id: string): boolean {
    return this.#tracking.has(id);
  }

  dirty(id: string, key: string): ReadonlySet<number> | undefined {
    return this.#tracking.get(id)?.get(key);
  }

  track(id: string): void {
    this.#tracking.set(id, new Map(this.#disks.map((disk) => [disk.key, new Set<number>()])));
  }

  untrack(id: string): void {
    this.#tracking.delete(id);
  }

  trackingIds(): string[] {
    return [...this.#tracking.keys()];
  }

  /** A clean shutdown: the bitmaps are stored in the images. */
  shutdown(): void {
    if (this.#power === 'off') return;
    this.#power = 'off';
    this.#disturb('the VM was shut down');
  }

  start(): void {
    if (this.#power === 'running') return;
    this.#power = 'running';
    this.#disturb('the VM was started');
    this.onStart?.();
  }

  /** QEMU is killed: its bitmaps were in memory and are inconsistent now. */
  kill(): void {
    if (this.#power === 'off') return;
    this.#tracking.clear();
    this.shutdown();
  }

  /** Checkpoints deleted behind our back; the VM runs on. */
  loseTracking(): void {
    this.#tracking.clear();
  }

  addDisk(key: string, bytes: number): void {
    this.#disks.push({ ...emptyDisk(key, bytes), imageId: `image-${this.#images++}` });
  }

  /** Grows a disk; like QEMU's, its bitmaps do not name the new part, which reads as zeroes. */
  grow(key: string, bytes: number): void {
    const disk = this.disk(key);
    assert(bytes >= disk.bytes);
    disk.bytes = bytes;
    while (disk.pages.length < Math.ceil(bytes / BLOCK_BYTES)) disk.pages.push(undefined);
    this.generation++;
    if (this.#power === 'off') this.#disturb('a disk was resized');
  }

  /** Cuts a disk of a powered-off VM; bitmaps do not survive that. */
  shrink(key: string, bytes: number): void {
    assert(this.#power === 'off');
    const disk = this.disk(key);
    disk.bytes = bytes;
    disk.pages.length = Math.ceil(bytes / BLOCK_BYTES);
    this.#tracking.clear();
    this.#disturb('a disk was resized');
  }

  /** Copies the image files. Of a running VM they hold no bitmap that could be used. */
  copyImages(): ImageCopy {
    const tracking = this.#power === 'off' ? this.#tracking : new Map<string, Tracking>();
    return copyOf({ disks: this.#disks, tracking });
  }

  /** Puts older image files back: as other files, or written over the present ones. */
  restoreImages(copy: ImageCopy, inPlace: boolean): void {
    assert(this.#power === 'off');
    const { disks, tracking } = copyOf(copy);
    for (const disk of disks) {
      const present = this.#disks.find((candidate) => candidate.key === disk.key);
      disk.imageId = inPlace && present ? present.imageId : `image-${this.#images++}`;
    }
    const added = this.#disks.filter((disk) => !disks.some(({ key }) => key === disk.key));
    this.#disks = [...disks, ...added];
    this.#tracking = tracking;
    this.#disturb('older images were restored');
  }

  /** All disks exactly as they are now. */
  freeze(): DiskPages[] {
    return this.#disks.map(freezePages);
  }

  #disturb(why: string): void {
    this.generation++;
    const { watcher } = this;
    this.watcher = undefined;
    watcher?.disturbed(why);
  }
}

function copyOf({ disks, tracking }: ImageCopy): ImageCopy {
  return {
    disks: disks.map((disk) => ({ ...disk, pages: [...disk.pages] })),
    tracking: new Map(
      [...tracking].map(([id, dirty]) => [
        id,
        new Map([...dirty].map(([key, granules]) => [key, new Set(granules)])),
      ]),
    ),
  };
}
