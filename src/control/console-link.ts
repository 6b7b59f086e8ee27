/**
 * The agent's end of a console: an HTTP request to the manager, over mutual TLS, that leaves HTTP and goes on as the
 * bytes of a VM's display (docs/wire-protocol.md, "Consoles").
 */
import type { ClientRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { Failure } from '#/lib/failure.ts';
import { CONSOLE_PROTOCOL, type ConsoleTask } from './console-task.ts';
import { decode, securityOf, type Target } from './https-client.ts';

const TIMEOUT_MS = 10_000;
const REFUSAL_BYTES_MAX = 16_384;

/** Throws what the manager answered, or unreachable, timeout, cancelled. What came with the answer is read first. */
export async function openConsoleLink(
  target: Target,
  task: Pick<ConsoleTask, 'id'>,
  signal: AbortSignal,
): Promise<Duplex> {
  const { host, port } = target.address;
  const what = `bring console ${task.id} to manager ${host}:${port}`;
  const timeout = AbortSignal.timeout(TIMEOUT_MS);
  const request = httpsRequest({
    host,
    port,
    path: `/control/v1/consoles/${task.id}`,
    // Neither kept nor shared: it is of no more use to HTTP.
    agent: false,
    ...securityOf(target),
    headers: { connection: 'Upgrade', upgrade: CONSOLE_PROTOCOL },
  });
  const either = AbortSignal.any([signal, timeout]);
  const abort = (): void => void request.destroy();
  either.addEventListener('abort', abort, { once: true });
  try {
    return await upgraded(request);
  } catch (error) {
    if (error instanceof Failure) throw error;
    if (signal.aborted) throw new Failure('cancelled', what, { cause: error });
    if (timeout.aborted) throw new Failure('timeout', what, { cause: error });
    throw new Failure('unreachable', what, { cause: error });
  } finally {
    either.removeEventListener('abort', abort);
  }
}

function upgraded(request: ClientRequest): Promise<Duplex> {
  return new Promise((resolve, reject) => {
    request.once('error', reject);
    request.once('upgrade', (_response, socket: Socket, head: Buffer) => {
      if (head.length > 0) socket.unshift(head);
      socket.setTimeout(0);
      socket.setNoDelay(true);
      socket.setKeepAlive(true, TIMEOUT_MS);
      resolve(socket);
    });
    request.once('response', (response) => {
      const chunks: Buffer[] = [];
      let bytes = 0;
      response.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes > REFUSAL_BYTES_MAX) request.destroy(new Error('the reply is too long'));
        else chunks.push(chunk);
      });
      response.once('error', reject);
      response.once('end', () => {
        try {
          decode(response.statusCode ?? 0, Buffer.concat(chunks).toString());
          throw new Failure('protocol_unsupported', 'the manager knows no consoles', {
            hint: 'Run the same version of Antipode at the manager and here.',
          });
        } catch (error) {
          reject(error as Error);
        }
      });
    });
    request.end();
  });
}
