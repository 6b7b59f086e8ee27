/**
 * One moment of a VM at a time: QEMU has one backup job, whatever the number of sites a VM is replicated to. Turns go
 * in the order in which they were asked for.
 */

export class VmTurns {
  readonly #last = new Map<string, Promise<void>>();

  /** Resolves with the end of the turn, to be called once. Rejects with the signal's reason. */
  async take(vm: string, signal: AbortSignal): Promise<() => void> {
    const before = this.#last.get(vm);
    const { promise, resolve } = Promise.withResolvers<void>();
    const mine = (before ?? Promise.resolve()).then(() => promise);
    this.#last.set(vm, mine);
    void mine.then(() => {
      if (this.#last.get(vm) === mine) this.#last.delete(vm);
    });
    try {
      await orAborted(before, signal);
      return resolve;
    } catch (error) {
      resolve();
      throw error;
    }
  }
}

async function orAborted(promise: Promise<void> | undefined, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  if (promise === undefined) return;
  const aborted = Promise.withResolvers<never>();
  const stop = (): void => aborted.reject(signal.reason);
  signal.addEventListener('abort', stop, { once: true });
  try {
    await Promise.race([promise, aborted.promise]);
  } finally {
    signal.removeEventListener('abort', stop);
  }
}
