/**
 * A TLS socket as a session's transport (docs/wire-protocol.md, section 1).
 *
 * Reading stops while more than RECEIVE_BYTES_MAX wait to be taken, writing waits while the socket's own buffer is
 * full: both ends of a slow link hold a bounded amount.
 */
import { type SecureContextOptions, type TLSSocket } from 'node:tls';
import { Failure } from '#/lib/failure.ts';
import { useReceiveBuffers } from './buffered-socket.ts';
import type { PeerIdentity, Room, Transport } from './transport.ts';

export const ALPN = 'antipode/1';
/** Two segments: the next is written while one is encrypted and sent. */
export const SEND_BUFFER_BYTES: number = 1024 * 1024;
const RECEIVE_BYTES_MAX = 1024 * 1024;
/** The longest TLS record: RFC 8446, section 5.1. */
const RECORD_BYTES_MAX = 16 * 1024;
/** Records may be of one byte each, and each holds a buffer. */
const RECEIVE_PIECES_MAX: number = RECEIVE_BYTES_MAX / RECORD_BYTES_MAX;
const KEEPALIVE_AFTER_MS = 10_000;
/** What was sent before an end still has this long to leave. */
const CLOSE_WITHIN_MS = 1_000;

export type Credentials = { certificatePem: string; privateKeyPem: string };

/** What both ends of a connection agree on. AES-128 first: it is as safe here and a quarter faster. */
export function secureOptions(
  credentials: Credentials,
  authoritiesPem: readonly string[],
): SecureContextOptions {
  return {
    cert: credentials.certificatePem,
    key: credentials.privateKeyPem,
    ca: [...authoritiesPem],
    minVersion: 'TLSv1.3',
    ciphers: 'TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256',
  };
}

export class SocketTransport implements Transport {
  readonly peer: PeerIdentity;
  readonly #socket: TLSSocket;
  readonly #pieces: Uint8Array[] = [];
  /** Buffers for records, used again. */
  readonly #free: Uint8Array[] = [];
  /** The piece that was handed out last: the receiver may look at it until it asks for the next. */
  #lent: Uint8Array | undefined;
  /** Where what arrives is put while nothing is waiting, and how much of it is full. */
  #landing: { room: Room; at: number } | undefined;
  #first = 0;
  #waitingBytes = 0;
  #isEnded = false;
  #error: Failure | undefined;
  #wakeReceiver: (() => void) | undefined;

