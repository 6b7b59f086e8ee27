/**
 * The link that the engine is given, watched: what was acknowledged, and what each point cost on the wire.
 *
 * It changes nothing that passes through. I4: a point's bytes are bounded by the blocks that differ from what the
 * replica holds, whatever tracking was lost.
 */
import type { DiskSpec } from '#/wire/messages.ts';
import type { ReplicaLink, ReplicaSession } from '#/replication/link.ts';
import { differingBlocks } from './guest-pages.ts';
import type { DiskPages } from './guest-pages.ts';
import type { PointLedger } from './point-ledger.ts';
import type { SimTransport } from './sim-transport.ts';
import type { SimVm } from './sim-vm.ts';
import type { Violations } from './violations.ts';

/** A differing block alone in its segment: contents, digest, run, segment header, frame, and room for a credit. */
const BLOCK_WIRE_BYTES: number = 4096 + 16 + 10 + 24 + 64;
/** Begin, commit, attachments, some minutes of keepalive. */
const POINT_WIRE_BYTES: number = 16 * 1024;

export type WatchedParts = {
  vm: SimVm;
  ledger: PointLedger;
  violations: Violations;
  /** The transport that the last session was opened over. */
  transport: () => SimTransport | undefined;
};

export function watchedLink(link: ReplicaLink, parts: WatchedParts): ReplicaLink {
  return {
    open: async (disks: DiskSpec[], signal: AbortSignal): Promise<ReplicaSession> => {
      const session = await link.open(disks, signal);
      const { head } = session.opened;
      // The engine believes a head it is told of as much as an acknowledgement.
      if (head) parts.ledger.acknowledged({ ...head, how: 'head' });
      return watchedSession(session, parts);
    },
  };
}

type Begun = { stamp: string; momentMs: number; sentBefore: number; allowedBytes: number; nextIndex: number };

function watchedSession(session: ReplicaSession, parts: WatchedParts): ReplicaSession {
  const { ledger, violations } = parts;
  const transport = parts.transport();
  let point: Begun | undefined;
  const check = (): void => {
    if (!point || !transport || isDisturbed(parts.vm, point.momentMs)) return;
    const sent = transport.gauges.sentBytes - point.sentBefore;
    if (sent <= point.allowedBytes) return;
    violations.add(
      'I4',
      `point of moment ${point.momentMs}: ${sent} bytes sent, ${point.allowedBytes} allowed`,
    );
    point = undefined;
  };
  return {
    opened: session.opened,
    digests: (disk, level, first, ...rest) => session.digests(disk, level, first, ...rest),
    begin: async (begin) => {
      const sentBefore = transport?.gauges.sentBytes ?? 0;
      const nextIndex = await session.begin(begin);
      const allowedBytes = allowed(parts, begin);
      point = { stamp: begin.stamp, momentMs: begin.momentMs, sentBefore, allowedBytes, nextIndex };
      return nextIndex;
    },
    segment: async (index, segment, signal) => {
      if (point && index !== point.nextIndex++) violations.add('I4', `segment ${index} is sent out of turn`);
      await session.segment(index, segment, signal);
      check();
    },
    offerAttachments: (attachments) => session.offerAttachments(attachments),
    attachment: (sha256, bytes) => session.attachment(sha256, bytes),
    commit: async (commit) => {
      const ref = await session.commit(commit);
      check();
      ledger.acknowledged({ ...ref, momentMs: point?.momentMs ?? 0, how: 'commit' });
      point = undefined;
      return ref;
    },
    abort: (stamp) => session.abort(stamp),
    wireBytes: () => session.wireBytes(),
    [Symbol.asyncDispose]: () => session[Symbol.asyncDispose](),
  };
}

type BeginFacts = { momentMs: number; base?: { sequence: number; stamp: string } };

function allowed({ vm, ledger }: WatchedParts, begin: BeginFacts): number {
  const moment = vm.history.get(begin.momentMs);
  if (!moment) return Number.POSITIVE_INFINITY;
  const base = begin.base && ledger.contents(begin.base);
  let blocks = 0;
  for (const disk of moment.disks) {
    blocks += base ? differingBlocks(disk, find(base, disk.key)) : everWritten(vm, disk);
  }
  return blocks * BLOCK_WIRE_BYTES + POINT_WIRE_BYTES;
}

/** A powered-off VM's image that changed while it was read, also after `begin`, gives anything: it is not committed. */
function isDisturbed(vm: SimVm, momentMs: number): boolean {
  return vm.history.get(momentMs)?.isDisturbed === true;
}

/** A first copy starts from whatever earlier tries left: every block that was not zero in one of them may differ. */
function everWritten(vm: SimVm, disk: DiskPages): number {
  const written = new Set<number>();
  for (const moment of vm.history.values()) {
    const pages = find(moment.disks, disk.key)?.pages ?? [];
    for (let i = 0; i < disk.pages.length; i++) if (pages[i]) written.add(i);
  }
  return written.size;
}

function find(disks: readonly DiskPages[], key: string): DiskPages | undefined {
  return disks.find((disk) => disk.key === key);
}
