/**
 * Serves read-only disks as named NBD exports, on Unix sockets, TCP or any stream.
 *
 * The disks belong to the caller: after `removeExport` or disposal resolved, the server does not touch them any more.
 * Exports come and go while it runs. Connections are bounded; one too many is hung up on.
 */
import { once } from 'node:events';
import { rm } from 'node:fs/promises';
import net from 'node:net';
import type { Duplex } from 'node:stream';
import type { Disk } from '#/disk/disk.ts';
import { Failure } from '#/lib/failure.ts';
import { SERVER_CONNECTIONS_MAX, SERVER_EXPORTS_MAX } from './limits.ts';
import { addressText, type NbdAddress } from './nbd-connection.ts';
import { ServerConnection } from './server-connection.ts';
import { checkExportText, type ServedExport } from './server-handshake.ts';

export class NbdServer implements AsyncDisposable {
  readonly #exports = new Map<string, ServedExport>();
  readonly #connections = new Set<ServerConnection>();
  readonly #listeners = new Set<net.Server>();
  #isClosing = false;

  /** Offers `disk` under `name`: `already_exists`, or `limit_exceeded`. */
  addExport(name: string, disk: Disk, description = ''): void {
    checkExportText(name);
    checkExportText(description);
    if (this.#exports.has(name))
      throw new Failure('already_exists', `serve a second NBD export ${JSON.stringify(name)}`);
    if (this.#exports.size >= SERVER_EXPORTS_MAX) {
      throw new Failure('limit_exceeded', `serve more than ${SERVER_EXPORTS_MAX} NBD exports`);
    }
    this.#exports.set(name, { name, disk, description });
  }

  /** Takes an export away; its clients get the answers to what they asked and are hung up on. */
  async removeExport(name: string): Promise<void> {
    const served = this.#exports.get(name);
    if (served === undefined) throw new Failure('not_found', `remove the NBD export ${JSON.stringify(name)}`);
    this.#exports.delete(name);
    const users = [...this.#connections].filter((connection) => connection.served === served);
    await Promise.all(users.map((connection) => connection.close()));
  }

  get exportNames(): string[] {
    return [...this.#exports.keys()];
  }

  get connectionCount(): number {
    return this.#connections.size;
  }

  /**
   * Listens; port 0 picks one. A socket file that nobody listens on, as a killed process leaves it, is replaced.
   * Returns the address that clients use.
   */
  async listen(address: NbdAddress): Promise<NbdAddress> {
    const listener = net.createServer((socket) => {
      socket.setNoDelay(true);
      void this.serve(socket);
    });
    try {
      await bind(listener, address);
    } catch (cause) {
      const code = (cause as NodeJS.ErrnoException).code === 'EADDRINUSE' ? 'already_exists' : 'storage_io';
      throw new Failure(code, `listen for NBD on ${addressText(address)}`, { cause });
    }
    this.#listeners.add(listener);
    if (address.kind === 'unix') return address;
    return { ...address, port: (listener.address() as net.AddressInfo).port };
  }

  /** Serves one client on a stream; resolves when it is gone. */
  async serve(stream: Duplex): Promise<void> {
    if (this.#isClosing || this.#connections.size >= SERVER_CONNECTIONS_MAX) {
      stream.on('error', () => undefined);
      stream.destroy();
      return;
    }
    const connection = new ServerConnection(stream, {
      find: (name) => this.#exports.get(name),
      list: () => this.#exports.values(),
    });
    this.#connections.add(connection);
    await connection.closed;
    this.#connections.delete(connection);
  }

  /** Stops listening, answers what was asked, hangs up. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosing = true;
    const listeners = [...this.#listeners].map(async (listener) => {
      const closed = once(listener, 'close');
      listener.close();
      await closed;
    });
    await Promise.all([...this.#connections].map((connection) => connection.close()));
    await Promise.all(listeners);
    this.#listeners.clear();
  }
}

async function bind(listener: net.Server, address: NbdAddress): Promise<void> {
  const attempt = async (): Promise<void> => {
    const listening = once(listener, 'listening');
    listener.listen(
      address.kind === 'unix' ? { path: address.path } : { host: address.host, port: address.port },
    );
    await listening;
  };
  try {
    await attempt();
  } catch (error) {
    const isTaken = (error as NodeJS.ErrnoException).code === 'EADDRINUSE';
    if (!isTaken || address.kind !== 'unix' || !(await isAbandoned(address.path))) throw error;
    await rm(address.path, { force: true });
    await attempt();
  }
}

/** True when a socket file exists and no process accepts on it. */
async function isAbandoned(path: string): Promise<boolean> {
  const socket = net.connect({ path });
  try {
    await once(socket, 'connect');
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ECONNREFUSED';
  } finally {
    socket.destroy();
  }
}
