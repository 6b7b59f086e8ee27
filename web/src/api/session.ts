/** Who is at the page and what they may do. The session is a cookie that scripts cannot read. */
import { useQueryClient } from '@tanstack/react-query';
import { useEffect, useState } from 'react';
import { call, Refused } from './call.ts';
import type { Reply } from './types.ts';

export type Me = Reply<'GET /api/v1/me'>;
export type Permission = Me['permissions'][number];

type Session = { state: 'asking' } | { state: 'out' } | { state: 'in'; me: Me };

let tell: ((session: Session) => void) | undefined;
let current: Session = { state: 'asking' };

export function signedIn(me: Me): void {
  set({ state: 'in', me });
}

/** The session has ended, or nobody knows it any more. */
export function signedOut(): void {
  set({ state: 'out' });
}

function set(session: Session): void {
  current = session;
  tell?.(session);
}

/** Used once, around everything. */
export function useSession(): Session {
  const queries = useQueryClient();
  const [session, setSession] = useState(current);
  useEffect(() => {
    tell = (next) => {
      // What one person saw is nothing for the next one.
      if (next.state === 'out') queries.clear();
      setSession(next);
    };
    call('GET /api/v1/me', {}).then(signedIn, (error: unknown) => {
      if (error instanceof Refused && error.status === 0) return;
      signedOut();
    });
    return () => {
      tell = undefined;
    };
  }, [queries]);
  return session;
}

export function me(): Me | undefined {
  return current.state === 'in' ? current.me : undefined;
}

/** Whether the caller may do it to anything at all; the manager decides about each thing. */
export function may(permission: Permission): boolean {
  const who = me();
  if (who === undefined) return false;
  return (
    who.permissions.includes(permission) || who.on_groups.some((on) => on.permissions.includes(permission))
  );
}
