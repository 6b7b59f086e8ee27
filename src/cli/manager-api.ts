/** The API of one manager, as the commands use it. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Failure, failureIn } from '#/lib/failure.ts';
import { checkStatus, open, requestBytes, requestJson, type Target } from './http-json.ts';

export type StreamMessage = { kind: 'event'; data: unknown } | { kind: 'change' };

const RECONNECT_MS = 1000;
const MESSAGE_CHARACTERS_MAX = 64 * 1024;

export class ManagerApi {
  readonly #target: Target;
  readonly #headers: Record<string, string>;

  /** `reason`: why something is changed, for the audit log. */
  constructor(target: Target, reason?: string) {
    this.#target = target;
    this.#headers = reason === undefined ? {} : { 'antipode-reason': encodeURIComponent(reason) };
  }

  async get<Reply>(path: string, signal?: AbortSignal): Promise<Reply> {
    return (await requestJson(this.#target, { method: 'GET', path: `/api/v1${path}`, signal })) as Reply;
  }

  /** A file. */
  async bytes(path: string): Promise<Buffer> {
    return requestBytes(this.#target, { method: 'GET', path: `/api/v1${path}` });
  }

  async post<Reply>(path: string, body?: unknown): Promise<Reply> {
    const call = { method: 'POST', path: `/api/v1${path}`, body, headers: this.#headers } as const;
    return (await requestJson(this.#target, call)) as Reply;
  }

  async delete<Reply>(path: string): Promise<Reply> {
    const call = { method: 'DELETE', path: `/api/v1${path}`, headers: this.#headers } as const;
    return (await requestJson(this.#target, call)) as Reply;
  }

  /**
   * The live stream, for ever: a manager that goes away is waited for, and what happened meanwhile comes first. Begins
   * after the event `after`, or with what happens from now on. Throws when the first connection fails.
   */
  async *stream(after: number | undefined, signal: AbortSignal): AsyncGenerator<StreamMessage> {
    let lastId = after;
    let isFirst = true;
    while (!signal.aborted) {
      try {
        for await (const { id, event, data } of this.#messages(lastId, signal)) {
          isFirst = false;
          if (id !== undefined) lastId = id;
          if (event === 'event') yield { kind: 'event', data: JSON.parse(data) as unknown };
          else if (data.includes('"jobs"')) yield { kind: 'change' };
        }
      } catch (error) {
        if (signal.aborted) return;
        const failure = failureIn(error);
        if (isFirst || (failure !== undefined && failure.retry === 'never')) throw error;
      }
      await sleep(RECONNECT_MS, undefined, { signal }).catch(() => {});
    }
  }

  async *#messages(after: number | undefined, signal: AbortSignal) {
    const path = `/api/v1/events/stream${after === undefined ? '' : `?after=${after}`}`;
    const response = await open(this.#target, { method: 'GET', path, signal });
    await checkStatus(response);
    if (response.statusCode !== 200) {
      response.destroy();
      throw new Failure('unreachable', `the stream of events answered with status ${response.statusCode}`);
    }
    response.setEncoding('utf8');
    let text = '';
    for await (const chunk of response as AsyncIterable<string>) {
      text += chunk;
      for (let end = text.indexOf('\n\n'); end !== -1; end = text.indexOf('\n\n')) {
        const message = parseMessage(text.slice(0, end));
        text = text.slice(end + 2);
        if (message !== undefined) yield message;
      }
      if (text.length > MESSAGE_CHARACTERS_MAX) {
        throw new Failure('protocol_corrupt', 'a message of the stream of events does not end');
      }
    }
  }
}

function parseMessage(text: string): { id: number | undefined; event: string; data: string } | undefined {
  const fields = new Map<string, string>();
  for (const line of text.split('\n')) {
    const colon = line.indexOf(':');
    if (colon > 0) fields.set(line.slice(0, colon), line.slice(colon + 1).trimStart());
  }
  const event = fields.get('event');
  const id = fields.get('id');
  if (event === undefined) return undefined;
  return { id: id === undefined ? undefined : Number(id), event, data: fields.get('data') ?? '{}' };
}
