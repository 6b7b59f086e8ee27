/**
 * What the audit log says of one request. Requests that only read leave no trace; of strangers only those who sign in
 * do, by the name that they claim, and not those who are turned away unheard because there were too many.
 */
import type { FastifyRequest } from 'fastify';
import { reasonIn, type Audit, type AuditEntry } from '#/manager/audit.ts';
import type { Caller, Route } from './route.ts';

/** Calls of strangers that make people of them. */
const SIGNING_IN = ['/api/v1/login', '/api/v1/first-administrator', '/api/v1/password-reset'];
/** Only what names the subject is recorded: bodies carry passwords and tokens. */
const NAMING = ['vm', 'plan', 'kind', 'purpose', 'name', 'site', 'group', 'host'];

export class AuditTrail {
  readonly #audit: Audit;
  readonly #request: FastifyRequest;
  readonly #who: { actor: string; by: string } | undefined;
  #begun: number | null = null;

  constructor(audit: Audit, route: Route, call: { caller: Caller; request: FastifyRequest }) {
    this.#audit = audit;
    this.#request = call.request;
    this.#who = whoIn(route, call);
  }

  /** Throws usage_invalid when the reason cannot be read: nothing is done for a reason that is not on record. */
  async begin(): Promise<void> {
    if (this.#who === undefined) return;
    const reason = reasonIn(this.#request.headers['antipode-reason']);
    if (this.#who.by !== 'password') this.#begun = await this.#audit.begin(this.#entry(this.#who, reason));
  }

  async end(outcome: string): Promise<void> {
    if (this.#who === undefined) return;
    if (this.#who.by === 'password' && outcome === 'limit_exceeded') return;
    let reason: string | null = null;
    try {
      reason = reasonIn(this.#request.headers['antipode-reason']);
    } catch {
      // It is what the request was refused for.
    }
    await this.#audit.end(this.#entry(this.#who, reason), outcome, this.#begun);
  }

  #entry(who: { actor: string; by: string }, reason: string | null): AuditEntry {
    const { body, method, raw, url } = this.#request;
    const [path = '', query = ''] = url.split('?');
    const named: Record<string, unknown> = {
      ...Object.fromEntries(new URLSearchParams(query)),
      ...(typeof body === 'object' && body !== null ? body : {}),
    };
    const subject = NAMING.flatMap((key) =>
      typeof named[key] === 'string' ? [`${key}=${named[key].slice(0, 255)}`] : [],
    );
    return {
      ...who,
      address: raw.socket.remoteAddress ?? 'unix',
      action: `${method} ${path.slice(0, 256)}`,
      subject: subject.join(' '),
      reason,
    };
  }
}

function whoIn(
  route: Route,
  { caller, request }: { caller: Caller; request: FastifyRequest },
): { actor: string; by: string } | undefined {
  if (route.method === 'GET') return undefined;
  if (caller.role === 'person') return { actor: caller.name, by: caller.by };
  if (!SIGNING_IN.includes(route.path)) return undefined;
  const { name } = (request.body ?? {}) as { name?: unknown };
  return { actor: typeof name === 'string' ? name.slice(0, 255) : '', by: 'password' };
}
