/**
 * One connection to libvirt's daemon: calls and their replies, events, streams, signs of life.
 *
 * Many calls may be asked for at once; CALLS_IN_FLIGHT_MAX are on the way and the others wait in order. A call that is
 * cancelled or timed out rejects at once, but keeps its place until the daemon answers, because the daemon is still
 * at work on it. Anything that breaks the frame or the bookkeeping ends the connection with `protocol_corrupt`; a
 * reply whose content does not decode fails its own call only.
 *
 * Invariant: every call settles once, whatever the peer does: by its reply, its timeout, its signal, or the end.
 */
import type { Duplex } from 'node:stream';
import { Failure } from '#/lib/failure.ts';
import type { Clock } from '#/lib/clock.ts';
import { CallDeadlines } from './call-deadlines.ts';
import { decodeError, LibvirtError } from './errors.ts';
import { keepaliveAnswer, keepalivePacket, watchSilence } from './keepalive.ts';
import type { KeepaliveOptions } from './keepalive.ts';
import { CALL_TIMEOUT_MS, CALLS_IN_FLIGHT_MAX, CALLS_QUEUED_MAX, STREAMS_MAX } from './limits.ts';
import { encodePacket, PacketDecoder, PacketStatus, PacketType } from './packet.ts';
import type { Packet } from './packet.ts';
import { KEEPALIVE_PROGRAM, KeepaliveProcedure, PROGRAM_VERSION } from './procedures.ts';
import { RpcStream } from './stream.ts';

export type CallOptions = {
  signal?: AbortSignal | undefined;
  /** From the moment of asking, the wait for a place included. */
  timeoutMs?: number | undefined;
};

export type RpcCall = {
  /** What is being done, for errors: "start domain web". */
  what: string;
  program: number;
  procedure: number;
  args: Uint8Array;
};

export type RpcReply = { payload: Uint8Array; stream: RpcStream | undefined };

export type ConnectionOptions = { clock: Clock; callTimeoutMs?: number; keepalive?: KeepaliveOptions };

export type EventListener = {
  /** Every event packet, in order. */
  packet: (packet: Packet) => void;
  /** The connection has ended; nothing follows. */
  ended: (reason: Failure) => void;
};

type Pending = {
  call: RpcCall;
  withStream: boolean;
  timeoutMs: number;
  /** Made when the call is sent: the daemon may send a stream's first data before the reply. */
  stream: RpcStream | undefined;
  /** Settled calls stay in flight until their reply: see above. */
  isSettled: boolean;
  resolve: (reply: RpcReply) => void;
  reject: (reason: Failure) => void;
};

export class RpcConnection {
  /** Resolves once with the reason when the connection has ended; never rejects. */
  readonly ended: Promise<Failure>;
  readonly #transport: Duplex;
  readonly #clock: Clock;
  readonly #callTimeoutMs: number;
  readonly #decoder = new PacketDecoder();
  readonly #queue: Pending[] = [];
  readonly #inFlight = new Map<number, Pending>();
  readonly #streams = new Map<number, { call: RpcCall; stream: RpcStream }>();
  readonly #eventListeners = new Set<EventListener>();
  readonly #lifetime = new AbortController();
  readonly #deadlines: CallDeadlines<Pending>;
  #serial = 0;
  #received = 0;
  #endReason: Failure | undefined;
  #resolveEnded!: (reason: Failure) => void;

