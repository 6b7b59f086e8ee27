/**
 * A frozen moment of a simulated VM.
 *
 * Of a running VM its disks stay what they were, as a pull-mode backup keeps them, until its scratch is used up or
 * the VM goes away. Of a powered-off VM they are the images themselves: when those change, reads give the new
 * contents, and only `confirm` and, later, `lost` tell.
 */
import { createHash } from 'node:crypto';
import { BLOCK_BYTES, type Disk, type Extent } from '#/disk/disk.ts';
import { checkRange } from '#/disk/check-range.ts';
import { Failure } from '#/lib/failure.ts';
import { chance, integerBelow } from '#/lib/random.ts';
import type { Moment, MomentAttachment, MomentDisk, MomentRequest } from '#/replication/source.ts';
import { waitMs } from './chance.ts';
import { readPages, type DiskPages } from './guest-pages.ts';
import type { SourceParts } from './sim-source.ts';
import { GRANULE_BYTES, type FrozenMoment, type MomentWatcher } from './sim-vm.ts';

/** How long a change of a powered-off VM's images may go unnoticed. */
const LATE_MS = 2_000;

export class SimMoment implements Moment, MomentWatcher {
  readonly momentMs: number;
  readonly consistency: 'crash' | 'off';
  readonly disks: MomentDisk[];
  readonly attachments: MomentAttachment[];
  readonly tracking: string | undefined;
  readonly #parts: SourceParts;
  readonly #request: MomentRequest;
  readonly #lost = new AbortController();
  readonly #generation: number;
  readonly #scratch = new Set<string>();
  readonly #frozen: FrozenMoment;
  #isGone = false;
  #isEnded = false;
  isOpen = true;

  constructor(parts: SourceParts, request: MomentRequest, momentMs: number) {
    const { vm } = parts;
    this.#parts = parts;
    this.#request = request;
    this.momentMs = momentMs;
    this.consistency = vm.power === 'off' ? 'off' : 'crash';
    this.#generation = vm.generation;
    const frozen = vm.freeze();
    this.#frozen = { disks: frozen, isDisturbed: false, frozenMs: parts.timeline.nowMs };
    vm.history.set(momentMs, this.#frozen);
    this.disks = (request.disks.length > 0 ? request.disks : frozen.map((disk) => disk.key)).map((key) =>
      this.#momentDisk(key, frozen),
    );
    this.tracking = vm.power === 'running' ? request.next : undefined;
    if (this.tracking !== undefined) vm.track(this.tracking);
    this.attachments = [this.#attachment(`<domain generation='${vm.generation >> 1}'/>`)];
    vm.watcher = this;
  }

  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  /** True when reads still give what was frozen, or look as if they did. */
  get isReadable(): boolean {
    return !this.#isGone;
  }

  beforeWrite(key: string, granule: number): void {
    if (this.consistency === 'off') return;
    this.#scratch.add(`${key} ${granule}`);
    if (this.#scratch.size * GRANULE_BYTES >= this.#request.scratchBytes)
      this.#lose('the scratch space is used up');
  }

  disturbed(why: string): void {
    if (this.consistency === 'crash') {
      this.#lose(why);
      return;
    }
    this.#frozen.isDisturbed = true;
    // Nobody tells at once that a powered-off VM's image is in use again.
    this.#parts.timeline.after(waitMs(this.#parts.random, LATE_MS), () => this.#lose(why));
  }

  confirm(): Promise<void> {
    return this.#operate('confirm', () => {
      const isChanged = this.consistency === 'off' && this.#generation !== this.#parts.vm.generation;
      if (this.#isGone || isChanged) throw new Failure('tracking_lost', 'simulated host: the moment is lost');
    });
  }

  acknowledged(): Promise<void> {
    this.isOpen = false;
    return this.#operate('acknowledged', () => {
      if (this.#isEnded) return;
      this.#end();
      if (this.tracking === undefined) return;
      for (const id of this.#parts.vm.trackingIds()) if (id !== this.tracking) this.#parts.vm.untrack(id);
    });
  }

  release(outcome: 'given_up' | 'unknown'): Promise<void> {
    // Asked for is enough: a release that fails is made good by the next freeze.
    this.isOpen = false;
    return this.#operate('release', () => {
      if (this.#isEnded) return;
      this.#end();
      if (this.tracking !== undefined && outcome === 'given_up') this.#parts.vm.untrack(this.tracking);
    });
  }

  #end(): void {
    const { vm } = this.#parts;
    if (vm.watcher === this) vm.watcher = undefined;
    this.#isGone = true;
    this.#isEnded = true;
  }

