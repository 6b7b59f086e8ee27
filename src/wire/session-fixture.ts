/** What the tests of sessions share: a replica in memory, a host that lends it, a pair of joined ends. */
import { hash } from 'node:crypto';
import { DIGEST_KEY } from '#/disk/digest-fixture.ts';
import { digestBlocks } from '#/disk/digest.ts';
import { Failure } from '#/lib/failure.ts';
import { systemClock } from '#/lib/system-clock.ts';
import type { ClientSessionOptions } from './client-connection.ts';
import { openSession } from './client-session.ts';
import { memoryTransportPair } from './memory-transport.ts';
import type { Attachment, Commit, DiskSpec, Open, PointRef } from './messages.ts';
import type { PointPort, PointPortIntent, ReplicaPort, SessionHost } from './replica-port.ts';
import { decodeSegment, encodeSegment } from './segment.ts';
import { serveSession, type ServerSessionOptions } from './server-session.ts';
import type { PeerIdentity } from './transport.ts';

export const AGENT: PeerIdentity = { siteId: 'west', role: 'agent', id: 'agent-1' };
export const SERVER: PeerIdentity = { siteId: 'east', role: 'replication-server', id: 'server-1' };
export const DISKS: DiskSpec[] = [{ key: 'vda', bytes: 64 * 1024 * 1024 }];
export const OPEN: Omit<Open, 'kind' | 'protocol'> = {
  replicaId: 'replica-1',
  vm: { uuid: '11111111-2222-3333-4444-555555555555', name: 'ledger' },
  epoch: 1,
  disks: DISKS,
};
export const ROOT = 'ab'.repeat(16);
export const STAMP = '0123456789abcdef0123456789abcdef';

/** Keeps points as lists of segments. `gate`, when set, holds every write back until it resolves. */
export class MemoryReplica implements ReplicaPort {
  readonly committed: { ref: PointRef & { momentMs: number }; segments: Uint8Array[]; commit: unknown }[] =
    [];
  readonly kept = new Map<string, Uint8Array>();
  readonly calls: string[] = [];
  partial: { stamp: string; segments: Uint8Array[] } | undefined;
  gate: Promise<void> | undefined;
  failure: Failure | undefined;
  highestEpoch = 1;
  readonly digestKey = DIGEST_KEY;

  head(): (PointRef & { momentMs: number }) | undefined {
    return this.committed.at(-1)?.ref;
  }

  epoch(): number {
    return this.highestEpoch;
  }

  async state(): Promise<{
    disks: (DiskSpec & { root: string })[];
    partial?: { stamp: string; segmentCount: number };
  }> {
    const { partial } = this;
    return {
      disks: DISKS.map((disk) => ({ ...disk, root: ROOT })),
      ...(partial && { partial: { stamp: partial.stamp, segmentCount: partial.segments.length } }),
    };
  }

  async digests(disk: number, level: number, first: number, count: number): Promise<Uint8Array> {
    this.calls.push(`digests ${disk} ${level} ${first} ${count}`);
    return new Uint8Array(count * 16).map((_, i) => first + i);
  }

  async begin(intent: PointPortIntent): Promise<PointPort> {
    this.calls.push(`begin ${intent.sequence}`);
    const segments = this.partial?.stamp === intent.stamp ? this.partial.segments : [];
    this.partial = { stamp: intent.stamp, segments };
    return {
      segmentCount: segments.length,
      write: async (segment, release) => {
        await this.gate;
        if (this.failure !== undefined) throw this.failure;
        decodeSegment(segment, () => 1024 * 1024, DIGEST_KEY);
        segments.push(segment.slice());
        release?.();
      },
      commit: async (commit: Omit<Commit, 'kind' | 'stamp'>) => {
        const { sequence, stamp, momentMs } = intent;
        this.committed.push({ ref: { sequence, stamp, momentMs }, segments, commit });
        this.partial = undefined;
        return { sequence, stamp };
      },
      abort: async () => {
        this.calls.push('abort');
        this.partial = undefined;
      },
      suspend: async () => {
        this.calls.push('suspend');
      },
    };
  }

  async missingAttachments(attachments: readonly Attachment[]): Promise<string[]> {
    return attachments.filter(({ sha256 }) => !this.kept.has(sha256)).map(({ sha256 }) => sha256);
  }

  async putAttachment(sha256: string, bytes: Uint8Array): Promise<void> {
    if (hash('sha256', bytes) !== sha256)
      throw new Failure('protocol_corrupt', 'keep attachment: wrong hash');
    this.kept.set(sha256, bytes);
  }
}

/** Lends one replica to whoever asks; counts what was lent and given back. */
export class MemoryHost implements SessionHost {
  readonly replica = new MemoryReplica();
  lent = 0;
  returned = 0;
  endSession: ((why: Failure) => void) | undefined;
  refusal: Failure | undefined;

  async open(
    _open: Open,
    _peer: PeerIdentity,
    end: (why: Failure) => void,
  ): Promise<{ replica: MemoryReplica; [Symbol.asyncDispose](): Promise<void> }> {
    if (this.refusal !== undefined) throw this.refusal;
    this.endSession = end;
    this.lent++;
    return {
      replica: this.replica,
      [Symbol.asyncDispose]: async () => {
        this.returned++;
      },
    };
  }
}

export type JoinedOptions = {
  client?: Partial<ClientSessionOptions>;
  server?: Partial<ServerSessionOptions>;
};

/** Both ends of a session over a memory transport; the client's is yet to be opened. */
export function joined(host: SessionHost, options: JoinedOptions = {}) {
  const pair = memoryTransportPair({ client: AGENT, server: SERVER });
  const served = serveSession(pair.server, host, { clock: systemClock, ...options.server });
  return {
    ...pair,
    served,
    open: (open = OPEN) => openSession(pair.client, open, { clock: systemClock, ...options.client }),
  };
}

/** A data segment of `blocks` raw blocks at block `first`. */
export function dataSegment(first: number, blocks = 1): Uint8Array {
  const payload = new Uint8Array(blocks * 4096).fill(first % 251);
  const digests = digestBlocks(DIGEST_KEY, payload);
  return encodeSegment({
    kind: 'data',
    disk: 0,
    runs: [{ first, count: blocks }],
    digests,
    encoding: 'raw',
    payload,
  });
}
