/** One call of the API. A refusal becomes a `Refused`, which says what the manager said. */
import type { Api } from './generated/api.ts';
import type { Body, Call, Problem, Query, Reply } from './types.ts';

export class Refused extends Error {
  readonly problem: Problem;
  readonly status: number;

  constructor(status: number, problem: Problem) {
    super(problem.message);
    this.status = status;
    this.problem = problem;
  }
}

type Options<Name extends Call> = {
  params?: Record<string, string>;
  query?: Query<Name>;
  signal?: AbortSignal;
  /** Why, for the audit log. */
  reason?: string | undefined;
} & (undefined extends Api[Name]['body'] ? { body?: Body<Name> } : { body: Body<Name> });

/** `name` is the method and the path as the document has it; `params` fill its `{placeholders}`. Throws Refused. */
export async function call<Name extends Call>(name: Name, options: Options<Name>): Promise<Reply<Name>> {
  const response = await request(name, options);
  const text = await response.text();
  return (text === '' ? undefined : JSON.parse(text)) as Reply<Name>;
}

/** A file of the API. Throws Refused. */
export async function callBytes<Name extends Call>(name: Name, options: Options<Name>): Promise<Blob> {
  return (await request(name, options)).blob();
}

async function request<Name extends Call>(name: Name, options: Options<Name>): Promise<Response> {
  const space = name.indexOf(' ');
  const path = name
    .slice(space + 1)
    .replaceAll(/\{(\w+)\}/g, (_all, key: string) => encodeURIComponent(options.params?.[key] ?? ''));
  const response = await send(`${path}${queryText(options.query)}`, {
    method: name.slice(0, space),
    ...(options.body === undefined ? {} : { body: JSON.stringify(options.body) }),
    ...(options.signal === undefined ? {} : { signal: options.signal }),
    ...(options.reason === undefined || options.reason === ''
      ? {}
      : { headers: { 'antipode-reason': encodeURIComponent(options.reason) } }),
  });
  if (!response.ok) throw new Refused(response.status, await problemOf(response));
  return response;
}

/** As a call, for the stream, which is no JSON. Throws Refused with status 0 when nothing answers. */
export async function send(path: string, init: RequestInit): Promise<Response> {
  const headers: Record<string, string> = {
    ...(init.headers as Record<string, string> | undefined),
    // Says that this page asks, and no other site's.
    'antipode-request': '1',
    ...(init.body === undefined ? {} : { 'content-type': 'application/json' }),
  };
  try {
    return await fetch(path, { ...init, headers });
  } catch (error) {
    if (init.signal?.aborted === true) throw error;
    throw new Refused(0, {
      code: 'unreachable',
      message: 'The manager does not answer.',
      hint: 'The page goes on by itself as soon as it does.',
    });
  }
}

export async function problemOf(response: Response): Promise<Problem> {
  const text = await response.text();
  try {
    return JSON.parse(text) as Problem;
  } catch {
    return {
      code: 'bug',
      message: `The manager answered ${response.status}: ${text.slice(0, 200)}`,
      hint: null,
    };
  }
}

function queryText(query: Record<string, string | number | boolean | undefined> | undefined): string {
  const entries = Object.entries(query ?? {}).flatMap(([key, value]): [string, string][] =>
    value === undefined || value === '' ? [] : [[key, String(value)]],
  );
  return entries.length === 0 ? '' : `?${new URLSearchParams(entries).toString()}`;
}
