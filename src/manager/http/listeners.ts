/** The two ways into the manager: HTTPS for everybody, a Unix socket that only root may connect to. */
import type { FastifyInstance } from 'fastify';
import { chmod, unlink } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { createServer as createHttpsServer, type Server as HttpsServer } from 'node:https';
import { connect } from 'node:net';
import { Failure } from '#/lib/failure.ts';
import type { ManagerKeys } from '#/manager/peers.ts';
import type { UnixSockets } from './server.ts';
import { routeUpgrades, shouldUpgradeCallback } from './upgrades.ts';

/** Time for the head of a request; how long an idle connection is kept; most connections at the same time. */
const HEADERS_TIMEOUT_MS = 10_000;
const REQUEST_TIMEOUT_MS = 60_000;
const IDLE_TIMEOUT_MS = 60_000;
const CONNECTIONS_MAX = 4000;

const bounds = {
  headersTimeout: HEADERS_TIMEOUT_MS,
  requestTimeout: REQUEST_TIMEOUT_MS,
  keepAliveTimeout: IDLE_TIMEOUT_MS,
  shouldUpgradeCallback,
};

export async function listenHttps(
  application: FastifyInstance,
  options: { host: string; port: number; keys: ManagerKeys; caPem: string },
): Promise<HttpsServer> {
  const server = createHttpsServer(
    { ...secureOptions(options.keys, options.caPem), ...bounds },
    (request, response) => application.routing(request, response),
  );
  server.maxConnections = CONNECTIONS_MAX;
  routeUpgrades(application, server);
  await listening(server, { host: options.host, port: options.port }, `${options.host}:${options.port}`);
  return server;
}

/**
 * The authority goes along in the chain, so that whoever holds a token can compare it. Any client certificate is let
 * through the handshake, for authenticate.ts to judge with a reason that the caller can read.
 */
export function secureOptions(keys: ManagerKeys, caPem: string) {
  return {
    key: keys.privateKeyPem,
    cert: `${keys.certificatePem}\n${caPem}`,
    minVersion: 'TLSv1.3' as const,
    requestCert: true,
    rejectUnauthorized: false,
  };
}

export async function listenUnix(
  application: FastifyInstance,
  path: string,
  unixSockets: UnixSockets,
): Promise<Server> {
  await clearSocket(path);
  const server = createServer(bounds, (request, response) => application.routing(request, response));
  server.on('connection', (socket) => unixSockets.add(socket));
  routeUpgrades(application, server);
  // Between listen and chmod the file must not be open to all: whoever connects is an administrator.
  const mask = process.umask(0o177);
  try {
    await listening(server, { path }, path);
  } finally {
    process.umask(mask);
  }
  await chmod(path, 0o600);
  return server;
}

/** Removes the socket of a manager that died; refuses to take over from one that lives. */
async function clearSocket(path: string): Promise<void> {
  const isAlive = await new Promise<boolean>((resolve) => {
    const probe = connect(path);
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('error', () => resolve(false));
  });
  if (isAlive) {
    throw new Failure('already_exists', `a manager already listens on ${path}`, {
      hint: 'Stop it first, or give this one another socket_path.',
    });
  }
  await unlink(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
  });
}

function listening(
  server: Server | HttpsServer,
  options: { path: string } | { host: string; port: number },
  where: string,
): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (cause) => {
      reject(
        new Failure('config_invalid', `listen on ${where}`, {
          cause,
          hint: 'Another program may have the address, or the directory of the socket does not exist.',
        }),
      );
    });
    server.listen(options, () => {
      server.removeAllListeners('error');
      resolve();
    });
  });
}
