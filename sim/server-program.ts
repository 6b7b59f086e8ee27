/**
 * The replication server of a run: the production store and the production session over simulated ports, with
 * compaction in the background and readers that hold views of points while everything goes on.
 */
import { describe, Failure, failureIn, hasCode } from '#/lib/failure.ts';
import type { RecoveryPoint, Replica, RetentionPolicy } from '#/replica/replica.ts';
import type { ReplicaPort, SessionHost } from '#/wire/replica-port.ts';
import { serveSession } from '#/wire/server-session.ts';
import { SessionRegistry } from '#/wire/session-registry.ts';
import { stackOf } from './agent-program.ts';
import { pick, waitMs } from './chance.ts';
import type { Life } from './machine.ts';
import type { Network } from './network.ts';
import { comparePoint } from './compare-point.ts';
import type { PointLedger } from './point-ledger.ts';
import { openStore, REPLICA_ID } from './store.ts';
import type { SimTransport } from './sim-transport.ts';
import type { Trace } from './trace.ts';
import type { Violations } from './violations.ts';

export type ServerParts = {
  trace: Trace;
  violations: Violations;
  network: Network;
  ledger: PointLedger;
  retention: RetentionPolicy;
  /** The replica that is open at the moment, for orders that do not come from an agent. */
  live: { replica: Replica | undefined };
  /** Window of a session; small ones make the flow control work. */
  window: { segmentCount: number; bytes: number };
};

/** Readers that hold views at the same time. */
const READERS = 2;

export function bootServer(parts: ServerParts, life: Life): void {
  run(parts, life).catch((error: unknown) => ends(parts, life, error));
}

function ends({ violations }: ServerParts, life: Life, error: unknown): void {
  if (!failureIn(error)) violations.add('bug', `the server ends with ${describe(error)}\n${stackOf(error)}`);
  else if (hasCode(error, 'storage_corrupt'))
    violations.add('I2', `the server cannot open: ${describe(error)}`);
  life.exit(describe(error));
}

async function run(parts: ServerParts, life: Life): Promise<void> {
  const replica = await openStore(life);
  parts.live.replica = replica;
  life.fence.onKill(() => (parts.live.replica = undefined));
  parts.ledger.opened(replica.points(), replica.epoch());
  const host = sessionHost(replica, parts.ledger, new SessionRegistry(life.clock));
  const accept = (transport: SimTransport): void => {
    const { clock } = life;
    serveSession(transport, host, { clock, window: parts.window }).then(
      ({ failure }) => {
        parts.trace.add(`server: session ends${failure ? `: ${describe(failure)}` : ''}`);
        const flips = transport.gauges.flips + transport.other.gauges.flips;
        if (failure?.code !== 'protocol_corrupt' || flips > 0) return;
        parts.violations.add('wire', `nothing was flipped, and a session ends with ${describe(failure)}`);
      },
      (error: unknown) => ends(parts, life, error),
    );
  };
  parts.network.listener = { accept, fence: life.fence };
  const readers = Array.from({ length: READERS }, () => readForEver(replica, parts, life));
  await Promise.all([compactForEver(replica, parts, life), ...readers]);
}

async function compactForEver(replica: Replica, parts: ServerParts, life: Life): Promise<never> {
  for (;;) {
    await life.clock.sleep(waitMs(life.random, 3_000));
    try {
      const nowMs = life.clock.now();
      parts.ledger.compacting(nowMs);
      while (await replica.compact(parts.retention, nowMs));
    } catch (error) {
      if (!failureIn(error)) throw error;
      corruptIsWrong(parts, error, 'compact');
      parts.trace.add(`server: compact: ${describe(error)}`);
    }
  }
}

/** Opens points as a recovery does, reads them slowly, and compares what it reads with the source's history. */
async function readForEver(replica: Replica, parts: ServerParts, life: Life): Promise<never> {
  for (;;) {
    await life.clock.sleep(waitMs(life.random, 3_000));
    const points = replica.points();
    if (points.length === 0) continue;
    const point = pick(life.random, points);
    try {
      await using view = await replica.openView(point.sequence);
      await life.clock.sleep(waitMs(life.random, 8_000));
      const pause = (): Promise<void> => life.clock.sleep(waitMs(life.random, 300));
      const wrong = await comparePoint(view, parts.ledger, { random: life.random, pause });
      if (wrong !== undefined) parts.violations.add('I1', `a reader of point ${point.sequence}: ${wrong}`);
    } catch (error) {
      if (!failureIn(error)) throw error;
      corruptIsWrong(parts, error, `read point ${point.sequence}`);
      parts.trace.add(`server: read point ${point.sequence}: ${describe(error)}`);
    }
  }
}

/** Nothing rots in the server's disk while it runs: what it finds corrupt, it has made so itself. */
function corruptIsWrong({ violations }: ServerParts, error: unknown, what: string): void {
  if (hasCode(error, 'storage_corrupt')) violations.add('I1', `${what}: ${describe(error)}`);
}

/** Admits the agent; which of its sessions may hold the replica is the production registry's to say. */
function sessionHost(replica: Replica, ledger: PointLedger, sessions: SessionRegistry): SessionHost {
  return {
    open: async (request, peer, end) => {
      if (request.replicaId !== REPLICA_ID || peer.role !== 'agent') {
        throw new Failure('forbidden', `open ${request.replicaId}: not for ${peer.id}`);
      }
      const claim = await sessions.claim(request.replicaId, peer, end);
      return {
        replica: noting(replica, ledger),
        [Symbol.asyncDispose]: () => claim[Symbol.asyncDispose](),
      };
    },
  };
}

/** The replica as a session uses it; the ledger learns what was committed, acknowledged or not. */
function noting(replica: Replica, ledger: PointLedger): ReplicaPort {
  return {
    digestKey: replica.digestKey,
    head: () => replica.head(),
    epoch: () => replica.epoch(),
    state: () => replica.state(),
    digests: (disk, level, first, count) => replica.digests(disk, level, first, count),
    missingAttachments: (attachments) => replica.missingAttachments(attachments),
    putAttachment: (sha256, bytes) => replica.putAttachment(sha256, bytes),
    begin: async (intent) => {
      const writer = await replica.begin(intent);
      return {
        segmentCount: writer.segmentCount,
        write: (segment, release) => writer.write(segment, release),
        abort: () => writer.abort(),
        suspend: () => writer.suspend(),
        commit: async (request) => {
          const point: RecoveryPoint = await writer.commit(request);
          ledger.committed(point);
          return point;
        },
      };
    },
  };
}
