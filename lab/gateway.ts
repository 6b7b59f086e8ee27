/**
 * Leads from a port of the machine to the manager inside a site.
 *
 * A socket belongs to the network namespace it was made in, whoever holds it. So `lab` makes the listening
 * socket on the machine's 127.0.0.1 and sends it to this program, which runs inside the site and connects
 * there. It ends with the site, and with it the way in.
 *
 *   node gateway.ts HOST PORT READY_FILE
 */
import { writeFileSync } from 'node:fs';
import { connect, type Server, type Socket } from 'node:net';

const CONNECTIONS_MAX = 256;

const [host, port, readyFile] = process.argv.slice(2);
if (host === undefined || port === undefined || readyFile === undefined) {
  throw new Error('gateway: arguments missing');
}

process.once('message', (_message, server) => {
  serve(server as Server);
  writeFileSync(readyFile, '');
});

function serve(server: Server): void {
  server.maxConnections = CONNECTIONS_MAX;
  server.on('connection', (near: Socket) => {
    const far = connect({ host: host!, port: Number(port) });
    near.pipe(far);
    far.pipe(near);
    // Either end's failure is the other's end; the browser says what it makes of it.
    near.on('error', () => far.destroy());
    far.on('error', () => near.destroy());
    near.on('close', () => far.destroy());
    far.on('close', () => near.destroy());
  });
}
