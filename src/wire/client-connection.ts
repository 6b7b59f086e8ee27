/**
 * The running half of an agent's connection: reads, watches for silence, gives each answer to who asked
 * (docs/wire-protocol.md, section 5).
 *
 * Invariant: whatever goes wrong ends the connection once, and all that waits rejects with the Failure that ended it.
 * Pure.
 */
import assert from 'node:assert/strict';
import type { Clock } from '#/lib/clock.ts';
import { Failure, failureIn } from '#/lib/failure.ts';
import { fromFailureMessage, toFailureMessage } from './failure-message.ts';
import { MessageChannel } from './message-channel.ts';
import type { Message } from './messages.ts';
import { SILENCE_DEFAULT, type SilenceLimits, SilenceWatch } from './silence-watch.ts';
import type { Transport } from './transport.ts';

export type ClientSessionOptions = { clock: Clock; silence?: SilenceLimits; signal?: AbortSignal };
type Reply<K extends Message['kind']> = Extract<Message, { kind: K }>;
type Pending = { resolve: (message: Message) => void; reject: (reason: unknown) => void };

/** How long an end waits for its last words to leave, and a failed send for the peer's explanation. */
const LAST_WORDS_MS = 1_000;

export class ClientConnection {
  credited: (credit: { segmentCount: number; bytes: number }) => void = () => {};
  readonly #transport: Transport;
  readonly #clock: Clock;
  readonly #channel: MessageChannel;
  readonly #watch: SilenceWatch;
  readonly #over = new AbortController();
  readonly #reading: Promise<void>;
  #pending: Pending | undefined;
  #ending: Promise<void> | undefined;
  #reason: unknown;

  constructor(transport: Transport, options: ClientSessionOptions) {
    this.#transport = transport;
    this.#clock = options.clock;
    this.#watch = new SilenceWatch(options.clock, options.silence ?? SILENCE_DEFAULT);
    this.#channel = new MessageChannel(transport, 'client', () => this.#watch.heard());
    this.#reading = this.#read();
  }

  /** A session is open and nothing is under way. */
  get isIdle(): boolean {
    return this.#channel.state === 'idle' && !this.#over.signal.aborted;
  }

  get reason(): unknown {
    return this.#reason;
  }

  get ended(): AbortSignal {
    return this.#over.signal;
  }

  get wireBytes(): number {
    return this.#channel.wireBytes;
  }

  throwIfEnded(): void {
    if (this.#over.signal.aborted) throw this.#over.signal.reason;
  }

  /** Sends, and rejects with what ended the session rather than with the broken pipe that followed. */
  async send(message: Message): Promise<void> {
    this.throwIfEnded();
    this.#watch.said();
    try {
      await this.#channel.send(message);
    } catch (error) {
      await Promise.race([this.#reading, this.#clock.sleep(LAST_WORDS_MS)]);
      await this.end(error);
      throw this.#reason;
    }
  }

  async request<K extends Message['kind']>(message: Message, signal?: AbortSignal): Promise<Reply<K>> {
    this.throwIfEnded();
    signal?.throwIfAborted();
    assert(this.#pending === undefined, `${message.kind} while another request waits for its answer`);
    const answer = new Promise<Message>((resolve, reject) => {
      this.#pending = { resolve, reject };
    });
    // What ended the session is reported by `send` or by `answer`, whichever is first; the other is no news.
    answer.catch(() => {});
    // An answer that nobody waits for would be taken for the next one's: giving up means ending the session.
    const giveUp = (): void => void this.end(cancelled(message.kind, signal?.reason));
    signal?.addEventListener('abort', giveUp, { once: true });
    try {
      await Promise.race([this.send(message), answer]);
      return (await answer) as Reply<K>;
    } finally {
      signal?.removeEventListener('abort', giveUp);
    }
  }

  /** Runs something that waits, until it is done, the session ends or the caller's signal aborts. */
  async waiting(wait: (signal: AbortSignal) => Promise<void>, signal?: AbortSignal): Promise<void> {
    const both = signal === undefined ? this.#over.signal : AbortSignal.any([this.#over.signal, signal]);
    await wait(both);
    this.throwIfEnded();
  }

  /** Ends the session for this reason, once; undefined is an orderly end. */
  end(reason: unknown): Promise<void> {
    this.#ending ??= this.#finish(reason);
    return this.#ending;
  }

  async #finish(reason: unknown): Promise<void> {
    this.#reason = reason ?? new Failure('cancelled', 'use session: it was closed');
    this.#over.abort(this.#reason);
    this.#pending?.reject(this.#reason);
    this.#pending = undefined;
    const failure = failureIn(reason);
    if (failure?.code === 'protocol_corrupt' && this.#channel.state !== 'ended') {
      const said = this.#channel.send(toFailureMessage(failure)).catch(() => {});
      await Promise.race([said, this.#clock.sleep(LAST_WORDS_MS)]);
    }
    await this.#transport[Symbol.asyncDispose]();
  }

  async #read(): Promise<void> {
    const watching = new AbortController();
    const watched = this.#watch
      .run(() => this.#sayAlive(), watching.signal)
      .catch((error: unknown) => {
        if (!watching.signal.aborted) void this.end(error);
      });
    try {
      for (;;) {
        const message = await this.#channel.receive();
        if (message === undefined) throw new Failure('unreachable', 'receive message: the server hung up');
        this.#handle(message);
      }
    } catch (error) {
      void this.end(error);
    } finally {
      watching.abort();
      await watched;
    }
  }

  #handle(message: Message): void {
    if (message.kind === 'alive') return;
    if (message.kind === 'failure') throw fromFailureMessage(message);
    if (message.kind === 'credit') {
      this.credited(message);
      return;
    }
    // The table of states lets nothing else through than the answer to the request that waits.
    const pending = this.#pending;
    assert(pending !== undefined, `${message.kind} answers nothing`);
    this.#pending = undefined;
    pending.resolve(message);
  }

  #sayAlive(): void {
    if (this.#over.signal.aborted || this.#channel.state === 'new') return;
    this.#channel.send({ kind: 'alive' }).catch((error: unknown) => this.end(error));
  }
}

function cancelled(kind: string, reason: unknown): unknown {
  return failureIn(reason) ?? new Failure('cancelled', `wait for the answer to ${kind}`, { cause: reason });
}
