/**
 * JSON over HTTPS to a manager, whose certificate must name it a manager of the expected site. The host name is not
 * compared: a manager keeps its identity when its address changes.
 */
import { createHash, X509Certificate } from 'node:crypto';
import { type Agent, request as httpsRequest } from 'node:https';
import { connect, type SecureContext, type TLSSocket } from 'node:tls';
import { Failure, isFailureCode } from '#/lib/failure.ts';
import { secureContextOf } from '#/lib/secure-context.ts';
import { certificateIdentity, verifiedIdentity } from '#/lib/peer-identity.ts';
import { keptConnections } from './kept-connections.ts';

export type ManagerAddress = { host: string; port: number };
export type Credentials = { certificatePem: string; privateKeyPem: string };
export type CallOptions = {
  method: 'GET' | 'POST' | 'DELETE';
  path: string;
  body?: unknown;
  timeoutMs?: number;
  signal?: AbortSignal;
};
export type Target = {
  address: ManagerAddress;
  siteId: string;
  caPem: string;
  credentials?: Credentials;
};

const TIMEOUT_MS = 10_000;
/** Orders of 10,000 VMs are about 10 MB. */
const REPLY_BYTES_MAX = 64 * 1024 * 1024;

/**
 * One request. Resolves with the reply's JSON, undefined when the reply has no content. Throws what the manager
 * answered, or unreachable, timeout, certificate_invalid, protocol_corrupt. With credentials it may go out twice,
 * when a kept connection has ended meanwhile: all that programs ask of managers may be asked again.
 */
export async function call(target: Target, options: CallOptions): Promise<unknown> {
  const where = `${target.address.host}:${target.address.port}`;
  const what = `${options.method} ${options.path} at manager ${where}`;
  const timeout = AbortSignal.timeout(options.timeoutMs ?? TIMEOUT_MS);
  const signal = options.signal === undefined ? timeout : AbortSignal.any([options.signal, timeout]);
  try {
    return await exchange(target, options, signal);
  } catch (error) {
    if (error instanceof Failure) throw error;
    if (options.signal?.aborted === true) throw new Failure('cancelled', what, { cause: error });
    if (timeout.aborted) throw new Failure('timeout', what, { cause: error });
    throw new Failure('unreachable', what, {
      cause: error,
      hint: `Check that the manager runs and that ${where} can be reached from here.`,
    });
  }
}

async function exchange(target: Target, options: CallOptions, signal: AbortSignal): Promise<unknown> {
  const body = options.body === undefined ? undefined : Buffer.from(JSON.stringify(options.body));
  for (;;) {
    try {
      return await exchangeOnce(target, { ...options, body }, signal);
    } catch (error) {
      // A kept connection ends when the manager does, or tires of it. Another one, or a new one, will do.
      if (!(error instanceof StaleConnection)) throw error;
    }
  }
}

/** The manager hung up a connection that had served before, instead of answering on it. */
class StaleConnection extends Error {}

type Encoded = Omit<CallOptions, 'body'> & { body: Buffer | undefined };

function exchangeOnce(target: Target, options: Encoded, signal: AbortSignal): Promise<unknown> {
  const { body } = options;
  return new Promise((resolve, reject) => {
    const request = httpsRequest(
      {
        ...target.address,
        method: options.method,
        path: options.path,
        agent: agentOf(target),
        ...contextOf(target),
        servername: '',
        // A kept connection is asked for with the check that it was made with, or Node makes another one.
        ...(target.credentials === undefined ? { checkServerIdentity: identityCheck(target) } : {}),
        headers:
          body === undefined ? {} : { 'content-type': 'application/json', 'content-length': body.length },
        signal,
      },
      (response) => {
        const chunks: Buffer[] = [];
        let bytes = 0;
        response.on('data', (chunk: Buffer) => {
          bytes += chunk.length;
          if (bytes > REPLY_BYTES_MAX) request.destroy(new Error('the reply is too long'));
          else chunks.push(chunk);
        });
        response.on('error', reject);
        response.on('end', () => {
          try {
            resolve(decode(response.statusCode ?? 0, Buffer.concat(chunks).toString()));
          } catch (error) {
            reject(error as Error);
          }
        });
      },
    );
    request.on('error', (error) => {
      const isStale = request.reusedSocket && isHangUp(error) && !signal.aborted;
      reject(isStale ? new StaleConnection('the connection has ended', { cause: error }) : error);
    });
    request.end(body);
  });
}

function isHangUp(error: Error): boolean {
  return 'code' in error && (error.code === 'ECONNRESET' || error.code === 'EPIPE');
}

