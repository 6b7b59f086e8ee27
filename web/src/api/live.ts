/**
 * The event stream of the manager, read for as long as the page is open. What it says changed is asked for again, if
 * it is on the screen; nothing is asked for on a timer.
 *
 * A stream that ends is opened again after the last event that was seen, so no event is missed.
 */
import type { QueryClient } from '@tanstack/react-query';
import { problemOf, Refused, send } from './call.ts';
import { readMessages } from './read-messages.ts';
import type { Event } from './types.ts';

/** What a query shows, and so what makes it worth another look: the first word of its key. */
export type Topic = 'jobs' | 'reports' | 'events' | 'site';

const RECONNECT_MIN_MS = 500;
const RECONNECT_MAX_MS = 10_000;

export type LiveState = 'connecting' | 'live' | 'away';

export class Live {
  readonly #queries: QueryClient;
  readonly #onState: (state: LiveState) => void;
  #lastId: number | undefined;
  /** Questions that are under way are not asked a second time meanwhile, but once after. */
  readonly #asking = new Map<Topic, 'once' | 'again'>();

  constructor(queries: QueryClient, onState: (state: LiveState) => void) {
    this.#queries = queries;
    this.#onState = onState;
  }

  /** Until the signal aborts or the manager no longer knows who this is, which it throws. */
  async run(signal: AbortSignal): Promise<void> {
    let waitMs = RECONNECT_MIN_MS;
    while (!signal.aborted) {
      try {
        await this.#read(signal, () => (waitMs = RECONNECT_MIN_MS));
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof Refused && [401, 403].includes(error.status)) throw error;
      }
      this.#onState('away');
      await new Promise((resolve) => setTimeout(resolve, waitMs));
      waitMs = Math.min(RECONNECT_MAX_MS, waitMs * 2);
    }
  }

  async #read(signal: AbortSignal, onOpen: () => void): Promise<void> {
    const after = this.#lastId === undefined ? '' : `?after=${this.#lastId}`;
    const response = await send(`/api/v1/events/stream${after}`, { method: 'GET', signal });
    if (!response.ok) throw new Refused(response.status, await problemOf(response));
    onOpen();
    this.#onState('live');
    for await (const { id, event, text } of readMessages(response.body!)) {
      if (id !== undefined) this.#lastId = Number(id);
      if (event === 'change') this.#ask((JSON.parse(text) as { kind: Topic }).kind);
      else if (event === 'event') this.#take(JSON.parse(text) as Event);
    }
  }

  #take(event: Event): void {
    this.#ask('events');
    // Events tell of what reports and jobs do not: pairings, protections, plans, members.
    if (!event.kind.startsWith('rpo.')) this.#ask('site');
  }

  #ask(topic: Topic): void {
    if (this.#asking.has(topic)) {
      this.#asking.set(topic, 'again');
      return;
    }
    this.#asking.set(topic, 'once');
    void this.#queries
      .invalidateQueries({ predicate: ({ meta }) => topicsOf(meta).includes(topic) })
      .finally(() => {
        const isAgain = this.#asking.get(topic) === 'again';
        this.#asking.delete(topic);
        if (isAgain) this.#ask(topic);
      });
  }
}

function topicsOf(meta: Record<string, unknown> | undefined): readonly Topic[] {
  return (meta?.['topics'] as readonly Topic[] | undefined) ?? [];
}
