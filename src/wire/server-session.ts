/**
 * The replication server's end of a connection (docs/wire-protocol.md, section 5): drives a replica by what the agent
 * sends, one session after another.
 *
 * Reading and working are two loops joined by a queue that the window bounds, so that segments arrive while others
 * are written. Invariant: a point's writer is committed, aborted or suspended before the replica is given back. Pure.
 */
import assert from 'node:assert/strict';
import type { Clock } from '#/lib/clock.ts';
import { Failure, failureIn } from '#/lib/failure.ts';
import { BoundedQueue } from '#/lib/queue.ts';
import { toFailureMessage, fromFailureMessage } from './failure-message.ts';
import { CONNECTION_AGE_MAX_MS, OPEN_WITHIN_MS, WINDOW_DEFAULT } from './limits.ts';
import { MessageChannel } from './message-channel.ts';
import type { Message } from './messages.ts';
import { CreditMeter, type Window } from './credit.ts';
import type { SessionHost } from './replica-port.ts';
import { type ClientRequest, ServerRequests } from './server-requests.ts';
import { SILENCE_DEFAULT, type SilenceLimits, SilenceWatch } from './silence-watch.ts';
import type { Transport } from './transport.ts';

export type ServerSessionOptions = {
  clock: Clock;
  window?: Window;
  silence?: SilenceLimits;
  openWithinMs?: number;
  /** Ends the session, such as when the server stops. */
  signal?: AbortSignal;
};

export type SessionEnd = {
  /** What ended the session; absent after an orderly end. */
  failure?: Failure;
  wireBytes: number;
};

/** After a failure was sent, what still arrives is read away for this long: a reset would take the failure back. */
const LINGER_MS = 2_000;

/**
 * Serves sessions over `transport`, which belongs to it from now on. Resolves when the last one is over and its
 * replica given back; rejects only with what is no Failure, which is a bug.
 */
export async function serveSession(
  transport: Transport,
  host: SessionHost,
  options: ServerSessionOptions,
): Promise<SessionEnd> {
  const session = new ServerSession(transport, host, options);
  return await session.run();
}

class ServerSession {
  readonly #transport: Transport;
  readonly #options: ServerSessionOptions;
  readonly #window: Window;
  readonly #watch: SilenceWatch;
  readonly #channel: MessageChannel;
  readonly #inbox: BoundedQueue<ClientRequest>;
  readonly #over = new AbortController();
  readonly #requests: ServerRequests;
  readonly #sinceMs: number;
  #meter: CreditMeter;
  #reason: { error: unknown } | undefined;
  #lastWords: Promise<void> | undefined;