/** Who has no certificate calls once in a lifetime. */
function agentOf({ address, siteId, caPem, credentials }: Target): Agent | false {
  if (credentials === undefined) return false;
  const { certificatePem } = credentials;
  const identity = `${siteId} at ${address.host}:${address.port}\n${caPem}\n${certificatePem}`;
  return keptConnections(identity, { checkServerIdentity: identityCheck({ address, siteId, caPem }) });
}

/** For a connection of its own to the manager of the target. */
export function securityOf(target: Target) {
  return { ...contextOf(target), servername: '', checkServerIdentity: identityCheck(target) };
}

function contextOf({ caPem, credentials }: Target): { secureContext: SecureContext } {
  const own =
    credentials === undefined ? {} : { cert: credentials.certificatePem, key: credentials.privateKeyPem };
  return { secureContext: secureContextOf({ ca: caPem, ...own, minVersion: 'TLSv1.3' }) };
}

function identityCheck(target: Target): (host: string, certificate: { raw: Buffer }) => Error | undefined {
  return (_host, certificate) => checkManager(certificate.raw, target);
}

function checkManager(raw: Buffer, target: Target): Error | undefined {
  try {
    const certificate = new X509Certificate(raw);
    const authority = { siteId: target.siteId, certificate: new X509Certificate(target.caPem) };
    const { role } = verifiedIdentity(certificate, [authority], Date.now());
    if (role === 'manager') return undefined;
  } catch (error) {
    return error as Error;
  }
  return new Failure('certificate_invalid', `the server is not a manager of site ${target.siteId}`);
}

/** A reply's JSON, or the Failure it carries. Codes of a newer manager become protocol_unsupported. */
export function decode(status: number, text: string): unknown {
  let json: unknown;
  try {
    json = text === '' ? undefined : JSON.parse(text);
  } catch (error) {
    throw new Failure('protocol_corrupt', `the manager's reply with status ${status} is not JSON`, {
      cause: error,
    });
  }
  if (status < 400) return json;
  const problem = (typeof json === 'object' && json !== null ? json : {}) as Record<string, unknown>;
  const message =
    typeof problem['message'] === 'string'
      ? problem['message']
      : `the manager answered with status ${status}`;
  const code = isFailureCode(problem['code']) ? problem['code'] : 'protocol_unsupported';
  throw new Failure(code, message, typeof problem['hint'] === 'string' ? { hint: problem['hint'] } : {});
}

/**
 * The certificate authority of the manager at an address, taken only when its SHA-256 is `caSha256` and it issued the
 * manager's own certificate. Nothing but the handshake is sent.
 */
export async function fetchAuthority(
  address: ManagerAddress,
  caSha256: string,
  signal?: AbortSignal,
): Promise<{ siteId: string; caPem: string }> {
  const where = `${address.host}:${address.port}`;
  const socket = connect({ ...address, rejectUnauthorized: false, minVersion: 'TLSv1.3', servername: '' });
  const timeout = AbortSignal.timeout(TIMEOUT_MS);
  const either = signal === undefined ? timeout : AbortSignal.any([signal, timeout]);
  const abort = (): void => void socket.destroy(either.reason as Error);
  either.addEventListener('abort', abort, { once: true });
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once('secureConnect', resolve);
      socket.once('error', reject);
    });
    return pinned(socket, where, caSha256);
  } catch (error) {
    if (error instanceof Failure) throw error;
    throw new Failure('unreachable', `connect to manager ${where}`, {
      cause: error,
      hint: `Check that the manager runs and that ${where} can be reached from here.`,
    });
  } finally {
    either.removeEventListener('abort', abort);
    socket.destroy();
  }
}

function pinned(socket: TLSSocket, where: string, caSha256: string): { siteId: string; caPem: string } {
  const leaf = socket.getPeerCertificate(true);
  const raw = leaf.issuerCertificate?.raw;
  const refused = new Failure('certificate_invalid', `the manager at ${where} is not the one of this token`, {
    hint: 'Check the address, or make a new token at the manager of that address.',
  });
  if (raw === undefined || createHash('sha256').update(raw).digest('hex') !== caSha256) throw refused;
  const certificate = new X509Certificate(raw);
  const manager = new X509Certificate(leaf.raw);
  const { siteId } = certificateIdentity(manager);
  if (verifiedIdentity(manager, [{ siteId, certificate }], Date.now()).role !== 'manager') throw refused;
  return { siteId, caPem: certificate.toString() };
}