  constructor(transport: Duplex, options: ConnectionOptions) {
    this.#transport = transport;
    this.#clock = options.clock;
    this.#callTimeoutMs = options.callTimeoutMs ?? CALL_TIMEOUT_MS;
    this.#deadlines = new CallDeadlines(options.clock, (pending) => this.#late(pending));
    this.ended = new Promise((resolve) => (this.#resolveEnded = resolve));
    transport.on('data', (chunk: Uint8Array) => this.#onBytes(chunk));
    transport.on('error', (error) => this.#end(unreachable('the connection to libvirt broke', error)));
    transport.on('close', () => this.#end(unreachable('libvirt closed the connection')));
    transport.on('end', () => {
      const where = this.#decoder.isEmpty ? '' : ' in the middle of a packet';
      this.#end(unreachable(`libvirt closed the connection${where}`));
    });
    if (options.keepalive !== undefined) void this.#keepAlive(options.keepalive);
  }

  /** The reply's payload. Throws LibvirtError, or Failure `unreachable`, `timeout`, `cancelled`, `limit_exceeded`. */
  async call(call: RpcCall, options: CallOptions = {}): Promise<Uint8Array> {
    return (await this.#ask(call, false, options)).payload;
  }

  /** A call whose reply opens a stream. */
  async callWithStream(
    call: RpcCall,
    options: CallOptions = {},
  ): Promise<{ payload: Uint8Array; stream: RpcStream }> {
    if (this.#streams.size >= STREAMS_MAX) {
      throw new Failure('limit_exceeded', `${call.what}: ${STREAMS_MAX} streams are open on this connection`);
    }
    const { payload, stream } = await this.#ask(call, true, options);
    if (stream === undefined) throw new Failure('protocol_corrupt', `${call.what}: no stream was opened`);
    return { payload, stream };
  }

  /** Listens until the returned function is called. A throw of `packet` ends the connection. */
  onEvent(listener: EventListener): () => void {
    this.#eventListeners.add(listener);
    return () => this.#eventListeners.delete(listener);
  }

  /** Ends the connection; what is under way rejects with `cancelled`. */
  close(): void {
    this.#end(new Failure('cancelled', 'the connection to libvirt was closed'));
  }

  #ask(call: RpcCall, withStream: boolean, options: CallOptions): Promise<RpcReply> {
    const refusal = this.#refusal(call, options.signal);
    if (refusal !== undefined) return Promise.reject(refusal);
    const { promise, resolve, reject } = Promise.withResolvers<RpcReply>();
    const timeoutMs = options.timeoutMs ?? this.#callTimeoutMs;
    const pending: Pending = {
      call,
      withStream,
      timeoutMs,
      stream: undefined,
      isSettled: false,
      resolve,
      reject,
    };
    this.#queue.push(pending);
    this.#pump();
    return this.#watched(promise, pending, options.signal);
  }

  #refusal(call: RpcCall, signal: AbortSignal | undefined): Failure | undefined {
    if (this.#endReason !== undefined) return ended(call.what, this.#endReason);
    if (signal?.aborted === true) return cancelled(call.what, signal);
    if (this.#queue.length < CALLS_QUEUED_MAX) return undefined;
    return new Failure('limit_exceeded', `${call.what}: ${CALLS_QUEUED_MAX} calls are waiting for libvirt`);
  }

  /** The reply, unless the timeout or the signal comes first. */
  async #watched(
    reply: Promise<RpcReply>,
    pending: Pending,
    signal: AbortSignal | undefined,
  ): Promise<RpcReply> {
    const abort = (): void => this.#giveUp(pending, cancelled(pending.call.what, signal));
    signal?.addEventListener('abort', abort, { once: true });
    this.#deadlines.add(pending, pending.timeoutMs);
    try {
      return await reply;
    } finally {
      this.#deadlines.delete(pending);
      signal?.removeEventListener('abort', abort);
    }
  }

  #late(pending: Pending): void {
    const { call, timeoutMs } = pending;
    this.#giveUp(pending, new Failure('timeout', `${call.what}: libvirt gave no answer in ${timeoutMs} ms`));
  }

  #giveUp(pending: Pending, failure: Failure): void {
    const waiting = this.#queue.indexOf(pending);
    if (waiting >= 0) this.#queue.splice(waiting, 1);
    settle(pending, () => pending.reject(failure));
  }

  /** Sends what waits while there is a place for it. */
  #pump(): void {
    while (this.#inFlight.size < CALLS_IN_FLIGHT_MAX && this.#endReason === undefined) {
      const pending = this.#queue.shift();
      if (pending === undefined) return;
      const serial = this.#nextSerial();
      const { program, procedure, args } = pending.call;
      const packet = { ...callHeader(program, procedure), serial, payload: args };
      try {
        const bytes = encodePacket(packet);
        this.#inFlight.set(serial, pending);
        if (pending.withStream) pending.stream = this.#openStream(serial, pending.call);
        this.#transport.write(bytes);
      } catch (error) {
        this.#giveUp(
          pending,
          new Failure('usage_invalid', `${pending.call.what}: too long to send`, { cause: error }),
        );
      }
    }
  }

  /** Serials are 32 bits and come round; one that is still in use is passed over. */
  #nextSerial(): number {
    do this.#serial = (this.#serial + 1) >>> 0;
    while (this.#serial === 0 || this.#inFlight.has(this.#serial) || this.#streams.has(this.#serial));
    return this.#serial;
  }

  #onBytes(chunk: Uint8Array): void {
    if (this.#endReason !== undefined) return;
    try {
      for (const packet of this.#decoder.push(chunk)) {
        this.#received++;
        this.#dispatch(packet);
      }
    } catch (error) {
      const failure = error instanceof Failure ? error : undefined;
      if (failure === undefined) throw error;
      this.#end(failure);
    }
  }

  #dispatch(packet: Packet): void {
    if (packet.version !== PROGRAM_VERSION) throw strange(packet, `version ${packet.version} of a program`);
    switch (packet.type) {
      case PacketType.call:
        throw strange(packet, 'a call');
      case PacketType.reply:
        this.#onReply(packet);
        return;
      case PacketType.stream:
        this.#onStream(packet);
        return;
      case PacketType.message:
        this.#onMessage(packet);
    }
  }

