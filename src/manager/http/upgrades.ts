/**
 * Requests that ask to leave HTTP: they go through the same routes, with the same checks of who may, as all others, and
 * are refused by the same answers.
 */
import type { FastifyInstance } from 'fastify';
import { ServerResponse, type IncomingMessage, type Server } from 'node:http';
import type { Server as HttpsServer } from 'node:https';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { CONSOLE_PROTOCOL } from '#/control/console-task.ts';
import { Failure } from '#/lib/failure.ts';
import type { Upgrade } from './route.ts';

type Connection = { socket: Duplex; head: Buffer };

const asked = new WeakMap<IncomingMessage, Connection>();
const KNOWN: readonly string[] = ['websocket', CONSOLE_PROTOCOL] satisfies Upgrade[];

/** For the options of a server: a client that offers anything else, such as HTTP/2, is answered as if it had not. */
export function shouldUpgradeCallback({ headers }: IncomingMessage): boolean {
  return KNOWN.includes(headers.upgrade?.toLowerCase() ?? '');
}

export function routeUpgrades(application: FastifyInstance, server: Server | HttpsServer): void {
  server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    asked.set(request, { socket, head });
    // Node's parser has let go of the connection: an error on it is nobody's from here on, and must end nothing else.
    socket.on('error', () => socket.destroy());
    const response = new ServerResponse(request);
    response.assignSocket(socket as Socket);
    // It is a refusal that ends here, and nothing reads further requests.
    response.shouldKeepAlive = false;
    response.once('finish', () => socket.end());
    application.routing(request, response);
  });
}

/** Throws usage_invalid. */
export function requireUpgrade(to: Upgrade, request: IncomingMessage): void {
  if (asked.has(request) && request.headers.upgrade?.toLowerCase() === to) return;
  throw new Failure('usage_invalid', `${request.url?.split('?')[0] ?? ''} is an address for ${to} only`);
}

/** The connection, from which the response is taken off. `gone` aborts when it closes. */
export function leaveHttp(
  request: IncomingMessage,
  response: ServerResponse,
  gone: AbortController,
): Connection {
  const connection = asked.get(request);
  if (connection === undefined) throw new Failure('usage_invalid', 'the request asked for no upgrade');
  asked.delete(request);
  const { socket } = connection;
  response.detachSocket(socket as Socket);
  if (socket.destroyed) gone.abort();
  socket.once('close', () => gone.abort());
  return connection;
}
