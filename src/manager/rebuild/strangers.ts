/**
 * Programs with a certificate of this site's authority that the database does not know, as they were turned away.
 * Nobody is let in by being here: an administrator says so.
 */
import type { MemberKind } from '#/control/join.ts';
import { MEMBERS_MAX } from '#/manager/limits.ts';

export type Stranger = {
  kind: MemberKind;
  id: string;
  certificateExpiresMs: number;
  seenMs: number;
  address: string;
};

export class Strangers {
  readonly #byId = new Map<string, Stranger>();

  /** Those that are not there any more are forgotten before new ones are not taken. */
  seen(stranger: Stranger): void {
    this.#byId.delete(stranger.id);
    const [oldest] = this.#byId.keys();
    if (this.#byId.size >= MEMBERS_MAX && oldest !== undefined) this.#byId.delete(oldest);
    this.#byId.set(stranger.id, stranger);
  }

  forget(id: string): void {
    this.#byId.delete(id);
  }

  list(): Stranger[] {
    return [...this.#byId.values()];
  }
}
