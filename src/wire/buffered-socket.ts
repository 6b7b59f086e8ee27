/**
 * Lets a TLS socket write what it receives into memory of its user, record by record.
 *
 * `tls.connect` documents this as `onread`, for connections that it dials itself; the accepting end of `tls.Server` has
 * the same code and no option for it. Without it every record of 16 KiB costs memory of its own and a pass through a
 * stream's queue: two fifths of what receiving costs (docs/decisions/0010-buffered-socket.md). The members used
 * here are those that the option itself sets. A runtime that lacks one of them receives by `data` events.
 */
import type { TLSSocket } from 'node:tls';

export type ReceiveBuffers = {
  /** Memory for the next record; any length. */
  next: () => Uint8Array;
  /** The first `count` bytes of the memory have arrived; false stops reading until the socket is resumed. */
  received: (count: number, buffer: Uint8Array) => boolean;
};

/** Node's own names of what `onread` sets on a socket. */
const MEMBERS = ['kBuffer', 'kBufferCb', 'kBufferGen'];

/**
 * True when the socket will use the buffers from now on; false when it cannot, and nothing has changed. What has
 * arrived before has to be read from the socket first.
 */
export function useReceiveBuffers(socket: TLSSocket, { next, received }: ReceiveBuffers): boolean {
  const [buffer, callback, generator] = MEMBERS.map((name) =>
    Object.getOwnPropertySymbols(socket).find(({ description }) => description === name),
  );
  const handle: unknown = Reflect.get(socket, '_handle');
  if (buffer === undefined || callback === undefined || generator === undefined) return false;
  if (!takesBuffer(handle)) return false;
  const first = next();
  Reflect.set(socket, buffer, first);
  Reflect.set(socket, callback, received);
  Reflect.set(socket, generator, next);
  handle.useUserBuffer(first);
  return true;
}

type BufferedHandle = { useUserBuffer: (buffer: Uint8Array) => void };

function takesBuffer(handle: unknown): handle is BufferedHandle {
  return typeof handle === 'object' && handle !== null && 'useUserBuffer' in handle;
}
