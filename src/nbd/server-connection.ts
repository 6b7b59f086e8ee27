/**
 * One client of the server: negotiation, then requests until it leaves, is cut off or the server closes.
 *
 * Invariants: a request fails alone; requests in work and replies not yet taken are bounded by count and bytes (the
 * next request is not read before); after `closed` resolved nothing of this connection touches a disk.
 */
import type { Duplex } from 'node:stream';
import { EXTENTS_MAX, type Disk } from '#/disk/disk.ts';
import { Failure, failureIn } from '#/lib/failure.ts';
import { BufferPool } from './buffer-pool.ts';
import { ByteQueue } from './byte-queue.ts';
import { InFlightGate } from './in-flight-gate.ts';
import {
  DRAIN_TIMEOUT_MS,
  EXTENTS_CALLS_MAX,
  HANDSHAKE_TIMEOUT_MS,
  REQUEST_BYTES_DEFAULT_MAX,
  SERVER_IN_FLIGHT_BYTES,
  SERVER_IN_FLIGHT_COUNT,
  SERVER_POOL_BYTES,
  SERVER_QUEUE_BYTES,
} from './limits.ts';
import { COMMAND, COMMAND_FLAG, ERRNO, REQUEST_BYTES, STATE } from './protocol.ts';
import { simpleRead, structuredRead, type Reply } from './read-reply.ts';
import {
  decodeRequest,
  encodeBlockStatus,
  encodeError,
  encodeSimpleReply,
  type Descriptor,
  type Request,
} from './request-codec.ts';
import {
  ALLOCATION_ID,
  negotiate,
  type Agreement,
  type ExportTable,
  type ServedExport,
} from './server-handshake.ts';

/** The request cannot be served; says which error number the client gets. */
class Refusal extends Error {
  readonly errno: number;

  constructor(errno: number, message: string) {
    super(message);
    this.errno = errno;
  }
}

