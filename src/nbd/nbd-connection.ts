/**
 * One connection of the client: a socket, the requests in flight on it, and who gets which reply.
 *
 * Invariants: a failed request fails alone; a lost connection fails all with `unreachable`, a breach of the protocol
 * all with `protocol_corrupt`. After a request settled, nobody writes to its target any more. In-flight requests are
 * bounded by count and bytes, and so are those that wait.
 */
import net from 'node:net';
import { Failure } from '#/lib/failure.ts';
import { ByteQueue } from './byte-queue.ts';
import { abandon, enterExport, greet, type Channel, type ExportInfo } from './client-handshake.ts';
import { InFlightGate } from './in-flight-gate.ts';
import {
  ABORT_GRACE_MS,
  CLIENT_IN_FLIGHT_BYTES,
  CLIENT_IN_FLIGHT_COUNT,
  CLIENT_WAITING_MAX,
  CONNECT_TIMEOUT_MS,
  NEGOTIATION_BYTES_MAX,
  SCRATCH_BYTES,
} from './limits.ts';
import { setUint64, view } from './option-codec.ts';
import { PendingRead, PendingStatus, type PendingReply, type StatusExtent } from './pending-reply.ts';
import { COMMAND, REQUEST_BYTES, REQUEST_MAGIC } from './protocol.ts';
import { ReplyReader } from './reply-reader.ts';

export type NbdAddress = { kind: 'unix'; path: string } | { kind: 'tcp'; host: string; port: number };

/** Extents by context name; `isTruncated` when the server said more than is kept. */
export type BlockStatus = { contexts: Map<string, StatusExtent[]>; isTruncated: boolean };

type InFlight = {
  pending: PendingReply;
  cookie: number;
  settle: (failure: unknown) => void;
  isSettled: boolean;
};

