/**
 * Tells whoever waits inside the manager that something changed. Carries no content: a listener looks for itself, so
 * missing a signal because several became one loses nothing.
 */

export type Topic =
  /** Orders of some member may differ now. */
  | 'orders'
  /** A report came in. */
  | 'reports'
  /** A task or a job moved on. */
  | 'jobs'
  /** An event was recorded. */
  | 'events'
  /** Somebody may do less than before. */
  | 'access';

export class Changes {
  readonly #listeners = new Map<Topic, Set<() => void>>();

  notify(topic: Topic): void {
    for (const listener of this.#listeners.get(topic) ?? []) listener();
  }

  /** Calls `listener` at every change until the returned function is called. It must not throw. */
  listen(topic: Topic, listener: () => void): () => void {
    const listeners = this.#listeners.get(topic) ?? new Set();
    this.#listeners.set(topic, listeners);
    // A wrapper of its own, so that the same function may listen twice.
    const own = (): void => listener();
    listeners.add(own);
    return () => listeners.delete(own);
  }

  /** Resolves at the next change, after `timeoutMs`, or when the signal aborts, whatever comes first. */
  next(topics: readonly Topic[], timeoutMs: number, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const stops = topics.map((topic) => this.listen(topic, finish));
      const timer = setTimeout(finish, timeoutMs);
      signal.addEventListener('abort', finish, { once: true });
      function finish(): void {
        clearTimeout(timer);
        signal.removeEventListener('abort', finish);
        for (const stop of stops) stop();
        resolve();
      }
    });
  }
}