  #onReply(packet: Packet): void {
    const pending = this.#inFlight.get(packet.serial);
    if (pending === undefined) throw strange(packet, 'a reply to a call that was not made');
    const { call } = pending;
    if (call.program !== packet.program || call.procedure !== packet.procedure) {
      throw strange(packet, `a reply to another call than ${call.procedure}`);
    }
    if (packet.status === PacketStatus.continue) throw strange(packet, 'a reply to be continued');
    this.#inFlight.delete(packet.serial);
    if (packet.status === PacketStatus.error) this.#onError(pending, packet.payload);
    else this.#onSuccess(pending, packet);
    this.#pump();
  }

  #onError(pending: Pending, payload: Uint8Array): void {
    const { what } = pending.call;
    let failure: Failure;
    try {
      failure = new LibvirtError(what, decodeError(payload));
    } catch (error) {
      failure = new Failure('protocol_corrupt', `${what}: read the error of libvirt`, { cause: error });
    }
    pending.stream?.fail(failure);
    settle(pending, () => pending.reject(failure));
  }

  #onSuccess(pending: Pending, packet: Packet): void {
    const { stream } = pending;
    // Nobody waits for the stream of a call that was given up: it is aborted, so that the daemon lets go of it.
    if (pending.isSettled) void stream?.[Symbol.asyncDispose]();
    settle(pending, () => pending.resolve({ payload: packet.payload, stream }));
  }

  #openStream(serial: number, call: RpcCall): RpcStream {
    const stream = new RpcStream(call.what, {
      send: (status, payload) => {
        const header = callHeader(call.program, call.procedure);
        return this.#send({ ...header, type: PacketType.stream, serial, status, payload });
      },
      release: () => this.#streams.delete(serial),
    });
    this.#streams.set(serial, { call, stream });
    return stream;
  }

  #onStream(packet: Packet): void {
    const found = this.#streams.get(packet.serial);
    if (found === undefined) throw strange(packet, 'a piece of a stream that is not open');
    if (found.call.program !== packet.program || found.call.procedure !== packet.procedure) {
      throw strange(packet, 'a piece of another stream');
    }
    found.stream.accept(packet);
  }

  #onMessage(packet: Packet): void {
    // The serial says nothing: daemons send events with 0 or 1.
    if (packet.status !== PacketStatus.ok) throw strange(packet, 'a message that is none');
    if (packet.program === KEEPALIVE_PROGRAM) {
      const answer = keepaliveAnswer(packet);
      if (answer !== undefined) this.#send(answer).catch(() => undefined);
      return;
    }
    for (const listener of this.#eventListeners) listener.packet(packet);
  }

  #send(packet: Packet): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#endReason !== undefined) {
        reject(ended('send a packet', this.#endReason));
        return;
      }
      this.#transport.write(encodePacket(packet), (error) => {
        if (error) reject(unreachable('send a packet to libvirt', error));
        else resolve();
      });
    });
  }

  async #keepAlive(options: KeepaliveOptions): Promise<void> {
    const failure = await watchSilence({
      ...options,
      clock: this.#clock,
      signal: this.#lifetime.signal,
      received: () => this.#received,
      ping: () => void this.#send(keepalivePacket(KeepaliveProcedure.ping)).catch(() => undefined),
    });
    if (failure !== undefined) this.#end(failure);
  }

  #end(reason: Failure): void {
    if (this.#endReason !== undefined) return;
    this.#endReason = reason;
    this.#lifetime.abort();
    this.#deadlines.close();
    this.#transport.destroy();
    const unanswered = [...this.#inFlight.values(), ...this.#queue.splice(0)];
    this.#inFlight.clear();
    for (const pending of unanswered) settle(pending, () => pending.reject(ended(pending.call.what, reason)));
    for (const { stream } of this.#streams.values()) stream.fail(reason);
    for (const listener of this.#eventListeners) listener.ended(reason);
    this.#eventListeners.clear();
    this.#resolveEnded(reason);
  }
}

function settle(pending: Pending, how: () => void): void {
  if (pending.isSettled) return;
  pending.isSettled = true;
  how();
}

function callHeader(program: number, procedure: number): Omit<Packet, 'serial' | 'payload'> {
  return { program, version: PROGRAM_VERSION, procedure, type: PacketType.call, status: PacketStatus.ok };
}

function unreachable(message: string, cause?: unknown): Failure {
  return new Failure('unreachable', message, { cause });
}

function ended(what: string, reason: Failure): Failure {
  return new Failure(reason.code, what, { cause: reason });
}

function cancelled(what: string, signal: AbortSignal | undefined): Failure {
  return new Failure('cancelled', `${what}: cancelled`, { cause: signal?.reason });
}

function strange(packet: Packet, what: string): Failure {
  const { program, procedure, serial } = packet;
  const where = `program ${program.toString(16)}, procedure ${procedure}, serial ${serial}`;
  return new Failure('protocol_corrupt', `read a packet of libvirt: ${what} (${where})`);
}
