/**
 * Connects to a replication server over TLS 1.3, both sides authenticated (docs/wire-protocol.md, section 1).
 *
 * Invariant: nothing is sent before the other end has proven to be the very server that was asked for, by a
 * certificate of its own site's authority. Addresses prove nothing and are not compared.
 */
import { X509Certificate } from 'node:crypto';
import { connect as connectTls, type ConnectionOptions, type TLSSocket } from 'node:tls';
import { Failure, failureIn } from '#/lib/failure.ts';
import { secureContextOf } from '#/lib/secure-context.ts';
import { checkValidity, identityUri, type PeerIdentity, verifiedIdentity } from '#/lib/peer-identity.ts';
import { CONNECT_WITHIN_MS } from './limits.ts';
import { ALPN, type Credentials, secureOptions, SEND_BUFFER_BYTES, SocketTransport } from './tls-socket.ts';
import type { Transport } from './transport.ts';

export type TlsConnectOptions = {
  host: string;
  port: number;
  /** Who must answer. */
  peer: PeerIdentity;
  /** The authority of the peer's site. */
  authorityPem: string;
  credentials: Credentials;
  connectWithinMs?: number;
  signal?: AbortSignal;
};

/** Throws unreachable, timeout, certificate_invalid, protocol_unsupported, or `cancelled` when the signal aborts. */
export async function connect(options: TlsConnectOptions): Promise<Transport> {
  const own = new X509Certificate(options.credentials.certificatePem);
  checkValidity(own, 'this program', Date.now());
  options.signal?.throwIfAborted();
  // Node takes `highWaterMark` here as it does for every socket; its types leave it out.
  const settings: ConnectionOptions & { highWaterMark: number } = {
    secureContext: secureContextOf(secureOptions(options.credentials, [options.authorityPem])),
    host: options.host,
    port: options.port,
    servername: '',
    ALPNProtocols: [ALPN],
    // Whom the certificate names is checked below, by rules that TLS does not know and with reasons people can use.
    rejectUnauthorized: false,
    checkServerIdentity: () => undefined,
    highWaterMark: SEND_BUFFER_BYTES,
  };
  const socket = connectTls(settings);
  try {
    await secured(socket, options);
    checkServer(socket, options);
    return new SocketTransport(socket, options.peer);
  } catch (error) {
    socket.destroy();
    throw explained(error, options);
  }
}

function secured(socket: TLSSocket, options: TlsConnectOptions): Promise<void> {
  const withinMs = options.connectWithinMs ?? CONNECT_WITHIN_MS;
  return new Promise((resolve, reject) => {
    const settle = (finish: () => void): void => {
      clearTimeout(timer);
      options.signal?.removeEventListener('abort', abort);
      finish();
    };
    const timer = setTimeout(
      () => settle(() => reject(new Failure('timeout', `no handshake within ${withinMs} ms`))),
      withinMs,
    );
    const abort = (): void => settle(() => reject(options.signal?.reason as Error));
    options.signal?.addEventListener('abort', abort, { once: true });
    socket.once('secureConnect', () => settle(resolve));
    // Stays for the life of the socket: an error after this one has nothing left to tell.
    socket.on('error', (error) => settle(() => reject(error)));
  });
}

function checkServer(socket: TLSSocket, options: TlsConnectOptions): void {
  const certificate = socket.getPeerX509Certificate();
  if (certificate === undefined) throw new Failure('certificate_invalid', 'the server shows no certificate');
  const authority = { siteId: options.peer.siteId, certificate: new X509Certificate(options.authorityPem) };
  const actual = identityUri(verifiedIdentity(certificate, [authority], Date.now()));
  const expected = identityUri(options.peer);
  if (actual !== expected) {
    throw new Failure('certificate_invalid', `certificate of ${actual}: expected ${expected}`, {
      hint: 'Another program answers at this address: compare it with the one its manager shows.',
    });
  }
  if (!socket.authorized) {
    throw new Failure('certificate_invalid', `certificate of ${actual}: not valid for a server`, {
      cause: socket.authorizationError,
    });
  }
  if (socket.alpnProtocol !== ALPN) {
    throw new Failure('protocol_unsupported', `the server does not speak ${ALPN}`);
  }
}

function explained(error: unknown, options: TlsConnectOptions): Failure {
  const what = `connect to ${options.peer.role} ${options.peer.id} at ${options.host}:${options.port}`;
  const failure = failureIn(error);
  if (failure !== undefined) {
    const hint = failure.hint === undefined ? {} : { hint: failure.hint };
    return new Failure(failure.code, what, { cause: error, ...hint });
  }
  if (options.signal?.aborted === true) return new Failure('cancelled', what, { cause: error });
  if (isAlert(error, 'NO_APPLICATION_PROTOCOL')) {
    return new Failure('protocol_unsupported', what, {
      cause: error,
      hint: 'Upgrade the older of the two ends.',
    });
  }
  return new Failure('unreachable', what, {
    cause: error,
    hint: `Check that the replication server runs and that port ${options.port} can be reached from here.`,
  });
}

function isAlert(error: unknown, name: string): boolean {
  return error instanceof Error && 'code' in error && String(error.code).includes(name);
}