export class NbdConnection implements AsyncDisposable {
  readonly #socket: net.Socket;
  readonly #address: string;
  readonly #scratch = new Uint8Array(SCRATCH_BYTES);
  readonly #queue = new ByteQueue(NEGOTIATION_BYTES_MAX);
  readonly #inFlight = new Map<number, InFlight>();
  readonly #gate = new InFlightGate({
    count: CLIENT_IN_FLIGHT_COUNT,
    bytes: CLIENT_IN_FLIGHT_BYTES,
    waiting: CLIENT_WAITING_MAX,
  });
  readonly #closed = Promise.withResolvers<void>();
  #reader: ReplyReader | undefined;
  #info: ExportInfo | undefined;
  /** The read whose memory the kernel is filling now. */
  #landing: InFlight | undefined;
  #nextCookie = 1;
  #unsent: Uint8Array[] = [];
  #failure: Failure | undefined;

  /** Connects and enters `exportName`. `signal` and a fixed time limit bound the negotiation. */
  static async open(
    address: NbdAddress,
    request: { exportName: string; contexts: readonly string[] },
    signal?: AbortSignal,
  ): Promise<NbdConnection> {
    const connection = new NbdConnection(address);
    try {
      const info = await connection.#negotiate(
        (channel) => enterExport(channel, request.exportName, request.contexts),
        signal,
      );
      connection.#startTransmission(info);
      return connection;
    } catch (error) {
      connection.#socket.destroy();
      throw error;
    }
  }

  /** Connects, asks something of the negotiation phase and hangs up. */
  static async query<T>(
    address: NbdAddress,
    question: (channel: Channel) => Promise<T>,
    signal?: AbortSignal,
  ): Promise<T> {
    const connection = new NbdConnection(address);
    try {
      const answer = await connection.#negotiate(question, signal);
      abandon(connection.#channel);
      connection.#socket.end();
      return answer;
    } finally {
      connection.#socket.destroySoon();
    }
  }

  private constructor(address: NbdAddress) {
    this.#address = addressText(address);
    const target =
      address.kind === 'unix' ? { path: address.path } : { host: address.host, port: address.port };
    this.#socket = net.connect({
      ...target,
      noDelay: true,
      // Typed as a buffer or a function of one; the function is asked again after every read, which is what lets
      // the kernel write into the caller's memory.
      onread: { buffer: () => this.#nextBuffer(), callback: (count, bytes) => this.#received(count, bytes) },
    });
    this.#socket.on('error', (cause) => this.#fail(this.#unreachable({ cause })));
    this.#socket.on('end', () =>
      this.#fail(this.#unreachable({ cause: new Error('server closed the connection') })),
    );
    this.#socket.on('close', () => {
      this.#fail(this.#unreachable());
      this.#closed.resolve();
    });
  }

  get info(): ExportInfo {
    return this.#info!;
  }

  /** Why this connection is of no use any more, if it is not. */
  get failure(): Failure | undefined {
    return this.#failure;
  }

  /** Bytes asked for and not answered, or waiting to be asked for. */
  get loadBytes(): number {
    return this.#gate.loadBytes;
  }

  /** Fills `target` from `offset` by one request; the caller keeps to the export's block sizes. */
  read(offset: number, target: Uint8Array, signal?: AbortSignal): Promise<void> {
    return this.#request(new PendingRead(offset, target), COMMAND.read, signal);
  }

  /** One block status request for all negotiated contexts. */
  async blockStatus(offset: number, length: number, signal?: AbortSignal): Promise<BlockStatus> {
    const pending = new PendingStatus(offset, length, this.info.contexts.size);
    await this.#request(pending, COMMAND.blockStatus, signal);
    const contexts = new Map<string, StatusExtent[]>();
    let isTruncated = false;
    for (const [id, list] of pending.lists) {
      contexts.set(this.info.contexts.get(id)!, list.extents);
      isTruncated ||= list.isTruncated;
    }
    return { contexts, isTruncated };
  }

  /** Says goodbye; what is still in flight fails with `unreachable`. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#failure === undefined) {
      this.#send(COMMAND.disconnect, 0, { offset: 0, length: 0 });
      this.#flush();
      this.#fail(this.#unreachable({ cause: new Error('closed by this side') }), 'gently');
    }
    await this.#closed.promise;
  }

  readonly #channel: Channel = {
    read: (count) => this.#queue.read(count),
    write: (bytes) => void this.#socket.write(bytes),
  };

  async #negotiate<T>(question: (channel: Channel) => Promise<T>, signal?: AbortSignal): Promise<T> {
    const timer = setTimeout(() => {
      this.#fail(new Failure('timeout', `negotiate with ${this.#address} within ${CONNECT_TIMEOUT_MS} ms`));
    }, CONNECT_TIMEOUT_MS);
    const abort = (): void =>
      this.#fail(new Failure('cancelled', `connect to ${this.#address}`, { cause: signal?.reason }));
    signal?.addEventListener('abort', abort, { once: true });
    try {
      signal?.throwIfAborted();
      await greet(this.#channel);
      return await question(this.#channel);
    } catch (error) {
      signal?.throwIfAborted();
      throw error;
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', abort);
    }
  }

  #startTransmission(info: ExportInfo): void {
    this.#info = info;
    const reader = new ReplyReader({
      isStructured: info.isStructured,
      contexts: info.contexts,
      find: (cookie) => this.#inFlight.get(cookie)?.pending,
      done: (cookie, failure) => this.#done(cookie, failure),
    });
    this.#reader = reader;
    this.#guard(() => reader.feed(this.#queue.drain()));
  }

  async #request(pending: PendingReply, command: number, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    if (this.#failure !== undefined) throw this.#failure;
    // A status reply is small whatever range it is about.
    const bytes = pending.kind === 'read' ? pending.length : 0;
    const turn = this.#gate.enter(bytes, signal);
    if (turn !== undefined) await turn;
    try {
      if (this.#failure !== undefined) throw this.#failure;
      signal?.throwIfAborted();
    } catch (error) {
      this.#gate.leave(bytes);
      throw error;
    }
    await this.#start(pending, command, signal);
  }

  #start(pending: PendingReply, command: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const abort = (): void => this.#abort(entry, signal?.reason);
      const entry: InFlight = {
        pending,
        cookie: this.#takeCookie(),
        isSettled: false,
        settle: (failure) => {
          if (entry.isSettled) return;
          entry.isSettled = true;
          signal?.removeEventListener('abort', abort);
          if (failure === undefined) resolve();
          else reject(failure as Error);
        },
      };
      this.#inFlight.set(entry.cookie, entry);
      signal?.addEventListener('abort', abort, { once: true });
      this.#send(command, entry.cookie, pending);
    });
  }

  #takeCookie(): number {
    const cookie = this.#nextCookie;
    this.#nextCookie = (cookie + 1) % Number.MAX_SAFE_INTEGER;
    return cookie;
  }

  /** Requests of one turn of the event loop leave in one write. */
  #send(command: number, cookie: number, range: { offset: number; length: number }): void {
    const bytes = new Uint8Array(REQUEST_BYTES);
    const data = view(bytes);
    data.setUint32(0, REQUEST_MAGIC);
    data.setUint16(6, command);
    setUint64(data, 8, cookie);
    setUint64(data, 16, range.offset);
    data.setUint32(24, range.length);
    if (this.#unsent.push(bytes) === 1) queueMicrotask(() => this.#flush());
  }

  #flush(): void {
    if (this.#unsent.length === 0) return;
    const bytes = this.#unsent.length === 1 ? this.#unsent[0]! : Buffer.concat(this.#unsent);
    this.#unsent = [];
    if (this.#failure === undefined) this.#socket.write(bytes);
  }

  #done(cookie: number, failure: Failure | undefined): void {
    const entry = this.#inFlight.get(cookie)!;
    this.#inFlight.delete(cookie);
    this.#gate.leave(entry.pending.kind === 'read' ? entry.pending.length : 0);
    entry.settle(failure);
  }

  /**
   * The server still answers an aborted request; its bytes are thrown away. When the kernel was handed the target's
   * memory, the promise settles with the next bytes, and if none come the connection stands still for everyone: it
   * ends.
   */
  #abort(entry: InFlight, reason: unknown): void {
    if (entry.pending.kind === 'read') entry.pending.target = undefined;
    if (this.#landing !== entry) {
      entry.settle(reason);
      return;
    }
    const timer = setTimeout(() => {
      const cause = new Error(`nothing arrived for ${ABORT_GRACE_MS} ms in the middle of a reply`);
      if (!entry.isSettled) this.#fail(this.#unreachable({ cause }));
    }, ABORT_GRACE_MS);
    const settle = entry.settle;
    entry.settle = () => {
      clearTimeout(timer);
      settle(reason);
    };
  }

  #nextBuffer(): Uint8Array {
    const landing = this.#reader?.landing();
    const previous = this.#landing;
    this.#landing = landing === undefined ? undefined : this.#entryOf(landing.request);
    if (previous !== undefined && previous !== this.#landing && previous.pending.kind === 'read') {
      if (previous.pending.target === undefined) previous.settle(undefined);
    }
    return landing?.bytes ?? this.#scratch;
  }

  #entryOf(request: PendingRead): InFlight | undefined {
    for (const entry of this.#inFlight.values()) if (entry.pending === request) return entry;
    return undefined;
  }

  #received(count: number, bytes: Uint8Array): boolean {
    const reader = this.#reader;
    if (this.#failure !== undefined) return true;
    if (reader === undefined) {
      if (!this.#queue.push(bytes.slice(0, count))) {
        this.#fail(
          new Failure('protocol_corrupt', `negotiate with ${this.#address}: bytes that were not asked for`),
        );
      }
    } else if (bytes === this.#scratch) this.#guard(() => reader.feed(bytes.subarray(0, count)));
    else this.#guard(() => reader.landed(count));
    return true;
  }

  #guard(step: () => void): void {
    try {
      step();
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      this.#fail(error);
    }
  }

  #fail(failure: Failure, how: 'gently' | 'now' = 'now'): void {
    if (this.#failure !== undefined) return;
    this.#failure = failure;
    if (how === 'gently') this.#socket.destroySoon();
    else this.#socket.destroy();
    this.#queue.end(failure);
    this.#gate.fail(failure);
    for (const entry of this.#inFlight.values()) entry.settle(failure);
    this.#inFlight.clear();
  }

  #unreachable(options: { cause?: unknown } = {}): Failure {
    return new Failure('unreachable', `talk NBD to ${this.#address}`, options);
  }
}

export function addressText(address: NbdAddress): string {
  return address.kind === 'unix' ? address.path : `${address.host}:${address.port}`;
}
