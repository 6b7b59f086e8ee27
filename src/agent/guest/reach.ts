/** Tries once whether a port or a page of a guest answers, from the network that this process is in. */
import { request } from 'node:http';
import { connect } from 'node:net';

export type Target = {
  address: string;
  port: number;
  /** Absent: a connection is enough. Without a status any from 200 to 299 will do. */
  http?: { path: string; status?: number };
};

/** `said` is for people: what answered, or why nothing did. */
export type Reached = { isWell: boolean; said: string };

const ATTEMPT_MS = 5000;

/** Never rejects. */
export function reach(target: Target, signal: AbortSignal): Promise<Reached> {
  const until = AbortSignal.any([signal, AbortSignal.timeout(ATTEMPT_MS)]);
  return target.http === undefined ? reachPort(target, until) : reachPage(target, target.http, until);
}

function reachPort({ address, port }: Target, signal: AbortSignal): Promise<Reached> {
  return new Promise((resolve) => {
    const socket = connect({ host: address, port });
    const end = (isWell: boolean, said: string): void => {
      socket.destroy();
      resolve({ isWell, said });
    };
    const stop = (): void => end(false, `port ${port} of ${address} does not answer`);
    signal.addEventListener('abort', stop, { once: true });
    socket.once('connect', () => end(true, `port ${port} of ${address} answers`));
    socket.on('error', (error) => end(false, error.message));
    socket.once('close', () => signal.removeEventListener('abort', stop));
  });
}

function reachPage(
  { address, port }: Target,
  { path, status }: { path: string; status?: number },
  signal: AbortSignal,
): Promise<Reached> {
  const host = address.includes(':') ? `[${address}]` : address;
  const page = `http://${host}:${port}${path}`;
  return new Promise((resolve) => {
    const asked = request({ host: address, port, path, method: 'GET', agent: false, signal });
    asked.once('response', (response) => {
      const answered = response.statusCode ?? 0;
      const isWell = status === undefined ? answered >= 200 && answered < 300 : answered === status;
      // What the page says is nobody's business here, and may be without end.
      response.destroy();
      resolve({ isWell, said: `${page} answers with status ${answered}` });
    });
    asked.on('error', (error) => resolve({ isWell: false, said: `${page}: ${error.message}` }));
    asked.end();
  });
}