export class ServerConnection {
  readonly #stream: Duplex;
  readonly #queue = new ByteQueue(SERVER_QUEUE_BYTES);
  readonly #gate = new InFlightGate({
    count: SERVER_IN_FLIGHT_COUNT,
    bytes: SERVER_IN_FLIGHT_BYTES,
    waiting: 1,
  });
  readonly #pool = new BufferPool(SERVER_POOL_BYTES);
  readonly #cut = new AbortController();
  readonly #working = new Set<Promise<void>>();
  readonly #sending = new Set<() => void>();
  /** Resolves when the stream is gone and no request is in work; never rejects. */
  readonly closed: Promise<void>;
  #agreement: Agreement | undefined;
  #drainTimer: NodeJS.Timeout | undefined;

  constructor(stream: Duplex, table: ExportTable) {
    this.#stream = stream;
    stream.on('data', (bytes: Uint8Array) => {
      if (!this.#queue.push(bytes)) stream.pause();
    });
    this.#queue.onDrain = () => {
      if (stream.isPaused()) stream.resume();
    };
    const gone = new Promise<void>((resolve) => stream.once('close', resolve));
    stream.on('error', (cause) => this.#end('lose an NBD client', cause));
    stream.on('end', () => this.#end('lose an NBD client'));
    stream.on('close', () => {
      this.#end('lose an NBD client');
      clearTimeout(this.#drainTimer);
      for (const sent of this.#sending) sent();
      this.#cut.abort(new Failure('cancelled', 'read for an NBD client that is gone'));
    });
    this.closed = Promise.all([gone, this.#run(table)]).then(() => undefined);
  }

  /** The export that the client is in. */
  get served(): ServedExport | undefined {
    return this.#agreement?.served;
  }

  /** Takes no more requests, answers those that arrived, and hangs up; cuts off a client that does not take replies. */
  async close(): Promise<void> {
    this.#end('close an NBD connection');
    await this.closed;
  }

  /** No more requests are taken; what is in work has a limited time. */
  #end(doing: string, cause?: unknown): void {
    if (!this.#stream.closed) this.#drainTimer ??= setTimeout(() => this.#stream.destroy(), DRAIN_TIMEOUT_MS);
    this.#queue.end(new Failure('unreachable', doing, { cause }));
  }

  async #run(table: ExportTable): Promise<void> {
    try {
      const agreement = await this.#negotiate(table);
      this.#agreement = agreement;
      if (agreement !== undefined) await this.#transmit(agreement);
    } catch (error) {
      // Whatever this client did wrong concerns nobody else, and it is told nothing more; a bug is another matter.
      if (failureIn(error) === undefined) throw error;
    } finally {
      this.#end('end an NBD connection');
      await Promise.all(this.#working);
      if (this.#stream.destroyed || !this.#stream.writable) this.#stream.destroy();
      else this.#stream.end(() => this.#stream.destroy());
    }
  }

  async #negotiate(table: ExportTable): Promise<Agreement | undefined> {
    const timer = setTimeout(() => this.#end('wait for an NBD client to negotiate'), HANDSHAKE_TIMEOUT_MS);
    try {
      const channel = {
        read: (count: number) => this.#queue.read(count),
        skip: (count: number) => this.#queue.skip(count),
        write: (bytes: Uint8Array) => void this.#stream.write(bytes),
      };
      return await negotiate(channel, table);
    } finally {
      clearTimeout(timer);
    }
  }

  async #transmit(agreement: Agreement): Promise<void> {
    for (;;) {
      const request = decodeRequest(await this.#queue.read(REQUEST_BYTES));
      if (request.command === COMMAND.disconnect) return;
      if (request.command === COMMAND.write) await this.#queue.skip(request.length);
      // A reply is as long as a read, a status reply short; a read that is refused for its length has no data.
      const isRead = request.command === COMMAND.read && request.length <= REQUEST_BYTES_DEFAULT_MAX;
      const bytes = isRead ? request.length : 0;
      await this.#gate.enter(bytes, this.#cut.signal);
      const work = this.#answer(agreement, request).finally(() => {
        this.#gate.leave(bytes);
        this.#working.delete(work);
      });
      this.#working.add(work);
    }
  }

  async #answer(agreement: Agreement, request: Request): Promise<void> {
    const { parts, memory } = await this.#reply(agreement, request);
    await this.#send(parts);
    if (memory !== undefined) this.#pool.give(memory);
  }

  async #reply(agreement: Agreement, request: Request): Promise<Reply> {
    const { cookie } = request;
    try {
      switch (request.command) {
        case COMMAND.read:
          return await this.#read(agreement, request);
        case COMMAND.blockStatus:
          return { parts: [await this.#blockStatus(agreement, request)] };
        case COMMAND.flush:
          return { parts: [encodeSimpleReply(cookie, 0)] };
        case COMMAND.cache:
          checkRange(agreement.served.disk, request);
          return { parts: [encodeSimpleReply(cookie, 0)] };
        case COMMAND.write:
        case COMMAND.trim:
        case COMMAND.writeZeroes:
          throw new Refusal(ERRNO.EPERM, 'this export is read-only');
        default:
          throw new Refusal(ERRNO.EINVAL, `unknown command ${request.command}`);
      }
    } catch (error) {
      const { errno, message } = refusalOf(error);
      const isChunked = request.command === COMMAND.read || request.command === COMMAND.blockStatus;
      const isStructured = isChunked && agreement.isStructured;
      return {
        parts: [isStructured ? encodeError(cookie, errno, message) : encodeSimpleReply(cookie, errno)],
      };
    }
  }

  async #read(agreement: Agreement, request: Request): Promise<Reply> {
    const { isStructured, served } = agreement;
    const isWhole = (request.flags & COMMAND_FLAG.df) !== 0;
    if (request.length > REQUEST_BYTES_DEFAULT_MAX) {
      throw new Refusal(
        isWhole && isStructured ? ERRNO.EOVERFLOW : ERRNO.EINVAL,
        `${request.length} bytes at once`,
      );
    }
    checkFlags(request, isStructured ? COMMAND_FLAG.df : 0);
    const offset = checkRange(served.disk, request);
    const { cookie, length } = request;
    const means = { pool: this.#pool, signal: this.#cut.signal };
    const range = { cookie, offset, length };
    return isStructured
      ? structuredRead(served.disk, range, { ...means, isWhole })
      : simpleRead(served.disk, range, means);
  }

  async #blockStatus(agreement: Agreement, request: Request): Promise<Uint8Array> {
    if (!agreement.hasAllocation) throw new Refusal(ERRNO.EINVAL, 'no meta context was negotiated');
    checkFlags(request, COMMAND_FLAG.requestOne);
    const { disk } = agreement.served;
    const offset = checkRange(disk, request);
    const most = (request.flags & COMMAND_FLAG.requestOne) !== 0 ? 1 : EXTENTS_MAX;
    const runs: Descriptor[] = [];
    const end = offset + request.length;
    let at = offset;
    for (let calls = 0; at < end && calls < EXTENTS_CALLS_MAX && runs.length <= most; calls++) {
      for (const extent of await disk.extents(at, end - at, this.#cut.signal)) {
        const flags = extent.kind === 'zero' ? STATE.hole | STATE.zero : 0;
        const last = runs.at(-1);
        if (last?.flags === flags) last.length += extent.length;
        else runs.push({ length: extent.length, flags });
        at += extent.length;
      }
    }
    return encodeBlockStatus(request.cookie, ALLOCATION_ID, runs.slice(0, most));
  }

  /**
   * The parts of one reply in one go, so that no other reply comes between; resolves when the client took them or is
   * gone. A stream that is destroyed need not call back for the write it was at, so its close settles them all.
   */
  #send(parts: readonly Uint8Array[]): Promise<void> {
    return new Promise((resolve) => {
      if (this.#stream.destroyed || !this.#stream.writable) {
        resolve();
        return;
      }
      const sent = (): void => {
        this.#sending.delete(sent);
        resolve();
      };
      this.#sending.add(sent);
      this.#stream.cork();
      for (const part of parts.slice(0, -1)) this.#stream.write(part);
      // A failed write ends the stream, which has its own handler.
      this.#stream.write(parts.at(-1), sent);
      this.#stream.uncork();
    });
  }
}

function checkFlags(request: Request, allowed: number): void {
  const unknown = request.flags & ~allowed;
  if (unknown !== 0) throw new Refusal(ERRNO.EINVAL, `command flags 0x${unknown.toString(16)}`);
}

/** The offset of a range that is inside the export and not empty. */
function checkRange(disk: Disk, { offset, length }: Request): number {
  if (offset === undefined || length === 0 || offset + length > disk.bytes) {
    throw new Refusal(ERRNO.EINVAL, `range of ${length} bytes at ${offset} of ${disk.bytes}`);
  }
  return offset;
}

/** What the client is told. Details of a disk's failure stay here: they are for this side's operator. */
function refusalOf(error: unknown): { errno: number; message: string } {
  if (error instanceof Refusal) return error;
  const failure = failureIn(error);
  if (failure === undefined) throw error;
  return { errno: ERRNO.EIO, message: failure.code };
}
