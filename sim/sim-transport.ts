/**
 * One end of a simulated connection, as a session sees it.
 *
 * A piece that is sent waits in `unsent`, crosses the link in chunks of any length at the link's speed, and waits in
 * the other end's inbox, which is as bounded as a socket's: a reader that stops holds the writer back.
 */
import { Failure } from '#/lib/failure.ts';
import { chance, integerBelow } from '#/lib/random.ts';
import type { PeerIdentity, Transport } from '#/wire/transport.ts';
import type { Connection, Direction, Network } from './network.ts';

/** What a socket takes before it asks the writer to wait. */
const HIGH_WATER_BYTES = 64 * 1024;
const INBOX_BYTES_MAX = 64 * 1024;
const CHUNK_BYTES_MAX = 32 * 1024;

type Waiter = { resolve: () => void; reject: (error: Failure) => void };
type Reader = { resolve: (piece: Uint8Array | undefined) => void; reject: (error: Failure) => void };

export class SimTransport implements Transport {
  readonly peer: PeerIdentity;
  other!: SimTransport;
  /** For the checkers: bytes ever sent, most bytes that waited at once, longest single piece. */
  readonly gauges = { sentBytes: 0, unsentBytesMax: 0, pieceBytesMax: 0, flips: 0 };
  readonly #network: Network;
  readonly #direction: Direction;
  readonly #connection: Connection;
  #unsent: Uint8Array[] = [];
  #unsentBytes = 0;
  #inbox: Uint8Array[] = [];
  #inboxBytes = 0;
  #senders: Waiter[] = [];
  #reader: Reader | undefined;
  #isPumping = false;
  /** What has left and not arrived, and when the last of it will. */
  readonly #underWay: (() => void)[] = [];
  #arrivesMs = 0;
  #isMuted = false;
  /** `vanished`: nobody is here any more; `closed`: by its own program; `failed`: the connection is gone. */
  #state: 'open' | 'closed' | 'failed' | 'vanished' = 'open';
  #peerEnded = false;

  constructor(network: Network, peer: PeerIdentity, direction: Direction, connection: Connection) {
    this.#network = network;
    this.peer = peer;
    this.#direction = direction;
    this.#connection = connection;
  }

  get isOver(): boolean {
    return this.#state !== 'open';
  }

