/**
 * Two transports joined in memory, for tests and the simulation: bounded, ordered, cut on demand. Pure.
 */
import { Failure } from '#/lib/failure.ts';
import { BoundedQueue } from '#/lib/queue.ts';
import type { PeerIdentity, Transport } from './transport.ts';

export type MemoryTransport = Transport & {
  /** Breaks the link at once, in both directions: what was under way is lost. */
  cut(): void;
};

export type MemoryTransportOptions = { client: PeerIdentity; server: PeerIdentity; bytesMax?: number };

/** The client's end, whose peer is `server`, and the server's, whose peer is `client`. */
export function memoryTransportPair(options: MemoryTransportOptions): {
  client: MemoryTransport;
  server: MemoryTransport;
} {
  const bounds = {
    countMax: 4096,
    bytesMax: options.bytesMax ?? 1024 * 1024,
    bytesOf: (piece: Uint8Array) => piece.length,
  };
  const toServer = new BoundedQueue<Uint8Array>(bounds);
  const toClient = new BoundedQueue<Uint8Array>(bounds);
  const cut = (): void => {
    const failure = new Failure('unreachable', 'use memory transport: the link was cut');
    toServer.fail(failure);
    toClient.fail(failure);
  };
  return {
    client: end({ peer: options.server, out: toServer, in: toClient, cut }),
    server: end({ peer: options.client, out: toClient, in: toServer, cut }),
  };
}

type Ends = {
  peer: PeerIdentity;
  out: BoundedQueue<Uint8Array>;
  in: BoundedQueue<Uint8Array>;
  cut: () => void;
};

function end(ends: Ends): MemoryTransport {
  let isOver = false;
  let sending: Promise<void> = Promise.resolve();
  const sendPiece = async (before: Promise<void>, piece: Uint8Array): Promise<void> => {
    await before;
    await ends.out.put(piece);
  };
  return {
    peer: ends.peer,
    cut: ends.cut,
    send(parts) {
      if (isOver) return Promise.reject(new Failure('unreachable', 'send: the transport was ended'));
      // The bytes are copied as a socket would, so that sender and receiver share no memory.
      const piece = Uint8Array.from(Buffer.concat(parts));
      const sent = sendPiece(sending, piece);
      sending = sent.catch(() => {});
      return sent;
    },
    receive: () => ends.in.take(),
    async [Symbol.asyncDispose]() {
      if (isOver) return;
      isOver = true;
      // What waits for room has been sent and still leaves, unless the other end is gone.
      void sending.then(() => ends.out.end());
      // Nobody reads any more: the other end's sender must not wait for room for ever.
      ends.in.fail(new Failure('unreachable', 'use memory transport: the other end was closed'));
    },
  };
}
