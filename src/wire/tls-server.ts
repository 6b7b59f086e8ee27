/**
 * Listens for agents over TLS 1.3, both sides authenticated (docs/wire-protocol.md, section 1).
 *
 * A peer whose certificate is refused is told so in one `failure` message, since TLS could only hang up. Invariant:
 * nothing it sends is read; who has not finished the handshake is bounded in number and time.
 */
import { X509Certificate } from 'node:crypto';
import { createServer, type Server, type TLSSocket } from 'node:tls';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { Failure, failureIn } from '#/lib/failure.ts';
import { type PeerIdentity, type Role, type SiteAuthority, verifiedIdentity } from '#/lib/peer-identity.ts';
import { toFailureMessage } from './failure-message.ts';
import { CONNECTIONS_MAX, HANDSHAKE_WITHIN_MS, HANDSHAKES_MAX } from './limits.ts';
import { MessageChannel } from './message-channel.ts';
import { ALPN, type Credentials, secureOptions, SEND_BUFFER_BYTES, SocketTransport } from './tls-socket.ts';
import type { Transport } from './transport.ts';

/** What the server proves itself by, and whom it believes. Changes while it runs. */
export type TlsIdentity = {
  credentials: Credentials;
  /** One authority for each trusted site. */
  trust: readonly { siteId: string; caPem: string }[];
};

export type TlsListenOptions = {
  host: string;
  port: number;
  identity: TlsIdentity;
  /** The role a peer must have. */
  role: Role;
  /** Takes over the connection. What it throws is a bug. */
  accept: (transport: Transport) => Promise<void>;
  /** A peer was turned away; for the log. */
  refused?: (failure: Failure, remote: string) => void;
  handshakeWithinMs?: number;
  handshakesMax?: number;
  connectionsMax?: number;
};

/** Throws config_invalid when the address cannot be listened on. */
export async function listen(options: TlsListenOptions): Promise<TlsListener> {
  const listener = new TlsListener(options);
  await listener.start();
  return listener;
}

export class TlsListener implements AsyncDisposable {
  readonly #options: TlsListenOptions;
  readonly #server: Server;
  readonly #accepting = new Set<Promise<void>>();
  #authorities: SiteAuthority[];
  #connectionCount = 0;
  #securedCount = 0;

  /** Use `listen`. */
  constructor(options: TlsListenOptions) {
    this.#options = options;
    this.#authorities = authoritiesOf(options.identity);
    this.#server = createServer({
      ...this.#secureOptions(options.identity),
      requestCert: true,
      rejectUnauthorized: false,
      ALPNProtocols: [ALPN],
      handshakeTimeout: options.handshakeWithinMs ?? HANDSHAKE_WITHIN_MS,
      highWaterMark: SEND_BUFFER_BYTES,
    });
    this.#server.maxConnections = options.connectionsMax ?? CONNECTIONS_MAX;
    this.#server.on('connection', (socket) => {
      this.#connectionCount++;
      socket.once('close', () => this.#connectionCount--);
      const handshakes = this.#connectionCount - this.#securedCount;
      if (handshakes > (options.handshakesMax ?? HANDSHAKES_MAX)) socket.destroy();
    });
    this.#server.on('secureConnection', (socket) => this.#secured(socket));
    this.#server.on('tlsClientError', (error, socket) => {
      const remote = socket.remoteAddress ?? 'an unknown address';
      options.refused?.(new Failure('unauthenticated', 'handshake with a peer', { cause: error }), remote);
      socket.destroy();
    });
  }

  /** Where it listens; the port that was chosen when 0 was asked for. */
  get address(): { host: string; port: number } {
    const { address, port } = this.#server.address() as AddressInfo;
    return { host: address, port };
  }

  async start(): Promise<void> {
    const { host, port } = this.#options;
    try {
      this.#server.listen({ host, port });
      await once(this.#server, 'listening');
    } catch (error) {
      throw new Failure('config_invalid', `listen on ${host}:${port}`, {
        cause: error,
        hint: 'Choose an address of this machine and a port that nothing else listens on.',
      });
    }
  }

  /** Connections from now on use this identity and trust; those that are open stay. */
  update(identity: TlsIdentity): void {
    this.#authorities = authoritiesOf(identity);
    this.#server.setSecureContext(this.#secureOptions(identity));
  }

  /** Stops listening, and waits until every connection that was accepted has been let go of. */
  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this.#server, 'close');
    this.#server.close();
    await Promise.all(this.#accepting);
    await closed;
  }

  #secureOptions(identity: TlsIdentity) {
    return secureOptions(
      identity.credentials,
      identity.trust.map((site) => site.caPem),
    );
  }

  #secured(socket: TLSSocket): void {
    this.#securedCount++;
    socket.once('close', () => this.#securedCount--);
    const work = this.#admit(socket).finally(() => this.#accepting.delete(work));
    this.#accepting.add(work);
  }

  async #admit(socket: TLSSocket): Promise<void> {
    const remote = socket.remoteAddress ?? 'an unknown address';
    let peer: PeerIdentity;
    try {
      peer = this.#checkPeer(socket);
    } catch (error) {
      const failure = failureIn(error);
      if (failure === undefined) throw error;
      this.#options.refused?.(failure, remote);
      await refuse(socket, failure);
      return;
    }
    await this.#options.accept(new SocketTransport(socket, peer));
  }

  #checkPeer(socket: TLSSocket): PeerIdentity {
    const certificate: X509Certificate | undefined = socket.getPeerX509Certificate();
    if (certificate === undefined) throw new Failure('unauthenticated', 'the agent shows no certificate');
    const peer = verifiedIdentity(certificate, this.#authorities, Date.now());
    if (peer.role !== this.#options.role) {
      throw new Failure(
        'forbidden',
        `${peer.role} ${peer.id} of site ${peer.siteId}: only an agent may connect`,
      );
    }
    if (!socket.authorized) {
      throw new Failure(
        'certificate_invalid',
        `certificate of ${peer.role} ${peer.id}: not valid for a client`,
        {
          cause: socket.authorizationError,
        },
      );
    }
    return peer;
  }
}

/** Who is refused is nobody: the name stands in until the connection is gone. */
const NOBODY: PeerIdentity = { siteId: 'unknown', role: 'agent', id: 'unknown' };

async function refuse(socket: TLSSocket, failure: Failure): Promise<void> {
  await using transport = new SocketTransport(socket, NOBODY);
  const channel = new MessageChannel(transport, 'server', () => {});
  // The peer may be gone already; it is not to be talked to any more in either case.
  await channel.send(toFailureMessage(failure)).catch(() => {});
}

function authoritiesOf(identity: TlsIdentity): SiteAuthority[] {
  return identity.trust.map(({ siteId, caPem }) => ({ siteId, certificate: new X509Certificate(caPem) }));
}