  constructor(transport: Transport, host: SessionHost, options: ServerSessionOptions) {
    this.#transport = transport;
    this.#options = options;
    this.#sinceMs = options.clock.monotonicMs();
    this.#window = options.window ?? WINDOW_DEFAULT;
    this.#meter = new CreditMeter(this.#window);
    this.#watch = new SilenceWatch(options.clock, options.silence ?? SILENCE_DEFAULT);
    this.#channel = new MessageChannel(transport, 'server', () => this.#watch.heard());
    // One request may wait behind a full window of segments, and a failure of the peer ends all of it.
    this.#inbox = new BoundedQueue({ countMax: this.#window.segmentCount + 2 });
    this.#requests = new ServerRequests(host, transport.peer, {
      window: this.#window,
      end: (why) => this.#end(why),
      recycle: (bytes) => this.#channel.recycle(bytes),
    });
  }

  async run(): Promise<SessionEnd> {
    const { signal } = this.#options;
    const stop = (): void => this.#end(new Failure('unreachable', 'serve session: the server is stopping'));
    if (signal?.aborted === true) stop();
    signal?.addEventListener('abort', stop, { once: true });
    const reading = this.#read();
    const watching = this.#watchSilence();
    try {
      await this.#work();
    } finally {
      signal?.removeEventListener('abort', stop);
      await this.#letGo();
      await this.#close(reading);
      await watching;
    }
    const error = this.#reason?.error;
    const failure = failureIn(error);
    if (error !== undefined && failure === undefined) throw error;
    return { ...(failure && { failure }), wireBytes: this.#channel.wireBytes };
  }

  /** The first reason counts; the replica is let go and the peer told by whoever runs next. */
  #end(error: unknown): void {
    if (this.#reason !== undefined) return;
    this.#reason = { error };
    this.#inbox.fail(error);
    this.#over.abort(error);
    if (this.#channel.state === 'ended') return;
    const failure = failureIn(error) ?? new Failure('tool_failed', 'serve session: the server has failed');
    this.#lastWords = this.#channel.send(toFailureMessage(failure)).catch(() => {});
  }

  async #read(): Promise<void> {
    try {
      for (;;) {
        const message = await this.#channel.receive();
        if (message === undefined) break;
        if (message.kind === 'failure') throw fromFailureMessage(message);
        if (message.kind === 'alive') continue;
        if (message.kind === 'segment') this.#meter.received(message.segment.length);
        // The table of states lets nothing else through from a client.
        if (!this.#inbox.tryPut(message as ClientRequest)) {
          assert(this.#reason !== undefined, 'the window and the table of states bound the queue');
          return;
        }
      }
      this.#over.abort();
      this.#inbox.end();
    } catch (error) {
      this.#readFailed(error);
    }
  }

  /** Segments that arrived before the link was lost are good: the transfer resumes after them. */
  #readFailed(error: unknown): void {
    if (failureIn(error)?.code !== 'unreachable') {
      this.#end(error);
      return;
    }
    this.#reason ??= { error };
    this.#over.abort(error);
    this.#inbox.end();
  }

  async #work(): Promise<void> {
    try {
      for (;;) {
        const message = await this.#inbox.take();
        if (message === undefined) return;
        if (message.kind === 'open') this.#checkAge();
        const reply = await this.#requests.handle(message);
        if (reply?.kind === 'begun') this.#meter = new CreditMeter(this.#window);
        const due = message.kind === 'segment' ? this.#meter.drained(message.segment.length) : reply;
        if (due !== undefined) await this.#say(due);
      }
    } catch (error) {
      this.#end(error);
    }
  }

  /** A certificate is looked at when a connection is made, and may have ended since. */
  #checkAge(): void {
    const ageMs = this.#options.clock.monotonicMs() - this.#sinceMs;
    if (ageMs <= CONNECTION_AGE_MAX_MS) return;
    throw new Failure('unreachable', 'open session: this connection is too old, make another one');
  }

  /** Says something, unless the session has ended: then the peer is told so, or is gone. */
  async #say(message: Message): Promise<void> {
    if (this.#over.signal.aborted) return;
    this.#watch.said();
    await this.#channel.send(message);
  }

  /** Two clocks: the other end must not fall silent, and must not take for ever to say what it wants. */
  async #watchSilence(): Promise<void> {
    const { clock, openWithinMs = OPEN_WITHIN_MS } = this.#options;
    const { signal } = this.#over;
    const opened = async (): Promise<void> => {
      await clock.sleep(openWithinMs, signal);
      if (this.#channel.state !== 'new') return;
      throw new Failure('timeout', `serve session: no open within ${openWithinMs} ms`);
    };
    try {
      await Promise.all([this.#watch.run(() => this.#sayAlive(), signal), opened()]);
    } catch (error) {
      if (!signal.aborted) this.#end(error);
    }
  }

  #sayAlive(): void {
    if (this.#channel.state === 'new' || this.#channel.state === 'ended') return;
    this.#channel.send({ kind: 'alive' }).catch((error: unknown) => this.#end(error));
  }

  async #letGo(): Promise<void> {
    try {
      await this.#requests.letGo();
    } catch (error) {
      this.#reason ??= { error };
    }
  }

  async #close(reading: Promise<void>): Promise<void> {
    const { clock } = this.#options;
    if (this.#lastWords !== undefined) {
      const done = new AbortController();
      const linger = clock.sleep(LINGER_MS, done.signal).catch(() => {});
      await Promise.race([this.#lastWords.then(() => this.#readAway(reading)), linger]);
      done.abort();
    }
    this.#over.abort();
    await this.#transport[Symbol.asyncDispose]();
    await reading;
  }

  async #readAway(reading: Promise<void>): Promise<void> {
    await reading;
    try {
      while ((await this.#transport.receive()) !== undefined);
    } catch (error) {
      if (failureIn(error) === undefined) throw error;
    }
  }
}
