/**
 * A subscription to domain events: an async iterable over events of several kinds, in the order they came.
 *
 * A consumer that is too slow finds `limit_exceeded` after the events that were kept; one whose connection is lost
 * finds `unreachable`. Either way events are missing from then on: list the domains again and subscribe anew.
 */
import { Failure } from '#/lib/failure.ts';
import { BoundedQueue } from './bounded-queue.ts';
import type { CallOptions } from './connection.ts';
import { decodeEvent, EVENT_NUMBERS } from './events.ts';
import type { DomainEvent, DomainEventKind } from './events.ts';
import { EVENTS_EARLY_MAX, EVENTS_QUEUED_MAX } from './limits.ts';
import type { Packet } from './packet.ts';
import { Procedure, REMOTE_PROGRAM } from './procedures.ts';
import { nothing } from './remote.ts';
import type { Remote } from './remote.ts';
import { encodeDomainRef } from './remote-types.ts';
import type { DomainRef } from './remote-types.ts';

export type SubscribeOptions = CallOptions & {
  /** Events of this domain only. */
  domain?: DomainRef;
  /** Events kept for a consumer that is slower than they come. */
  queuedMax?: number;
};

export class Subscription implements AsyncIterable<DomainEvent>, AsyncDisposable {
  readonly #remote: Remote;
  readonly #queue: BoundedQueue<DomainEvent>;
  readonly #callbacks = new Set<number>();
  /** Events whose callback's number is not known yet: the daemon may send one before the reply that tells it. */
  #early: { callback: number; event: DomainEvent }[] | undefined = [];
  #unlisten: () => void = () => undefined;

  private constructor(remote: Remote, queuedMax: number) {
    this.#remote = remote;
    this.#queue = new BoundedQueue(queuedMax);
  }

  /** Registers the kinds with the daemon. Events count from before this resolves. */
  static async open(
    remote: Remote,
    kinds: readonly DomainEventKind[],
    options: SubscribeOptions = {},
  ): Promise<Subscription> {
    const subscription = new Subscription(remote, options.queuedMax ?? EVENTS_QUEUED_MAX);
    subscription.#unlisten = remote.rpc.onEvent({
      packet: (packet) => subscription.#accept(packet),
      ended: (reason) => subscription.#queue.end(reason.code === 'cancelled' ? undefined : lost(reason)),
    });
    try {
      for (const kind of new Set(kinds)) await subscription.#register(kind, options);
    } catch (error) {
      await subscription[Symbol.asyncDispose]();
      throw error;
    }
    subscription.#early = undefined;
    return subscription;
  }

  [Symbol.asyncIterator](): AsyncIterator<DomainEvent, undefined> {
    return {
      next: () => this.#queue.next(),
      return: async () => {
        await this[Symbol.asyncDispose]();
        return { done: true, value: undefined };
      },
    };
  }

  /** Ends the iteration and tells the daemon, as far as it still listens. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#queue.end();
    this.#queue.discard();
    this.#unlisten();
    const callbacks = [...this.#callbacks];
    this.#callbacks.clear();
    await Promise.allSettled(callbacks.map((callback) => this.#deregister(callback)));
  }

  async #register(kind: DomainEventKind, options: SubscribeOptions): Promise<void> {
    const callback = await this.#remote.call(
      {
        what: `subscribe to ${kind} events`,
        procedure: Procedure.eventRegister,
        encode: (w) => {
          w.int(EVENT_NUMBERS[kind]).bool(options.domain !== undefined);
          if (options.domain !== undefined) encodeDomainRef(w, options.domain);
        },
        decode: (r) => r.int(),
      },
      options,
    );
    this.#callbacks.add(callback);
    const early = this.#early ?? [];
    this.#early = early.filter((entry) => entry.callback !== callback);
    for (const entry of early) if (entry.callback === callback) this.#deliver(entry.event);
  }

  async #deregister(callback: number): Promise<void> {
    await this.#remote.call({
      what: 'end a subscription to events',
      procedure: Procedure.eventDeregister,
      encode: (w) => w.int(callback),
      decode: nothing,
    });
  }

  #accept(packet: Packet): void {
    if (packet.program !== REMOTE_PROGRAM) return;
    const decoded = decodeEvent(packet.procedure, packet.payload);
    if (decoded === undefined) return;
    if (this.#callbacks.has(decoded.callback)) this.#deliver(decoded.event);
    // Beyond the bound the oldest goes: it most likely belongs to another subscription.
    else if (this.#early?.push(decoded) === EVENTS_EARLY_MAX + 1) this.#early.shift();
  }

  #deliver(event: DomainEvent): void {
    if (this.#queue.push(event)) return;
    this.#queue.end(
      new Failure('limit_exceeded', 'keep events of libvirt for a slow consumer', {
        hint: 'Events were lost: read the state of the domains again and subscribe anew.',
      }),
    );
  }
}

function lost(reason: Failure): Failure {
  return new Failure(reason.code, 'wait for events of libvirt', { cause: reason });
}
