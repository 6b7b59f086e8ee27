/**
 * A disk that fails or delays the reads that a rule chooses: for tests and for an operator's rehearsal.
 *
 * A fault concerns one read; the disk goes on.
 */
import type { Clock } from '#/lib/clock.ts';
import type { Failure } from '#/lib/failure.ts';
import { checkRange } from './check-range.ts';
import type { Disk, Extent } from './disk.ts';

export type DiskFault = { kind: 'fail'; failure: Failure } | { kind: 'delay'; ms: number };

/** `index` counts the reads of this disk from 0. */
export type FaultRule = (read: { offset: number; length: number; index: number }) => DiskFault | undefined;

export class FaultyDisk implements Disk {
  readonly #inner: Disk;
  readonly #rule: FaultRule;
  readonly #clock: Clock;
  #reads = 0;

  constructor(inner: Disk, { rule, clock }: { rule: FaultRule; clock: Clock }) {
    this.#inner = inner;
    this.#rule = rule;
    this.#clock = clock;
  }

  get bytes(): number {
    return this.#inner.bytes;
  }

  async read(offset: number, target: Uint8Array, signal?: AbortSignal): Promise<void> {
    checkRange(this, offset, target.length);
    const fault = this.#rule({ offset, length: target.length, index: this.#reads++ });
    if (fault?.kind === 'fail') throw fault.failure;
    if (fault?.kind === 'delay') await this.#clock.sleep(fault.ms, signal);
    await this.#inner.read(offset, target, signal);
  }

  extents(offset: number, length: number, signal?: AbortSignal): Promise<Extent[]> {
    return this.#inner.extents(offset, length, signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#inner[Symbol.asyncDispose]();
  }
}
