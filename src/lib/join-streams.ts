/**
 * Joins two connections until one of them closes.
 *
 * Invariant: what is buffered between them is what the two streams hold by themselves: a reader that is slow makes the
 * writer at the other end wait.
 */
import type { Duplex } from 'node:stream';
import { pipeline } from 'node:stream/promises';

/** Resolves when either has ended, in whatever way, or the signal aborts; both are closed then. Never rejects. */
export async function joinUntilClosed(one: Duplex, other: Duplex, signal: AbortSignal): Promise<void> {
  try {
    await Promise.race([pipeline(one, other, { signal }), pipeline(other, one, { signal })]);
  } catch {
    // Such a connection ends by closing. Who joined them knows best why, and tells it.
  } finally {
    one.destroy();
    other.destroy();
  }
}
