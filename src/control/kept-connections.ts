/**
 * Connections to managers, kept open between requests: a program reports every second, and a handshake costs more
 * than all the rest of a report.
 *
 * Whom a connection belongs to is checked when it is made, so requests share one only when they expect the same
 * manager by the same authority and show the same certificate, and none is used for longer than AGE_MAX_MS. TLS
 * sessions are not resumed: a resumed one would not be checked again.
 */
import { Agent, type AgentOptions } from 'node:https';

/** A manager whose certificate has ended meanwhile is noticed within this time. */
const AGE_MAX_MS = 600_000;
/** One for the orders that are waited for, one for reports. */
const IDLE_MAX = 2;
/** A program has one manager, a manager a few peers; certificates are renewed seldom. */
const AGENTS_MAX = 64;

type Kept = { agent: Agent; sinceMs: number };

const kept = new Map<string, Kept>();

/** `identity` says whom the connections are with and who is calling: equal text, same connections, same options. */
export function keptConnections(
  identity: string,
  options: AgentOptions = {},
  nowMs: number = performance.now(),
): Agent {
  const known = kept.get(identity);
  if (known !== undefined && nowMs - known.sinceMs < AGE_MAX_MS) return known.agent;
  const agent = new Agent({ ...options, keepAlive: true, maxFreeSockets: IDLE_MAX, maxCachedSessions: 0 });
  kept.delete(identity);
  kept.set(identity, { agent, sinceMs: nowMs });
  if (known !== undefined) retire(known.agent);
  for (const [oldest, { agent: unused }] of kept) {
    if (kept.size <= AGENTS_MAX) break;
    kept.delete(oldest);
    retire(unused);
  }
  return agent;
}

/** What is under way on the others goes on; the manager closes them when they have been idle for a while. */
function retire(agent: Agent): void {
  for (const sockets of Object.values(agent.freeSockets))
    for (const socket of sockets ?? []) socket.destroy();
}
