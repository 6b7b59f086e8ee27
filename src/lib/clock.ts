/** Time as a dependency, so that the simulation and the tests decide what time it is. */

export interface Clock {
  /** Wall time in integer milliseconds since the Unix epoch. May jump. */
  now(): number;
  /** Milliseconds that never go backwards, for durations; the zero is arbitrary. */
  monotonicMs(): number;
  /** Resolves after `ms`. Rejects with the signal's reason as soon as the signal aborts. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}
