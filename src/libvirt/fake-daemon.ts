/**
 * A daemon for tests, in memory: it sees calls as packets and answers with what the test says, byte for byte.
 * And a clock that only the test moves.
 */
import { duplexPair } from 'node:stream';
import type { Duplex } from 'node:stream';
import type { Clock } from '#/lib/clock.ts';
import { RpcConnection } from './connection.ts';
import type { ConnectionOptions } from './connection.ts';
import { encodePacket, PacketDecoder, PacketStatus, PacketType } from './packet.ts';
import type { Packet } from './packet.ts';

export class FakeDaemon {
  /** Every packet that came, in order. */
  readonly received: Packet[] = [];
  readonly connection: RpcConnection;
  readonly #wire: Duplex;
  readonly #decoder = new PacketDecoder();
  #wakers: (() => void)[] = [];

  constructor(options: ConnectionOptions) {
    const [ours, theirs] = duplexPair();
    this.#wire = ours;
    ours.on('data', (chunk: Uint8Array) => {
      this.received.push(...this.#decoder.push(chunk));
      for (const wake of this.#wakers.splice(0)) wake();
    });
    ours.on('error', () => undefined);
    this.connection = new RpcConnection(theirs, options);
  }

  /** The packet at that place, when it has come. */
  async packet(index: number): Promise<Packet> {
    for (;;) {
      const packet = this.received[index];
      if (packet !== undefined) return packet;
      await new Promise<void>((resolve) => this.#wakers.push(resolve));
    }
  }

  send(bytes: Uint8Array): void {
    this.#wire.write(bytes);
  }

  /** A reply to a call that came. */
  reply(call: Packet, payload: Uint8Array, change: Partial<Packet> = {}): void {
    this.send(encodePacket({ ...call, type: PacketType.reply, status: PacketStatus.ok, payload, ...change }));
  }

  /** A piece of the stream that a call opened. */
  stream(call: Packet, payload: Uint8Array, change: Partial<Packet> = {}): void {
    this.reply(call, payload, { type: PacketType.stream, status: PacketStatus.continue, ...change });
  }

  /** Closes the connection from the daemon's side. */
  hangUp(): void {
    this.#wire.end();
  }
}

/** Time that stands still until `advance`. */
export class ManualClock implements Clock {
  #nowMs = 0;
  readonly #sleepers = new Set<{ atMs: number; wake: () => void }>();

  now(): number {
    return this.#nowMs;
  }

  monotonicMs(): number {
    return this.#nowMs;
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const sleeper = { atMs: this.#nowMs + ms, wake: resolve };
      this.#sleepers.add(sleeper);
      const abort = (): void => {
        this.#sleepers.delete(sleeper);
        reject(signal?.reason as Error);
      };
      if (signal?.aborted === true) abort();
      else signal?.addEventListener('abort', abort, { once: true });
    });
  }

  /** Moves on, wakes who is due, and lets them run. */
  async advance(ms: number): Promise<void> {
    this.#nowMs += ms;
    for (const sleeper of this.#sleepers) {
      if (sleeper.atMs > this.#nowMs) continue;
      this.#sleepers.delete(sleeper);
      sleeper.wake();
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
}

export function fromHex(hex: string): Uint8Array {
  return Uint8Array.from(Buffer.from(hex.replaceAll(/\s/g, ''), 'hex'));
}
