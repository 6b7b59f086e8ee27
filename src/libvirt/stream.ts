/**
 * A stream beside a call: a console's bytes in both directions, a screenshot's in one.
 *
 * Rules of the protocol (`virnetprotocol.x`): data is `continue`; an empty `continue` from the daemon is the end of
 * its data, which the client confirms with `ok` and the daemon with `ok`; `error` from the client aborts.
 *
 * The daemon cannot be told to hold one stream back without holding the whole connection, so a reader that is too
 * slow loses its own stream (`limit_exceeded`) and nothing else.
 */
import { Failure } from '#/lib/failure.ts';
import { BoundedQueue } from './bounded-queue.ts';
import { decodeError, LibvirtError } from './errors.ts';
import { STREAM_BUFFER_BYTES_MAX, STREAM_WRITE_BYTES_MAX } from './limits.ts';
import { PacketStatus } from './packet.ts';
import type { Packet, PacketStatusNumber } from './packet.ts';

/** What a stream needs of its connection. */
export type StreamPort = {
  /** Resolves when the transport took the bytes. */
  send(status: PacketStatusNumber, payload: Uint8Array): Promise<void>;
  /** The daemon will send nothing more for this stream. */
  release(): void;
};

export class RpcStream implements AsyncIterable<Uint8Array>, AsyncDisposable {
  readonly #what: string;
  readonly #port: StreamPort;
  readonly #received = new BoundedQueue<Uint8Array>(STREAM_BUFFER_BYTES_MAX);
  /** `finishing` and `aborting` wait for the daemon's last packet. */
  #state: 'open' | 'finishing' | 'aborting' | 'closed' = 'open';

  /** `what` names the stream in errors: "read the console of domain web". */
  constructor(what: string, port: StreamPort) {
    this.#what = what;
    this.#port = port;
  }

  /** Pieces of data as they come. Ends at the daemon's end, throws LibvirtError or Failure otherwise. */
  [Symbol.asyncIterator](): AsyncIterator<Uint8Array, undefined> {
    return {
      next: () => this.#received.next(),
      return: async () => {
        await this[Symbol.asyncDispose]();
        return { done: true, value: undefined };
      },
    };
  }

  /** Everything until the end. Throws `limit_exceeded` beyond `bytesMax`. */
  async readAll(bytesMax: number): Promise<Uint8Array> {
    const pieces: Uint8Array[] = [];
    let bytes = 0;
    for await (const piece of this) {
      bytes += piece.length;
      if (bytes > bytesMax)
        throw new Failure('limit_exceeded', `${this.#what}: more than ${bytesMax} bytes came`);
      pieces.push(piece);
    }
    return Buffer.concat(pieces, bytes);
  }

  /** Sends bytes to the daemon, which holds what the other end does not take yet. */
  async write(bytes: Uint8Array): Promise<void> {
    for (let offset = 0; offset < bytes.length; offset += STREAM_WRITE_BYTES_MAX) {
      if (this.#state !== 'open')
        throw new Failure('usage_invalid', `${this.#what}: write to a stream that has ended`);
      await this.#port.send(PacketStatus.continue, bytes.subarray(offset, offset + STREAM_WRITE_BYTES_MAX));
    }
  }

  /** Gives the stream up; what was not read is dropped. */
  [Symbol.asyncDispose](): Promise<void> {
    this.#received.end();
    this.#received.discard();
    this.#abort();
    return Promise.resolve();
  }

  /** Gives the stream up; the reader finds this failure at once. */
  cancel(failure: Failure): void {
    this.#received.discard();
    this.#received.end(failure);
    this.#abort();
  }

  /** The connection's side: a packet for this stream. */
  accept(packet: Packet): void {
    if (packet.status === PacketStatus.error) {
      this.#release(streamError(this.#what, packet.payload));
      return;
    }
    if (packet.status === PacketStatus.ok) {
      this.#release(undefined);
      return;
    }
    if (this.#state !== 'open') return;
    if (packet.payload.length === 0) {
      this.#received.end();
      this.#state = 'finishing';
      this.#sendQuietly(PacketStatus.ok);
      return;
    }
    // A copy, because a view would keep the whole chunk that it was received in.
    if (this.#received.push(packet.payload.slice(), packet.payload.length)) return;
    this.#received.end(new Failure('limit_exceeded', `${this.#what}: the reader is too slow for the daemon`));
    this.#abort();
  }

  /** The connection's side: it is gone. */
  fail(failure: Failure): void {
    this.#release(failure);
  }

  #abort(): void {
    if (this.#state !== 'open') return;
    this.#state = 'aborting';
    this.#sendQuietly(PacketStatus.error);
  }

  #release(failure: Failure | undefined): void {
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    this.#received.end(failure);
    this.#port.release();
  }

  /** The last word to the daemon; when the connection is lost meanwhile, `fail` tells the reader. */
  #sendQuietly(status: PacketStatusNumber): void {
    this.#port.send(status, new Uint8Array(0)).catch(() => undefined);
  }
}

function streamError(what: string, payload: Uint8Array): Failure {
  try {
    return new LibvirtError(what, decodeError(payload));
  } catch (error) {
    return new Failure('protocol_corrupt', `${what}: read the error that ended the stream`, { cause: error });
  }
}
