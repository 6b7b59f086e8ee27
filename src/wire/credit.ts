/**
 * Flow control of segments by count and bytes (docs/wire-protocol.md, section 6).
 *
 * Invariant: the sender never has more than the window beyond what was credited, so the receiver's queue is bounded
 * by the window; a sender that exceeds it is named and cut off. Pure.
 */
import assert from 'node:assert/strict';
import { Failure } from '#/lib/failure.ts';
import type { Credit } from './messages.ts';

export type Window = { segmentCount: number; bytes: number };

/** The sender's half: waits for room. */
export class CreditWindow {
  readonly #window: Window;
  #sent: Window = { segmentCount: 0, bytes: 0 };
  #credited: Window = { segmentCount: 0, bytes: 0 };
  #wake: (() => void) | undefined;

  constructor(window: Window) {
    this.#window = window;
  }

  /** Takes room for one segment if there is some now. */
  tryTake(bytes: number): boolean {
    if (this.#wake !== undefined || !this.#hasRoom(bytes)) return false;
    this.#sent.segmentCount++;
    this.#sent.bytes += bytes;
    return true;
  }

  /** Takes room for one segment, waiting for credit. One caller at a time. Rejects with the signal's reason. */
  async take(bytes: number, signal: AbortSignal): Promise<void> {
    assert(bytes <= this.#window.bytes, `segment of ${bytes} bytes in a window of ${this.#window.bytes}`);
    while (!this.#hasRoom(bytes)) await this.#changed(signal);
    this.#sent.segmentCount++;
    this.#sent.bytes += bytes;
  }

  /** Totals that the receiver has taken from its queue. Throws protocol_corrupt when they cannot be. */
  credit(credit: Omit<Credit, 'kind'>): void {
    const { segmentCount, bytes } = credit;
    const isBackwards = segmentCount < this.#credited.segmentCount || bytes < this.#credited.bytes;
    if (isBackwards || segmentCount > this.#sent.segmentCount || bytes > this.#sent.bytes) {
      throw new Failure('protocol_corrupt', `receive credit for ${segmentCount} segments of ${bytes} bytes`);
    }
    this.#credited = { segmentCount, bytes };
    this.#wake?.();
  }

  #hasRoom(bytes: number): boolean {
    return (
      this.#sent.segmentCount - this.#credited.segmentCount < this.#window.segmentCount &&
      this.#sent.bytes - this.#credited.bytes + bytes <= this.#window.bytes
    );
  }

  #changed(signal: AbortSignal): Promise<void> {
    assert(this.#wake === undefined, 'one segment at a time waits for credit');
    if (signal.aborted) return Promise.reject(signal.reason as Error);
    return new Promise((resolve, reject) => {
      const settle = (finish: () => void) => (): void => {
        this.#wake = undefined;
        signal.removeEventListener('abort', abort);
        finish();
      };
      const abort = settle(() => reject(signal.reason as Error));
      this.#wake = settle(resolve);
      signal.addEventListener('abort', abort, { once: true });
    });
  }
}

/** The receiver's half: refuses what exceeds the window, and says when credit is due. */
export class CreditMeter {
  readonly #window: Window;
  #received: Window = { segmentCount: 0, bytes: 0 };
  #drained: Window = { segmentCount: 0, bytes: 0 };
  #credited: Window = { segmentCount: 0, bytes: 0 };

  constructor(window: Window) {
    this.#window = window;
  }

  /** A segment has arrived. Throws protocol_corrupt when the sender had no credit for it. */
  received(bytes: number): void {
    this.#received.segmentCount++;
    this.#received.bytes += bytes;
    const count = this.#received.segmentCount - this.#credited.segmentCount;
    if (
      count > this.#window.segmentCount ||
      this.#received.bytes - this.#credited.bytes > this.#window.bytes
    ) {
      throw new Failure('protocol_corrupt', 'receive segment: it was sent without credit');
    }
  }

  /** A segment has left the queue. Returns the credit to send now, if a quarter of the window is due. */
  drained(bytes: number): Credit | undefined {
    this.#drained.segmentCount++;
    this.#drained.bytes += bytes;
    const { segmentCount, bytes: drainedBytes } = this.#drained;
    const isDue =
      (segmentCount - this.#credited.segmentCount) * 4 >= this.#window.segmentCount ||
      (drainedBytes - this.#credited.bytes) * 4 >= this.#window.bytes;
    if (!isDue) return undefined;
    this.#credited = { segmentCount, bytes: drainedBytes };
    return { kind: 'credit', segmentCount, bytes: drainedBytes };
  }
}
