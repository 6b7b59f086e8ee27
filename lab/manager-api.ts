/** A site's public API over its manager's Unix socket, as root uses it. */
import { request } from 'node:http';
import { Failure, isFailureCode } from '#/lib/failure.ts';

const TIMEOUT_MS = 30_000;
const REPLY_BYTES_MAX = 64 * 1024 * 1024;

export class ManagerApi {
  readonly #socketPath: string;

  constructor(socketPath: string) {
    this.#socketPath = socketPath;
  }

  get<T>(path: string): Promise<T> {
    return this.#call('GET', path) as Promise<T>;
  }

  post<T>(path: string, body?: unknown): Promise<T> {
    return this.#call('POST', path, body) as Promise<T>;
  }

  delete<T>(path: string): Promise<T> {
    return this.#call('DELETE', path) as Promise<T>;
  }

  /** Whether there is a manager that answers. */
  async isHealthy(): Promise<boolean> {
    try {
      await this.get('/api/v1/health');
      return true;
    } catch (error) {
      if (error instanceof Failure) return false;
      throw error;
    }
  }

  /** A refusal of the API is thrown as the Failure that it names. */
  async #call(method: string, path: string, body?: unknown): Promise<unknown> {
    const text = body === undefined ? undefined : JSON.stringify(body);
    const headers =
      text === undefined
        ? {}
        : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) };
    const { status, reply } = await new Promise<{ status: number; reply: string }>((resolve, reject) => {
      const failed = (cause: Error): void => {
        reject(new Failure('unreachable', `${method} ${path} at ${this.#socketPath}`, { cause }));
      };
      const options = { socketPath: this.#socketPath, method, path, headers, timeout: TIMEOUT_MS };
      const call = request(options, (response) => {
        let received = '';
        response.setEncoding('utf8');
        response.on('data', (part: string) => {
          received += part;
          if (received.length > REPLY_BYTES_MAX) call.destroy(new Error('the reply is too long'));
        });
        response.on('error', failed);
        response.on('end', () => resolve({ status: response.statusCode ?? 0, reply: received }));
      });
      call.on('timeout', () => call.destroy(new Error(`no answer within ${TIMEOUT_MS} ms`)));
      call.on('error', failed);
      call.end(text);
    });
    const parsed: unknown = reply === '' ? undefined : JSON.parse(reply);
    if (status >= 200 && status < 300) return parsed;
    throw refusal(parsed, `${method} ${path}: status ${status}`);
  }
}

function refusal(body: unknown, otherwise: string): Failure {
  const { code, message, hint } = (body ?? {}) as { code?: unknown; message?: unknown; hint?: unknown };
  return new Failure(
    isFailureCode(code) ? code : 'protocol_corrupt',
    typeof message === 'string' ? message : otherwise,
    typeof hint === 'string' ? { hint } : {},
  );
}
