/**
 * The agent of a run: the production engine and the production session over simulated ports.
 */
import { describe, failureIn } from '#/lib/failure.ts';
import type { PeerIdentity } from '#/lib/peer-identity.ts';
import { syncBlockCodec } from '#/replication/block-codec.ts';
import { CycleGate } from '#/replication/cycle-gate.ts';
import type { ReplicaLink } from '#/replication/link.ts';
import { describeEvent, Replicator } from '#/replication/replicator.ts';
import { SessionPool } from '#/wire/session-pool.ts';
import type { Life } from './machine.ts';
import type { Network } from './network.ts';
import type { PointLedger } from './point-ledger.ts';
import type { SiteTime } from './sim-clock.ts';
import { SimSource, type SourceConditions } from './sim-source.ts';
import type { SimTransport } from './sim-transport.ts';
import { REPLICA_ID, VM_IDENTITY } from './store.ts';
import type { SimVm } from './sim-vm.ts';
import type { Timeline } from './timeline.ts';
import type { Trace } from './trace.ts';
import type { Violations } from './violations.ts';
import { watchedLink } from './watched-link.ts';

export const AGENT: PeerIdentity = { siteId: 'west', role: 'agent', id: 'agent-1' };
/** The agent of a site that was recovered from and does not know it. */
export const RIVAL: PeerIdentity = { siteId: 'west', role: 'agent', id: 'agent-2' };
export const SERVER: PeerIdentity = { siteId: 'east', role: 'replication-server', id: 'server-1' };

/** What the agent is ordered to do. */
export type AgentOrders = { epoch: number; rpoMs: number; scratchBytes: number; disks: string[] };

export type AgentParts = {
  timeline: Timeline;
  trace: Trace;
  violations: Violations;
  network: Network;
  ledger: PointLedger;
  vm: SimVm;
  site: SiteTime;
  source: SourceConditions;
  orders: AgentOrders;
  peer: PeerIdentity;
};

export function bootAgent(parts: AgentParts, life: Life): void {
  run(parts, life).catch((error: unknown) => {
    const failure = failureIn(error);
    if (!failure) parts.violations.add('bug', `the agent ends with ${describe(error)}\n${stackOf(error)}`);
    life.exit(describe(error));
  });
}

async function run(parts: AgentParts, life: Life): Promise<void> {
  const { orders, trace } = parts;
  const replicator = new Replicator({
    source: source(parts, life),
    link: link(parts, life),
    codec: syncBlockCodec,
    clock: life.clock,
    random: life.random,
    fs: life.fileSystem,
    directory: 'replicas/1',
    replicaId: REPLICA_ID,
    order: orders,
    gate: new CycleGate(2),
    onEvent: (event) => trace.add(`agent: ${describeEvent(event)}`),
    // An order may change at any time; the next cycle follows it.
    chooseDisks: () => orders.disks,
  });
  await replicator.run(new AbortController().signal);
}

function source(parts: AgentParts, life: Life): SimSource {
  const { vm, timeline, site, violations, ledger } = parts;
  const { fence, random, onOperation } = life;
  return new SimSource({
    vm,
    timeline,
    random,
    fence,
    site,
    ledger,
    conditions: parts.source,
    violations,
    onOperation,
  });
}

function link({ network, vm, ledger, violations, orders, peer }: AgentParts, life: Life): ReplicaLink {
  const pool = new SessionPool(life.clock);
  let last: SimTransport | undefined;
  const connect = async (): Promise<SimTransport> => {
    last = await network.connect(life.fence, peer, SERVER);
    return last;
  };
  const open: ReplicaLink['open'] = (disks, signal) => {
    const request = { replicaId: REPLICA_ID, vm: VM_IDENTITY, epoch: orders.epoch, disks };
    return pool.open({ key: 'server', connect }, request, signal);
  };
  return watchedLink({ open }, { vm, ledger, violations, transport: () => last });
}

export function stackOf(error: unknown): string {
  if (error instanceof SuppressedError)
    return `${stackOf(error.error)}\n  suppresses\n${stackOf(error.suppressed)}`;
  const top = error instanceof Error ? (error.stack ?? '') : '';
  return top.split('\n').slice(0, 8).join('\n');
}
