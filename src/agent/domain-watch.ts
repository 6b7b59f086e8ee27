/**
 * Events of the host's domains, handed to whoever watches one of them. Fed by the program's one subscription; when
 * that is lost, watchers find out by the next thing they ask, so events make us quick and are not needed to be right.
 */
import type { DomainEvent } from '#/libvirt/events.ts';

export class DomainWatch {
  readonly #listeners = new Map<string, Set<(event: DomainEvent) => void>>();

  /** Every event of the domain until the returned function is called. */
  watch(uuid: string, listener: (event: DomainEvent) => void): () => void {
    const listeners = this.#listeners.get(uuid) ?? new Set();
    this.#listeners.set(uuid, listeners);
    listeners.add(listener);
    return () => {
      listeners.delete(listener);
      if (listeners.size === 0 && this.#listeners.get(uuid) === listeners) this.#listeners.delete(uuid);
    };
  }

  deliver(event: DomainEvent): void {
    for (const listener of this.#listeners.get(event.domain.uuid) ?? []) listener(event);
  }
}
