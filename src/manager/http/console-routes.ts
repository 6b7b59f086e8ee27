/** The screen of a VM, from its host's agent, through here, to a browser (docs/wire-protocol.md, "Consoles"). */
import { Type } from 'typebox';
import { WebSocketServer, type WebSocket } from 'ws';
import { closed, Name } from '#/api/common.ts';
import { ConsoleView } from '#/api/consoles.ts';
import { CONSOLE_PROTOCOL } from '#/control/console-task.ts';
import { Failure } from '#/lib/failure.ts';
import type { ConsolePerson } from '#/manager/consoles/consoles.ts';
import { relay } from '#/manager/consoles/relay.ts';
import { CONSOLE_IDLE_MS, CONSOLE_MESSAGE_BYTES_MAX, CONSOLE_PING_EVERY_MS } from '#/manager/limits.ts';
import { route, UpgradeAnswer, type Caller, type Route, type Taker } from './route.ts';

const ById = Type.Object({ id: Name }, closed);
const LIMITS = { idleMs: CONSOLE_IDLE_MS, pingEveryMs: CONSOLE_PING_EVERY_MS };

// Pictures are compressed already, and compressing what a guest chooses together with what it does not tells secrets.
const sockets = new WebSocketServer({
  noServer: true,
  clientTracking: false,
  maxPayload: CONSOLE_MESSAGE_BYTES_MAX,
  perMessageDeflate: false,
});

export const CONSOLE_ROUTES: readonly Route[] = [
  route({
    method: 'POST',
    path: '/api/v1/recoveries/:id/consoles',
    roles: ['person'],
    tag: 'recovery',
    summary:
      'Open the screen of the VM that a recovery brought up: a WebSocket of its id serves it then, once',
    params: ById,
    reply: ConsoleView,
    handle: ({ caller, params, remoteAddress, signal }, { consoles }) =>
      consoles.open(params.id, personOf(caller, remoteAddress), signal),
  }),
  route({
    method: 'GET',
    path: '/api/v1/consoles/:id',
    roles: ['person'],
    tag: 'recovery',
    summary: 'A WebSocket with the screen of a VM in binary messages (RFB, RFC 6143)',
    params: ById,
    upgrade: 'websocket',
    handle: async ({ caller, params, remoteAddress }, { consoles, stopping }) => {
      const join = consoles.take(params.id, personOf(caller, remoteAddress));
      return new UpgradeAnswer((request, { socket, head }, over) =>
        join(async (screen) => {
          const { promise: browser, resolve } = Promise.withResolvers<WebSocket | undefined>();
          const refusal = new AbortController();
          const ended = (): void => {
            // A handshake that is none is answered by the library, which calls nobody back.
            resolve(undefined);
            // A browser that has gone was not turned away.
            if (!socket.destroyed) refusal.abort();
          };
          over.addEventListener('abort', ended, { once: true });
          sockets.handleUpgrade(request, socket, head, resolve);
          const opened = await browser;
          return opened === undefined
            ? 'closed'
            : relay(screen, opened, LIMITS, { refused: refusal.signal, stopping });
        }),
      );
    },
  }),
  route({
    method: 'GET',
    path: '/control/v1/consoles/:id',
    roles: ['agent'],
    tag: 'control',
    summary: 'The screen of a VM that was ordered: leaves HTTP for the bytes of its display',
    params: ById,
    upgrade: CONSOLE_PROTOCOL,
    handle: async ({ caller, params }, { consoles }) => {
      if (caller.role !== 'agent') throw new Failure('forbidden', `${caller.role} has no screens`);
      const arrived = await consoles.arrive(params.id, caller.id);
      const take: Taker = async (_request, { socket, head }, gone) => {
        socket.write(
          `HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: ${CONSOLE_PROTOCOL}\r\n\r\n`,
        );
        if (head.length > 0) socket.unshift(head);
        await arrived(socket, gone);
      };
      return new UpgradeAnswer(take);
    },
  }),
];

function personOf(caller: Caller, address: string): ConsolePerson {
  if (caller.role !== 'person') throw new Failure('forbidden', `${caller.role} looks at no screens`);
  return { name: caller.name, by: caller.by, sessionId: caller.session?.id ?? null, address };
}
