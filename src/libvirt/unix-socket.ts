/** Connects to a daemon's Unix socket. */
import { createConnection } from 'node:net';
import type { Socket } from 'node:net';
import { Failure } from '#/lib/failure.ts';

/** A connected socket. Throws Failure `unreachable` or `cancelled`, and leaves nothing open then. */
export function connectUnixSocket(path: string, signal?: AbortSignal): Promise<Socket> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted === true) {
      reject(new Failure('cancelled', `connect to ${path}: cancelled`, { cause: signal.reason }));
      return;
    }
    const socket = createConnection({ path });
    const abort = (): void => {
      socket.destroy();
      reject(new Failure('cancelled', `connect to ${path}: cancelled`, { cause: signal?.reason }));
    };
    signal?.addEventListener('abort', abort, { once: true });
    const fail = (error: Error): void => {
      signal?.removeEventListener('abort', abort);
      reject(
        new Failure('unreachable', `connect to ${path}`, {
          cause: error,
          hint: 'Check that libvirt is running and that this program may open its socket.',
        }),
      );
    };
    socket.once('error', fail);
    socket.once('connect', () => {
      socket.removeListener('error', fail);
      signal?.removeEventListener('abort', abort);
      resolve(socket);
    });
  });
}
