/**
 * Sessions of one program, over connections that are used again: a handshake costs more than a whole session in which
 * nothing changed. A connection without a session rests here and may serve any replica of the same server.
 *
 * Invariant: a connection that rests costs no session its chance. What is late or broken is given up and another one
 * made, and only what the server refuses with reaches the caller. Bounded in number, rest and age. Pure.
 */
import type { Clock } from '#/lib/clock.ts';
import { Failure, failureIn } from '#/lib/failure.ts';
import { ClientConnection } from './client-connection.ts';
import { type ClientSession, openOver, type OpenOptions, type OpenRequest } from './client-session.ts';
import { CONNECTION_REUSE_MS, REOPEN_WITHIN_MS, REST_MAX_MS, RESTS_MAX } from './limits.ts';
import type { Transport } from './transport.ts';

export type SessionPlace = {
  /** Equal for connections that may stand in for each other: same server, same proof on both ends. */
  key: string;
  connect: (signal: AbortSignal) => Promise<Transport>;
};

type Kept = { key: string; connection: ClientConnection; sinceMs: number; restsSinceMs: number };

export class SessionPool implements AsyncDisposable {
  readonly #clock: Clock;
  /** In the order in which they came to rest. */
  readonly #resting: Kept[] = [];
  readonly #closing = new Set<ClientConnection>();
  readonly #over = new AbortController();
  #sweeping: Promise<void> | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Throws what connecting throws, and what the server refuses with. */
  async open(place: SessionPlace, open: OpenRequest, signal: AbortSignal): Promise<ClientSession> {
    for (;;) {
      const kept = this.#take(place.key);
      if (kept === undefined) break;
      const session = await this.#reopen(kept, open, signal);
      if (session !== undefined) return session;
    }
    const transport = await place.connect(signal);
    const connection = new ClientConnection(transport, { clock: this.#clock });
    const sinceMs = this.#clock.monotonicMs();
    const kept = { key: place.key, connection, sinceMs, restsSinceMs: sinceMs };
    return await openOver(connection, open, this.#options(kept, signal));
  }

  /** Ends the connections that rest; those in use end with their sessions. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#over.abort();
    const all = [...this.#resting.splice(0).map(({ connection }) => connection), ...this.#closing];
    await Promise.all(all.map((connection) => connection.end(undefined)));
    await this.#sweeping;
  }

  /** The one that was used last, as long as there is any. */
  #take(key: string): Kept | undefined {
    this.#drop();
    const at = this.#resting.findLastIndex((kept) => kept.key === key);
    return at < 0 ? undefined : this.#resting.splice(at, 1)[0];
  }

  /** Undefined when the connection was good for nothing any more. */
  async #reopen(kept: Kept, open: OpenRequest, signal: AbortSignal): Promise<ClientSession | undefined> {
    const late = new AbortController();
    const answered = new AbortController();
    this.#clock.sleep(REOPEN_WITHIN_MS, answered.signal).then(
      () => late.abort(new Failure('timeout', `open session: no answer within ${REOPEN_WITHIN_MS} ms`)),
      () => undefined,
    );
    try {
      const either = AbortSignal.any([signal, late.signal]);
      return await openOver(kept.connection, open, this.#options(kept, either));
    } catch (error) {
      signal.throwIfAborted();
      if (failureIn(error)?.retry !== 'reconnect') throw error;
      return undefined;
    } finally {
      answered.abort(ANSWERED);
    }
  }

  #options(kept: Kept, signal: AbortSignal): OpenOptions {
    return { signal, rest: () => this.#close(kept) };
  }

  /** In the background: whoever is done with a session need not wait until the server has heard of it. */
  #close(kept: Kept): void {
    const { connection } = kept;
    if (this.#over.signal.aborted || this.#clock.monotonicMs() - kept.sinceMs > CONNECTION_REUSE_MS) {
      void connection.end(undefined);
      return;
    }
    this.#closing.add(connection);
    connection
      .request<'closed'>({ kind: 'close' })
      .then(
        () => this.#keep({ ...kept, restsSinceMs: this.#clock.monotonicMs() }),
        // It has ended, and with it the session.
        () => undefined,
      )
      .finally(() => this.#closing.delete(connection));
  }

  #keep(kept: Kept): void {
    if (this.#over.signal.aborted) {
      void kept.connection.end(undefined);
      return;
    }
    this.#resting.push(kept);
    this.#drop();
    this.#sweeping ??= this.#sweep().finally(() => (this.#sweeping = undefined));
  }

  /** Takes out what has ended, rested for too long, or is too much. */
  #drop(): void {
    const nowMs = this.#clock.monotonicMs();
    for (let at = this.#resting.length - 1, kept = 0; at >= 0; at--) {
      const { connection, restsSinceMs } = this.#resting[at]!;
      const isGood = !connection.ended.aborted && nowMs - restsSinceMs < REST_MAX_MS && kept < RESTS_MAX;
      if (isGood) {
        kept++;
        continue;
      }
      this.#resting.splice(at, 1);
      void connection.end(undefined);
    }
  }

  async #sweep(): Promise<void> {
    while (this.#resting.length > 0) {
      await this.#clock.sleep(REST_MAX_MS, this.#over.signal).catch(() => undefined);
      if (this.#over.signal.aborted) return;
      this.#drop();
    }
  }
}

/** Why a timer is stopped: the default reason, with its stack, costs more than the session. */
const ANSWERED = 'answered';
