/**
 * A route of the manager: its schema, who may call it, and what it does. All routes are in one table (routes.ts), from
 * which the server, the OpenAPI document and the test of every route against every role are made.
 */
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import type { Static, TSchema } from 'typebox';
import type { CONSOLE_PROTOCOL } from '#/control/console-task.ts';
import type { Role as ProgramRole } from '#/lib/peer-identity.ts';
import type { Grant } from '#/api/access.ts';
import type { Manager } from '#/manager/manager.ts';
import type { SessionRow } from '#/manager/store/session-store.ts';

/**
 * Who may call a route. `anonymous` means everybody, whatever else they are; which `person` may, is told by the table
 * in access/endpoints.ts.
 */
export type CallerRole = 'anonymous' | 'person' | 'agent' | 'replication-server' | 'peer-manager';

export type Caller =
  | { role: 'anonymous' }
  | Person
  | { role: 'agent' | 'replication-server'; id: string }
  | { role: 'peer-manager'; siteId: string; id: string };

/** `by`: root on the Unix socket, a bearer token, or somebody who has signed in. */
export type Person = {
  role: 'person';
  name: string;
  by: 'socket' | 'token' | 'session';
  grants: readonly Grant[];
  /** Of `session`. */
  session?: SessionRow;
};

export type ProgramCaller = Extract<Caller, { role: Exclude<ProgramRole, 'manager'> }>;

export type Input<Params, Query, Body> = {
  params: Params;
  query: Query;
  body: Body;
  caller: Caller;
  remoteAddress: string;
  headers: IncomingHttpHeaders;
  /** Of the address, without the query. */
  path: string;
  /** The browser or program, as it calls itself. */
  userAgent: string;
  /** Of a stream that is resumed. */
  lastEventId: number | undefined;
  /** Aborts when the caller goes away. */
  signal: AbortSignal;
};

/** What a handler answers besides 200 with a body. */
export class Answer {
  readonly status: number;
  readonly body: unknown;
  readonly type: string;
  readonly headers: Readonly<Record<string, string | string[]>>;

  constructor(
    status: number,
    body?: unknown,
    type = 'application/json; charset=utf-8',
    headers: Readonly<Record<string, string | string[]>> = {},
  ) {
    this.status = status;
    this.body = body;
    this.type = type;
    this.headers = headers;
  }
}

/** Writes to the connection by itself, for as long as it likes: event streams. */
export type Streamer = (output: import('node:http').ServerResponse, signal: AbortSignal) => Promise<void>;
export class StreamAnswer {
  readonly run: Streamer;

  constructor(run: Streamer) {
    this.run = run;
  }
}

/** What a connection goes on as, once it has left HTTP (RFC 9110, section 7.8). */
export type Upgrade = 'websocket' | typeof CONSOLE_PROTOCOL;

/** Takes the connection over, for as long as it likes; `head` came with the request. It closes what it took. */
export type Taker = (
  request: IncomingMessage,
  connection: { socket: Duplex; head: Buffer },
  signal: AbortSignal,
) => Promise<void>;
export class UpgradeAnswer {
  readonly run: Taker;

  constructor(run: Taker) {
    this.run = run;
  }
}

export type Route = {
  method: 'GET' | 'POST' | 'DELETE';
  path: string;
  roles: readonly CallerRole[];
  tag: string;
  summary: string;
  params?: TSchema;
  query?: TSchema;
  body?: TSchema;
  reply?: TSchema;
  bodyBytesMax?: number;
  /** No call of the API: left out of its document. */
  isHidden?: boolean;
  /** It answers with an UpgradeAnswer, and only to requests for that. */
  upgrade?: Upgrade;
  /** It changes nothing that a rebuild of the database could not find again: allowed before that. */
  duringRebuild?: boolean;
  handle(input: Input<unknown, unknown, unknown>, manager: Manager): Promise<unknown>;
};

/** Types the handler's input by the route's schemas. */
export function route<
  Params extends TSchema = TSchema,
  Query extends TSchema = TSchema,
  Body extends TSchema = TSchema,
>(
  definition: Omit<Route, 'handle' | 'params' | 'query' | 'body'> & {
    params?: Params;
    query?: Query;
    body?: Body;
    handle(input: Input<Static<Params>, Static<Query>, Static<Body>>, manager: Manager): Promise<unknown>;
  },
): Route {
  return definition as unknown as Route;
}