  send(parts: readonly Uint8Array[]): Promise<void> {
    if (this.#state !== 'open') return this.#refuse();
    // Not copied before they leave: who changes bytes that were given to a transport sends something else.
    const bytes = parts.reduce((sum, part) => sum + part.length, 0);
    for (const part of parts) if (part.length > 0) this.#unsent.push(part);
    this.#unsentBytes += bytes;
    this.gauges.sentBytes += bytes;
    this.gauges.unsentBytesMax = Math.max(this.gauges.unsentBytesMax, this.#unsentBytes);
    this.gauges.pieceBytesMax = Math.max(this.gauges.pieceBytesMax, bytes);
    this.pump();
    if (this.#unsentBytes <= HIGH_WATER_BYTES) return Promise.resolve();
    return new Promise((resolve, reject) => {
      this.#senders.push({ resolve, reject });
    });
  }

  receive(): Promise<Uint8Array | undefined> {
    const piece = this.#inbox.shift();
    if (piece) {
      this.#inboxBytes -= piece.length;
      this.other.pump();
      return Promise.resolve(piece);
    }
    if (this.#state !== 'open') return this.#refuse();
    if (this.#peerEnded) return Promise.resolve(undefined);
    if (this.#reader) throw new Error('simulated program reads a transport twice at once');
    return new Promise((resolve, reject) => {
      this.#reader = { resolve, reject };
    });
  }

  /** Closes this end: what was sent still arrives, then the other end sees an orderly end. */
  [Symbol.asyncDispose](): Promise<void> {
    if (this.#state === 'open') {
      this.#state = 'closed';
      this.#inbox = [];
      this.#rejectWaiters();
      this.pump();
      this.#connection.settle();
    }
    return Promise.resolve();
  }

  /** The connection is gone, and this end knows. */
  fail(keepsInbox: boolean): void {
    if (this.#state !== 'open') return;
    this.#state = 'failed';
    if (!keepsInbox) this.#inbox = [];
    this.#unsent = [];
    this.#unsentBytes = 0;
    this.#rejectWaiters();
  }

  /** The program behind this end is gone: nothing of it settles or is sent any more. */
  vanish(): void {
    if (this.#state === 'open') this.#state = 'vanished';
    this.#isMuted = true;
  }

  /** Nothing leaves or arrives any more, and this end does not know. */
  mute(): void {
    this.#isMuted = true;
    this.other.#isMuted = true;
  }

  /** Moves what can be moved; called whenever something that held it back has changed. */
  pump(): void {
    if (this.#isPumping || this.#isMuted || this.#state === 'failed') return;
    const { conditions, timeline, random } = this.#network;
    if (conditions.blocked.has(this.#direction)) return;
    const first = this.#unsent[0];
    if (!first) {
      if (this.#state === 'closed') this.#deliverEnd();
      return;
    }
    if (this.other.#inboxBytes >= INBOX_BYTES_MAX) return;
    const most = chance(random, 0.1) ? 1 + integerBelow(random, 40) : CHUNK_BYTES_MAX;
    const chunk = first.slice(0, most);
    if (chunk.length === first.length) this.#unsent.shift();
    else this.#unsent[0] = first.subarray(chunk.length);
    this.#unsentBytes -= chunk.length;
    // Counted at once, so that what is under way is bounded too.
    this.other.#inboxBytes += chunk.length;
    this.#isPumping = true;
    timeline.after(chunk.length / conditions.bytesPerMs, () => {
      this.#isPumping = false;
      this.#later(() => this.#arrive(chunk));
      if (this.#unsentBytes <= HIGH_WATER_BYTES)
        for (const waiter of this.#senders.splice(0)) waiter.resolve();
      this.pump();
    });
  }

  /** When the link's latency has passed, and behind what left before: a link that becomes faster reorders nothing. */
  #later(arrive: () => void): void {
    const { conditions, timeline } = this.#network;
    this.#underWay.push(arrive);
    this.#arrivesMs = Math.max(this.#arrivesMs, timeline.nowMs + conditions.latencyMs);
    timeline.after(this.#arrivesMs - timeline.nowMs, () => this.#underWay.shift()!());
  }

  #arrive(chunk: Uint8Array): void {
    const { other } = this;
    if (other.#state !== 'open' || other.#isMuted) return;
    const { random, conditions } = this.#network;
    if (chance(random, conditions.flipRate)) {
      this.gauges.flips++;
      chunk[integerBelow(random, chunk.length)]! ^= 1 << integerBelow(random, 8);
    }
    other.#take(chunk);
  }

  #take(piece: Uint8Array): void {
    const reader = this.#reader;
    if (!reader) {
      this.#inbox.push(piece);
      return;
    }
    this.#reader = undefined;
    this.#inboxBytes -= piece.length;
    reader.resolve(piece);
    this.other.pump();
  }

  #deliverEnd(): void {
    this.#later(() => {
      const { other } = this;
      if (other.#state !== 'open' || other.#isMuted) return;
      other.#peerEnded = true;
      const reader = other.#reader;
      other.#reader = undefined;
      reader?.resolve(undefined);
    });
  }

  /** A dead program's call never comes back; a living one's is refused. */
  #refuse(): Promise<never> {
    return this.#state === 'vanished' ? new Promise(() => undefined) : Promise.reject(gone());
  }

  #rejectWaiters(): void {
    for (const sender of this.#senders.splice(0)) sender.reject(gone());
    const reader = this.#reader;
    this.#reader = undefined;
    reader?.reject(gone());
  }
}

function gone(): Failure {
  return new Failure('unreachable', 'simulated network: the connection is gone');
}