  constructor(socket: TLSSocket, peer: PeerIdentity) {
    this.peer = peer;
    this.#socket = socket;
    socket.setNoDelay(true);
    socket.setKeepAlive(true, KEEPALIVE_AFTER_MS);
    // Writes of several pieces at once are copied into one by Node; long ones go out from where they lie.
    Reflect.set(socket, '_writev', null);
    this.#startReceiving();
    socket.on('end', () => this.#ended());
    socket.on('error', (error) => this.#lost(error));
    socket.on('close', () => this.#lost(undefined));
  }

  send(parts: readonly Uint8Array[]): Promise<void> {
    const socket = this.#socket;
    if (this.#error !== undefined) return Promise.reject(this.#error);
    // Until the kernel has taken all of it: what waits for a slow peer is in the kernel's buffer, and once in ours.
    return new Promise((resolve, reject) => {
      const pieces = gathered(parts);
      const last = pieces.length - 1;
      const sent = (error?: Error | null): void => {
        if (error) reject(this.#lost(error));
        else resolve();
      };
      for (const [index, piece] of pieces.entries()) {
        if (index < last) socket.write(piece);
        else socket.write(piece, sent);
      }
    });
  }

  async receive(room?: Room): Promise<Uint8Array | undefined> {
    this.#takeBack();
    if (room !== undefined && this.#waitingPieces === 0) return await this.#land(room);
    for (;;) {
      if (this.#first < this.#pieces.length) return this.#take();
      if (this.#isEnded) return undefined;
      if (this.#error !== undefined) throw this.#error;
      await this.#somethingNew();
    }
  }

  /** Resolves when the room is full. */
  async #land(room: Room): Promise<Uint8Array | undefined> {
    const landing = { room, at: 0 };
    try {
      while (landing.at < room.bytes.length) {
        if (this.#isEnded) return undefined;
        if (this.#error !== undefined) throw this.#error;
        this.#landing = landing;
        await this.#somethingNew();
      }
      return room.bytes;
    } finally {
      this.#landing = undefined;
    }
  }

  #somethingNew(): Promise<void> {
    return new Promise((resolve) => (this.#wakeReceiver = resolve));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const socket = this.#socket;
    this.#error ??= new Failure('unreachable', 'use connection: it was closed');
    if (!socket.destroyed) {
      const closed = Promise.withResolvers<void>();
      const timer = setTimeout(() => socket.destroy(), CLOSE_WITHIN_MS);
      socket.once('close', () => closed.resolve());
      socket.end();
      socket.resume();
      await closed.promise;
      clearTimeout(timer);
    }
    this.#wake();
  }

  #startReceiving(): void {
    const socket = this.#socket;
    for (let early = readNow(socket); early !== undefined; early = readNow(socket)) this.#received(early);
    const isBuffered = useReceiveBuffers(socket, {
      next: () => this.#nextBuffer(),
      received: (count, buffer) => this.#received(buffer.subarray(0, count)),
    });
    if (!isBuffered) socket.on('data', (piece: Uint8Array) => this.#received(piece));
    socket.resume();
  }

  #nextBuffer(): Uint8Array {
    const landing = this.#landing;
    if (landing !== undefined && landing.at < landing.room.bytes.length) {
      return landing.room.bytes.subarray(landing.at);
    }
    return this.#free.pop() ?? new Uint8Array(RECORD_BYTES_MAX);
  }

  /** False when the socket is to stop reading. */
  #received(arrived: Uint8Array): boolean {
    const landed = this.#takeInPlace(arrived);
    return landed === arrived.length || this.#queue(landed === 0 ? arrived : arrived.subarray(landed));
  }

  /** How many of the bytes belong where the receiver wants them, and are there now. */
  #takeInPlace(arrived: Uint8Array): number {
    const landing = this.#landing;
    if (landing === undefined) return 0;
    const { bytes } = landing.room;
    const count = Math.min(arrived.length, bytes.length - landing.at);
    if (count === 0) return 0;
    const isThere = arrived.buffer === bytes.buffer && arrived.byteOffset === bytes.byteOffset + landing.at;
    // The first record after a frame's header is decrypted before anybody knows where it should go.
    if (!isThere) {
      bytes.set(arrived.subarray(0, count), landing.at);
      if (count === arrived.length) this.#giveBack(arrived);
    }
    landing.at += count;
    landing.room.arrived(count);
    if (landing.at === bytes.length) this.#wake();
    return count;
  }

  #queue(piece: Uint8Array): boolean {
    this.#pieces.push(piece);
    this.#waitingBytes += piece.length;
    const isFull = this.#waitingBytes > RECEIVE_BYTES_MAX || this.#waitingPieces > RECEIVE_PIECES_MAX;
    const isToStop = isFull && this.#error === undefined;
    if (isToStop) this.#socket.pause();
    this.#wake();
    return !isToStop;
  }

  get #waitingPieces(): number {
    return this.#pieces.length - this.#first;
  }

  #takeBack(): void {
    const lent = this.#lent;
    this.#lent = undefined;
    if (lent !== undefined) this.#giveBack(lent);
  }

  /** Keeps the buffer of a record that nobody looks at any more. */
  #giveBack({ buffer }: Uint8Array): void {
    if (buffer.byteLength !== RECORD_BYTES_MAX || this.#free.length >= RECEIVE_PIECES_MAX) return;
    this.#free.push(new Uint8Array(buffer));
  }

  #take(): Uint8Array {
    const piece = this.#pieces[this.#first]!;
    this.#first++;
    if (this.#first === this.#pieces.length || this.#first > RECEIVE_PIECES_MAX) {
      this.#pieces.splice(0, this.#first);
      this.#first = 0;
    }
    this.#waitingBytes -= piece.length;
    this.#lent = piece;
    const isLow = this.#waitingBytes * 2 < RECEIVE_BYTES_MAX && this.#waitingPieces * 2 < RECEIVE_PIECES_MAX;
    if (isLow && this.#socket.isPaused()) this.#socket.resume();
    return piece;
  }

  #ended(): void {
    this.#isEnded = true;
    this.#wake();
  }

  #lost(cause: Error | undefined): Failure {
    const { siteId, role, id } = this.peer;
    this.#error ??= new Failure('unreachable', `talk to ${role} ${id} of site ${siteId}: connection lost`, {
      cause,
    });
    this.#wake();
    return this.#error;
  }

  #wake(): void {
    this.#wakeReceiver?.();
    this.#wakeReceiver = undefined;
  }
}

function readNow(socket: TLSSocket): Uint8Array | undefined {
  const early: unknown = socket.read();
  return early instanceof Uint8Array ? early : undefined;
}

/** Pieces shorter than this are put together: a record and a call for each would cost more than a copy. */
const GATHERED_BYTES_MAX = 16 * 1024;

function gathered(parts: readonly Uint8Array[]): Uint8Array[] {
  const pieces: Uint8Array[] = [];
  let short: Uint8Array[] = [];
  const flush = (): void => {
    if (short.length > 0) pieces.push(short.length === 1 ? short[0]! : Buffer.concat(short));
    short = [];
  };
  for (const part of parts) {
    if (part.length < GATHERED_BYTES_MAX) {
      short.push(part);
      continue;
    }
    flush();
    pieces.push(part);
  }
  flush();
  return pieces;
}