  #lose(why: string): void {
    if (this.#isGone) return;
    const { vm } = this.#parts;
    if (vm.watcher === this) vm.watcher = undefined;
    this.#isGone = true;
    this.#lost.abort(
      new Failure(why.includes('scratch') ? 'scratch_full' : 'tracking_lost', `simulated host: ${why}`),
    );
  }

  #momentDisk(key: string, frozen: DiskPages[]): MomentDisk {
    const { vm } = this.#parts;
    const { imageId } = vm.disk(key);
    const pages = frozen.find((disk) => disk.key === key)!;
    const live = this.consistency === 'off' ? () => vm.disk(key) : () => pages;
    const since = this.#request.since;
    const dirty = since === undefined ? undefined : vm.dirty(since, key);
    const granules = dirty && [...dirty].sort((a, b) => a - b);
    return {
      spec: { key, bytes: pages.bytes },
      imageId,
      disk: new MomentContents(this, this.#parts, { bytes: pages.bytes, live }),
      changed: () => (granules ? ranges(granules, pages.bytes) : undefined),
    };
  }

  #attachment(text: string): MomentAttachment {
    const bytes = new TextEncoder().encode(text);
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    const read = (): Promise<Uint8Array> => this.#operate('attachment', () => bytes);
    return { kind: 'definition', sha256, bytes: bytes.length, read };
  }

  #operate<T>(name: string, effect: () => T): Promise<T> {
    const { timeline, random, fence, conditions, onOperation } = this.#parts;
    const run = async (): Promise<T> => {
      await timeline.sleep(waitMs(random, 5));
      if (!fence.alive) return new Promise(() => undefined);
      onOperation?.(name);
      if (!fence.alive) return new Promise(() => undefined);
      if (chance(random, conditions.errorRate))
        throw new Failure('libvirt_error', `simulated host: ${name} failed`);
      return effect();
    };
    return fence.guard(run());
  }
}

/** One disk of a moment. */
class MomentContents implements Disk {
  readonly bytes: number;
  readonly #moment: SimMoment;
  readonly #parts: SourceParts;
  readonly #live: () => DiskPages;

  constructor(moment: SimMoment, parts: SourceParts, disk: { bytes: number; live: () => DiskPages }) {
    this.#moment = moment;
    this.#parts = parts;
    this.bytes = disk.bytes;
    this.#live = disk.live;
  }

  read(offset: number, target: Uint8Array, signal?: AbortSignal): Promise<void> {
    checkRange(this, offset, target.length);
    return this.#answer(signal, () => readPages(this.#live(), offset, target));
  }

  extents(offset: number, length: number, signal?: AbortSignal): Promise<Extent[]> {
    checkRange(this, offset, length);
    return this.#answer(signal, () => extentsOf(this.#live(), offset, this.#shortened(length)));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return Promise.resolve();
  }

  /** An answer may cover less than was asked. */
  #shortened(length: number): number {
    const { random } = this.#parts;
    return chance(random, 0.2) ? Math.min(length, BLOCK_BYTES * (1 + integerBelow(random, 64))) : length;
  }

  #answer<T>(signal: AbortSignal | undefined, effect: () => T): Promise<T> {
    const { timeline, random, fence, conditions } = this.#parts;
    const run = async (): Promise<T> => {
      signal?.throwIfAborted();
      await timeline.sleep(waitMs(random, conditions.readMs));
      signal?.throwIfAborted();
      if (!this.#moment.isReadable || chance(random, conditions.errorRate / 10)) {
        throw new Failure('nbd_error', 'simulated host: read failed');
      }
      return effect();
    };
    return fence.guard(run());
  }
}

async function* ranges(
  granules: number[],
  bytes: number,
): AsyncGenerator<{ offset: number; length: number }> {
  await Promise.resolve();
  for (let at = 0; at < granules.length;) {
    let end = at + 1;
    while (end < granules.length && granules[end] === granules[end - 1]! + 1) end++;
    const offset = granules[at]! * GRANULE_BYTES;
    const stop = Math.min(bytes, (granules[end - 1]! + 1) * GRANULE_BYTES);
    if (stop > offset) yield { offset, length: stop - offset };
    at = end;
  }
}

function extentsOf(disk: DiskPages, offset: number, length: number): Extent[] {
  const extents: Extent[] = [];
  for (let at = offset; at < offset + length;) {
    const index = Math.floor(at / BLOCK_BYTES);
    const stop = Math.min(offset + length, (index + 1) * BLOCK_BYTES);
    const kind = disk.pages[index] ? 'data' : 'zero';
    const last = extents.at(-1);
    if (last?.kind === kind) last.length += stop - at;
    else extents.push({ offset: at, length: stop - at, kind });
    at = stop;
  }
  return extents;
}
