/**
 * Which message may follow which (docs/wire-protocol.md, section 5): one table for both ends.
 *
 * Invariant: the two ends of a session walk the same path, because every change of state is a request of the client
 * or the server's answer to it, and at most one request waits for its answer. Pure.
 */
import type { MessageKind } from './message-codec.ts';

export type End = 'client' | 'server';
export type SessionState =
  | 'new'
  | 'opening'
  | 'idle'
  | 'fetching'
  | 'beginning'
  | 'point'
  | 'offering'
  | 'attaching'
  | 'committing'
  | 'aborting'
  | 'closing'
  | 'closed'
  | 'ended';

type Row = {
  client?: Partial<Record<MessageKind, SessionState>>;
  server?: Partial<Record<MessageKind, SessionState>>;
};

/** For each state: what either end may send in it, and the state after that. */
export const SESSION_TABLE: { readonly [S in SessionState]: Row } = {
  new: { client: { open: 'opening' } },
  opening: { server: { opened: 'idle' } },
  idle: { client: { digests_get: 'fetching', begin: 'beginning', close: 'closing' } },
  fetching: { server: { digests: 'idle' } },
  beginning: { server: { begun: 'point' } },
  point: {
    client: {
      segment: 'point',
      attachments_offer: 'offering',
      attachment: 'attaching',
      commit: 'committing',
      abort: 'aborting',
    },
    server: { credit: 'point' },
  },
  offering: { server: { attachments_wanted: 'point', credit: 'offering' } },
  attaching: { server: { attachment_taken: 'point', credit: 'attaching' } },
  committing: { server: { acknowledged: 'idle', credit: 'committing' } },
  aborting: { server: { aborted: 'idle', credit: 'aborting' } },
  closing: { server: { closed: 'closed' } },
  closed: { client: { open: 'opening' } },
  ended: {},
};

/** The state after `sender` has sent a message of this kind in `state`; undefined when it may not. */
export function nextState(state: SessionState, sender: End, kind: MessageKind): SessionState | undefined {
  if (state === 'ended') return undefined;
  if (kind === 'failure') return 'ended';
  if (kind === 'alive') return state === 'new' ? undefined : state;
  return SESSION_TABLE[state][sender]?.[kind];
}
