/**
 * Whether a person may make a call: first by the roles alone, before the body is read, then by what was sent.
 *
 * Invariant: a token changes nothing about people, sessions and tokens. Whoever stole one could otherwise make himself
 * another way in that outlives its end.
 */
import type { Grant, Permission } from '#/api/access.ts';
import { Failure } from '#/lib/failure.ts';
import type { Manager } from '#/manager/manager.ts';
import { ruleOf } from './endpoints.ts';
import { groupsWith, holds } from './grants.ts';
import type { Sent } from './rule.ts';
import { scopeOf } from './scope.ts';

type Call = { method: string; path: string };
export type Who = { name: string; by: 'socket' | 'token' | 'session'; grants: readonly Grant[] };

/** Throws forbidden. */
export function authorizeRole(call: Call, who: Who): void {
  const { needs, of } = ruleOf(call);
  if (needs === undefined) return;
  const isAny = of !== undefined || needs.includes('site.view');
  const may = needs.some(
    (one) => holds(who.grants, one) || (isAny && groupsWith(who.grants, one).length > 0),
  );
  if (!may) throw refused(call, who, needs);
  if (who.by === 'token' && call.method !== 'GET' && needs.includes('access.manage')) {
    throw new Failure('forbidden', 'a token changes no user, session or token', {
      hint: 'Sign in, or do it as root on the manager itself.',
    });
  }
}

/** Of calls whose needs depend on what was sent. Throws forbidden, and what finding its subject throws. */
export async function authorizeSubject(call: Call, who: Who, sent: Sent, manager: Manager): Promise<void> {
  const { needs, of } = ruleOf(call);
  if (needs === undefined || of === undefined) return;
  if (needs.every((one) => holds(who.grants, one))) return;
  const demand = await of(sent, manager);
  if (holds(who.grants, demand.permission)) return;
  const scope = await scopeOf(who.grants, demand.permission, manager);
  if (scope.covers(demand.on)) return;
  throw refused(call, who, [demand.permission]);
}

function refused(call: Call, who: Who, needs: readonly Permission[]): Failure {
  const what = needs.join(' or ');
  return new Failure('forbidden', `${who.name} may not ${call.method} ${call.path}: it needs ${what}`, {
    hint: 'An administrator gives roles, on everything or on a protection group: antipode user role NAME',
  });
}
