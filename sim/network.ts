/**
 * The network between the sites: connections that are byte streams, over links that are slow, late, cut in one
 * direction or both, and connections that die at any byte, seen by one end or by both.
 *
 * Invariant: within a connection bytes arrive in order and at most once; everything else may happen.
 */
import { Failure } from '#/lib/failure.ts';
import { chance, integerBelow } from '#/lib/random.ts';
import type { Random } from '#/lib/random.ts';
import type { PeerIdentity } from '#/wire/transport.ts';
import { integerFrom, pick, waitMs } from './chance.ts';
import type { Fence } from './fence.ts';
import { SimTransport } from './sim-transport.ts';
import type { Timeline } from './timeline.ts';

export type Direction = 'to-server' | 'to-agent';

export type LinkSpeed = { latencyMs: number; bytesPerMs: number };

/** How the link behaves at the moment. */
export type LinkConditions = LinkSpeed & {
  blocked: Set<Direction>;
  /** Chance that a piece arrives with one bit turned around. */
  flipRate: number;
};

/** What a site listens with: a new connection's end, and the life of the program that listens. */
export type Listener = { accept: (transport: SimTransport) => void; fence: Fence };

export class Network {
  /** The link as it is while nothing is wrong with it. */
  readonly calm: Readonly<LinkSpeed>;
  readonly conditions: LinkConditions;
  listener: Listener | undefined;
  #connections = new Set<Connection>();
  #opened = 0;
  readonly timeline: Timeline;
  readonly random: Random;

  constructor(timeline: Timeline, random: Random) {
    this.timeline = timeline;
    this.random = random;
    this.calm = { latencyMs: pick(random, [1, 1, 20]), bytesPerMs: pick(random, [50_000, 50_000, 1_000]) };
    this.conditions = { ...this.calm, blocked: new Set(), flipRate: 0 };
  }

  /** Connections of which an end is still open. */
  get connections(): readonly Connection[] {
    return [...this.#connections];
  }

  /** Connects the agent's site to the server's. Throws unreachable. */
  connect(fence: Fence, agent: PeerIdentity, server: PeerIdentity): Promise<SimTransport> {
    return fence.guard(this.#connect(fence, agent, server));
  }

  async #connect(fence: Fence, agent: PeerIdentity, server: PeerIdentity): Promise<SimTransport> {
    await this.timeline.sleep(2 * this.conditions.latencyMs + waitMs(this.random, 1));
    if (this.conditions.blocked.size > 0) {
      await this.timeline.sleep(integerFrom(this.random, 1000, 5000));
      throw new Failure('unreachable', 'simulated network: no answer');
    }
    const { listener } = this;
    if (!fence.alive || !listener?.fence.alive) {
      throw new Failure('unreachable', 'simulated network: connection refused');
    }
    const connection = new Connection(this, this.#opened++, { agent, server });
    this.#connections.add(connection);
    fence.onKill(() => connection.endDies(connection.agentEnd));
    listener.fence.onKill(() => connection.endDies(connection.serverEnd));
    listener.accept(connection.serverEnd);
    return connection.agentEnd;
  }

  forget(connection: Connection): void {
    this.#connections.delete(connection);
  }

  /** The link is as it should be again: what was stalled goes on, or is gone because somebody gave up meanwhile. */
  heal(): void {
    this.conditions.blocked.clear();
    for (const connection of this.#connections) {
      if (chance(this.random, 0.3)) connection.reset('both');
      else connection.resume();
    }
  }
}

export class Connection {
  readonly number: number;
  readonly agentEnd: SimTransport;
  readonly serverEnd: SimTransport;
  readonly #network: Network;

  constructor(network: Network, number: number, peers: { agent: PeerIdentity; server: PeerIdentity }) {
    this.number = number;
    this.#network = network;
    this.agentEnd = new SimTransport(network, peers.server, 'to-server', this);
    this.serverEnd = new SimTransport(network, peers.agent, 'to-agent', this);
    this.agentEnd.other = this.serverEnd;
    this.serverEnd.other = this.agentEnd;
  }

  resume(): void {
    this.agentEnd.pump();
    this.serverEnd.pump();
  }

  /** Cuts the connection at whatever byte it is. An end that does not see it hears nothing until it gives up. */
  reset(seenBy: 'both' | 'agent' | 'server'): void {
    if (seenBy !== 'server') this.#fail(this.agentEnd);
    if (seenBy !== 'agent') this.#fail(this.serverEnd);
    if (seenBy === 'agent') this.#failLater(this.serverEnd);
    if (seenBy === 'server') this.#failLater(this.agentEnd);
  }

  /** The program at one end is gone; its machine tells the other end, or cannot. */
  endDies(end: SimTransport): void {
    const isAgent = end === this.agentEnd;
    end.vanish();
    const isTold = this.#network.conditions.blocked.size === 0 && chance(this.#network.random, 0.8);
    if (isTold) this.reset(isAgent ? 'server' : 'agent');
    else this.#failLater(isAgent ? this.serverEnd : this.agentEnd);
    this.settle();
  }

  /** Called when an end has closed, failed or vanished. */
  settle(): void {
    if (this.agentEnd.isOver && this.serverEnd.isOver) this.#network.forget(this);
  }

  #fail(end: SimTransport): void {
    // What arrived before may still be read, or is thrown away with the connection.
    end.fail(chance(this.#network.random, 0.5));
    this.settle();
  }

  /** What keepalive and retransmission timers do in the end, however late. */
  #failLater(end: SimTransport): void {
    end.mute();
    const ms = pick(this.#network.random, [2_000, 10_000, 60_000]) + integerBelow(this.#network.random, 1000);
    this.#network.timeline.after(ms, () => this.#fail(end));
  }
}
