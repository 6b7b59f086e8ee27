/** One request to a manager: over its Unix socket, or over HTTPS with a bearer token. */
import type { ClientRequest, IncomingMessage } from 'node:http';
import { Failure, isFailureCode } from '#/lib/failure.ts';

/**
 * Both taken when they are used, and not imported: an import reads everything that node:http exports, and so loads a
 * library for WebSocket that takes longer than a whole request does.
 */
const httpRequest = () => process.getBuiltinModule('node:http').request;
const httpsRequest = () => process.getBuiltinModule('node:https').request;

export type Target =
  | { kind: 'unix'; socketPath: string }
  | { kind: 'https'; url: URL; token: string; caPem: string | undefined };
export type Call = {
  method: 'GET' | 'POST' | 'DELETE';
  path: string;
  body?: unknown;
  signal?: AbortSignal | undefined;
  headers?: Record<string, string>;
};

const TIMEOUT_MS = 60_000;
const REPLY_BYTES_MAX = 256 * 1024 * 1024;

/** The reply's JSON. Throws the Failure that the manager answered, or unreachable, timeout, cancelled. */
export async function requestJson(target: Target, call: Call): Promise<unknown> {
  const timeout = AbortSignal.timeout(TIMEOUT_MS);
  const signal = call.signal === undefined ? timeout : AbortSignal.any([call.signal, timeout]);
  const response = await open(target, { ...call, signal });
  try {
    return decode(response.statusCode ?? 0, await textOf(response));
  } catch (error) {
    throw wrapped(error, target, { ...call, signal });
  }
}

/** The reply as it comes, for files. Throws as `requestJson` does. */
export async function requestBytes(target: Target, call: Call): Promise<Buffer> {
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  const response = await open(target, { ...call, signal });
  try {
    const bytes = await bytesOf(response);
    if ((response.statusCode ?? 0) >= 400) decode(response.statusCode ?? 0, bytes.toString());
    return bytes;
  } catch (error) {
    throw wrapped(error, target, { ...call, signal });
  }
}

/** The response as soon as its head is there: for streams. */
export async function open(target: Target, call: Call): Promise<IncomingMessage> {
  const body = call.body === undefined ? undefined : Buffer.from(JSON.stringify(call.body));
  try {
    return await new Promise((resolve, reject) => {
      const request = start(target, call, body);
      request.once('response', resolve);
      request.once('error', reject);
      request.end(body);
    });
  } catch (error) {
    throw wrapped(error, target, call);
  }
}

/** Of a response that `open` gave: throws what the manager answered, if it refused. */
export async function checkStatus(response: IncomingMessage): Promise<void> {
  const status = response.statusCode ?? 0;
  if (status >= 400) decode(status, await textOf(response));
}

function start(target: Target, call: Call, body: Buffer | undefined): ClientRequest {
  const headers = {
    ...call.headers,
    ...(body === undefined
      ? {}
      : { 'content-type': 'application/json', 'content-length': String(body.length) }),
  };
  const options = {
    method: call.method,
    path: call.path,
    agent: false as const,
    ...(call.signal === undefined ? {} : { signal: call.signal }),
  };
  if (target.kind === 'unix') return httpRequest()({ ...options, socketPath: target.socketPath, headers });
  return httpsRequest()({
    ...options,
    host: target.url.hostname.replace(/^\[(.*)\]$/, '$1'),
    port: target.url.port === '' ? 443 : Number(target.url.port),
    ...(target.caPem === undefined ? {} : { ca: target.caPem }),
    headers: { ...headers, authorization: `Bearer ${target.token}` },
  });
}

async function textOf(response: IncomingMessage): Promise<string> {
  return (await bytesOf(response)).toString();
}

async function bytesOf(response: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > REPLY_BYTES_MAX)
      throw new Failure('protocol_corrupt', 'the reply of the manager is too long');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function decode(status: number, text: string): unknown {
  let json: unknown;
  try {
    json = text === '' ? undefined : JSON.parse(text);
  } catch (error) {
    throw new Failure('protocol_corrupt', `the reply with status ${status} is not JSON`, { cause: error });
  }
  if (status < 400) return json;
  const problem = (typeof json === 'object' && json !== null ? json : {}) as Record<string, unknown>;
  const { code, hint, message } = problem;
  throw new Failure(
    isFailureCode(code) ? code : 'protocol_unsupported',
    typeof message === 'string' ? message : `the manager answered with status ${status}`,
    typeof hint === 'string' ? { hint } : {},
  );
}

function wrapped(error: unknown, target: Target, call: Call): Failure {
  if (error instanceof Failure) return error;
  const where = target.kind === 'unix' ? target.socketPath : target.url.origin;
  const what = `reach the manager at ${where}`;
  if (call.signal?.aborted === true) {
    const isTimeout = (call.signal.reason as Error | undefined)?.name === 'TimeoutError';
    return new Failure(isTimeout ? 'timeout' : 'cancelled', what, { cause: error });
  }
  const { code } = error as NodeJS.ErrnoException;
  if (code === 'EACCES') {
    return new Failure('forbidden', what, {
      cause: error,
      hint: 'The socket is for root. Run this as root, or use --manager https://... with --token-file.',
    });
  }
  return new Failure('unreachable', what, {
    cause: error,
    hint: 'Check that the manager runs, and name another with --manager or --site.',
  });
}
