/**
 * The agent's connection to libvirt, for as long as the agent runs: made again whenever it is lost, with its events.
 *
 * While there is none, `current` throws `unreachable` with the reason, and everybody who asks tries again later.
 */
import { Backoff } from '#/lib/backoff.ts';
import type { Clock } from '#/lib/clock.ts';
import { Failure, failureIn } from '#/lib/failure.ts';
import { failureFields, type Log } from '#/lib/log.ts';
import { systemRandom } from '#/lib/system-random.ts';
import type { DomainEvent } from '#/libvirt/events.ts';
import { Libvirt } from '#/libvirt/libvirt.ts';

const RETRY = { firstMs: 100, maxMs: 5000 };
const KINDS = ['lifecycle', 'io-error', 'block-job', 'device-added', 'device-removed'] as const;

export type LibvirtConnectionOptions = {
  socketPath: string;
  clock: Clock;
  log: Log;
  onEvent: (event: DomainEvent) => void;
  /** A connection was made or lost. */
  onChange: () => void;
};

export class LibvirtConnection {
  readonly #options: LibvirtConnectionOptions;
  #libvirt: Libvirt | undefined;
  #failure: Failure = new Failure('unreachable', 'libvirt: not connected yet');
  #connected = Promise.withResolvers<void>();

  constructor(options: LibvirtConnectionOptions) {
    this.#options = options;
  }

  /** Throws `unreachable`. */
  readonly current = (): Libvirt => {
    if (this.#libvirt !== undefined) return this.#libvirt;
    throw new Failure('unreachable', 'ask libvirt', {
      cause: this.#failure,
      hint: 'Start libvirtd on this host.',
    });
  };

  /** Why there is no connection; undefined while there is one. */
  get failure(): Failure | undefined {
    return this.#libvirt === undefined ? this.#failure : undefined;
  }

  /** Waits for a connection. */
  async ready(signal: AbortSignal): Promise<Libvirt> {
    while (this.#libvirt === undefined) {
      const aborted = Promise.withResolvers<never>();
      const stop = (): void => aborted.reject(signal.reason);
      signal.throwIfAborted();
      signal.addEventListener('abort', stop, { once: true });
      try {
        await Promise.race([this.#connected.promise, aborted.promise]);
      } finally {
        signal.removeEventListener('abort', stop);
      }
    }
    return this.#libvirt;
  }

  /** Runs until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#options;
    const backoff = new Backoff(RETRY, systemRandom);
    while (!signal.aborted) {
      try {
        await this.#connectOnce(signal, () => backoff.reset());
      } catch (error) {
        const failure = failureIn(error);
        if (signal.aborted) return;
        if (failure === undefined) throw error;
        if (this.#libvirt !== undefined || this.#failure.message !== failure.message) {
          log.warning('libvirt.lost', failureFields(error));
        }
        this.#lost(failure);
      }
      await clock.sleep(backoff.nextMs(), signal).catch(() => undefined);
    }
  }

  /** Connects and hands events on until the connection ends. */
  async #connectOnce(signal: AbortSignal, isUp: () => void): Promise<void> {
    const { socketPath, clock, log, onEvent, onChange } = this.#options;
    await using libvirt = await Libvirt.connect({ socketPath, clock, signal });
    await using events = await libvirt.subscribe(KINDS, { signal });
    this.#libvirt = libvirt;
    this.#connected.resolve();
    isUp();
    log.info('libvirt.connected', { socket: socketPath });
    onChange();
    const stop = (): void => void events[Symbol.asyncDispose]();
    signal.addEventListener('abort', stop, { once: true });
    try {
      for await (const event of events) onEvent(event);
      throw new Failure('unreachable', 'libvirt: the connection has ended');
    } finally {
      signal.removeEventListener('abort', stop);
      if (signal.aborted) this.#lost(new Failure('cancelled', 'libvirt: the agent stops'));
    }
  }

  #lost(failure: Failure): void {
    this.#failure = failure;
    if (this.#libvirt !== undefined) {
      this.#libvirt = undefined;
      this.#connected = Promise.withResolvers();
      this.#options.onChange();
    }
  }
}
