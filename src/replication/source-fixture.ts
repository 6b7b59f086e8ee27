/** For tests: a VM in memory, with disks, tracking that can be lost, power and images that can be restored. */
import { createHash } from 'node:crypto';
import { EXTENTS_MAX, type Disk, type Extent } from '#/disk/disk.ts';
import { Failure } from '#/lib/failure.ts';
import type { Range } from './ranges.ts';
import type { Moment, MomentRequest, Source } from './source.ts';

/** The granularity of QEMU's bitmaps. */
const GRAIN_BYTES = 65_536;

export class MemoryVmDisk {
  readonly key: string;
  bytes: Uint8Array;
  imageId = 'image-1';
  /** Dirty grains since each tracking id; it lives in the image, as a bitmap of qcow2 does. */
  bitmaps = new Map<string, Set<number>>();

  constructor(key: string, bytes: number) {
    this.key = key;
    this.bytes = new Uint8Array(bytes);
  }

  write(offset: number, bytes: Uint8Array): void {
    this.bytes.set(bytes, offset);
    for (let grain = Math.floor(offset / GRAIN_BYTES); grain * GRAIN_BYTES < offset + bytes.length; grain++) {
      for (const dirty of this.bitmaps.values()) dirty.add(grain);
    }
  }

  /** A copy of the image with its bitmaps, to be restored later. */
  image(): { bytes: Uint8Array; bitmaps: Map<string, Set<number>> } {
    const bitmaps = new Map([...this.bitmaps].map(([name, dirty]) => [name, new Set(dirty)]));
    return { bytes: Uint8Array.from(this.bytes), bitmaps };
  }

  restore(image: { bytes: Uint8Array; bitmaps: Map<string, Set<number>> }): void {
    this.bytes = Uint8Array.from(image.bytes);
    this.bitmaps = new Map([...image.bitmaps].map(([name, dirty]) => [name, new Set(dirty)]));
  }
}

export class MemorySource implements Source {
  readonly disks: MemoryVmDisk[];
  isOn = true;
  nowMs = 5000;
  bytesRead = 0;
  /** What became of each moment, in order. */
  readonly outcomes: string[] = [];
  readonly requests: MomentRequest[] = [];
  lose: ((reason: Failure) => void) | undefined;
  attachment: Uint8Array = new TextEncoder().encode('<domain/>');

  constructor(disks: MemoryVmDisk[]) {
    this.disks = disks;
  }

  /** QEMU is killed: its bitmaps are gone. */
  kill(): void {
    for (const disk of this.disks) disk.bitmaps.clear();
  }

  async freeze(request: MomentRequest): Promise<Moment> {
    this.requests.push(request);
    const { since, next } = request;
    const disks = this.disks.filter(({ key }) => request.disks.length === 0 || request.disks.includes(key));
    if (since !== undefined && !disks.some((disk) => disk.bitmaps.has(since))) {
      throw new Failure('tracking_lost', `no tracking ${since}`);
    }
    const lost = new AbortController();
    this.lose = (reason) => lost.abort(reason);
    const momentDisks = disks.map((disk) => this.#freezeDisk(disk, since));
    if (this.isOn) for (const disk of disks) disk.bitmaps.set(next, new Set());
    const settle = (outcome: string, dropped: string[]): void => {
      this.outcomes.push(outcome);
      for (const disk of disks) for (const name of dropped) disk.bitmaps.delete(name);
    };
    const { attachment } = this;
    return {
      momentMs: this.nowMs++,
      consistency: this.isOn ? 'crash' : 'off',
      disks: momentDisks,
      attachments: [
        {
          kind: 'definition',
          sha256: createHash('sha256').update(attachment).digest('hex'),
          bytes: attachment.length,
          read: async () => attachment,
        },
      ],
      tracking: this.isOn ? next : undefined,
      lost: lost.signal,
      confirm: async () => lost.signal.throwIfAborted(),
      acknowledged: async () => settle('acknowledged', since === undefined || !this.isOn ? [] : [since]),
      release: async (outcome) => settle(outcome, outcome === 'given_up' ? [next] : []),
    };
  }

  #freezeDisk(disk: MemoryVmDisk, since: string | undefined): Moment['disks'][number] {
    const bytes = Uint8Array.from(disk.bytes);
    const dirty = since === undefined ? undefined : disk.bitmaps.get(since);
    const ranges = dirty === undefined ? undefined : [...dirty].toSorted((a, b) => a - b);
    const changed = async function* (): AsyncGenerator<Range> {
      for (const grain of ranges ?? []) {
        const offset = grain * GRAIN_BYTES;
        yield { offset, length: Math.min(GRAIN_BYTES, bytes.length - offset) };
      }
    };
    return {
      spec: { key: disk.key, bytes: bytes.length },
      disk: new BytesDisk(bytes, (count) => (this.bytesRead += count)),
      changed: () => (ranges === undefined ? undefined : changed()),
      imageId: disk.imageId,
    };
  }
}

class BytesDisk implements Disk {
  readonly #bytes: Uint8Array;
  readonly #count: (bytes: number) => void;

  constructor(bytes: Uint8Array, count: (bytes: number) => void) {
    this.#bytes = bytes;
    this.#count = count;
  }

  get bytes(): number {
    return this.#bytes.length;
  }

  async read(offset: number, target: Uint8Array): Promise<void> {
    target.set(this.#bytes.subarray(offset, offset + target.length));
    this.#count(target.length);
  }

  async extents(offset: number, length: number): Promise<Extent[]> {
    const extents: Extent[] = [];
    for (let at = offset; at < offset + length && extents.length < EXTENTS_MAX;) {
      const end = Math.min(offset + length, (Math.floor(at / GRAIN_BYTES) + 1) * GRAIN_BYTES);
      const isZero = this.#bytes.subarray(at, end).every((byte) => byte === 0);
      extents.push({ offset: at, length: end - at, kind: isZero ? 'zero' : 'data' });
      at = end;
    }
    return extents;
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}
