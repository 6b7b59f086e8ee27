/**
 * Makes a replica record agree with what the replica says it holds (I4).
 *
 * The roots of the digest trees decide, never a stamp alone. Where they differ, the tree is fetched level by level,
 * only below nodes that differ, depth first, so that memory stays the same whatever the disk's size. Pure.
 */
import { DIGEST_BYTES } from '#/disk/digest.ts';
import { rootLevel, TREE_FANOUT } from '#/disk/digest-tree.ts';
import { blockCount } from '#/disk/disk.ts';
import { Failure, hasCode } from '#/lib/failure.ts';
import { copyDigests } from './baseline.ts';
import type { DigestRecord } from './digest-record.ts';
import { GROUP_BLOCKS, SYNC_NODES_MAX } from './limits.ts';
import type { ReplicaSession } from './link.ts';
import type { RecordState, ReplicaRecord } from './replica-record.ts';

export type SyncOptions = {
  /** Digests by the same key that are most likely near the replica's: what is equal need not be fetched. */
  baseline?: ReplicaRecord | undefined;
  signal?: AbortSignal | undefined;
};

/**
 * Settles a pending point and brings the record to the state that the session opened with. True when the record was
 * of that very state all along, so that its tracking holds.
 */
export async function reconcile(
  record: ReplicaRecord,
  session: ReplicaSession,
  options: SyncOptions = {},
): Promise<boolean> {
  await settlePending(record, session.opened.head?.stamp);
  if (await isSame(record, session)) return true;
  await synchronise(record, session, options);
  return false;
}

async function settlePending(record: ReplicaRecord, headStamp: string | undefined): Promise<void> {
  const pending = await record.pendingStamp();
  const { head, isWhole } = record.state;
  if (pending === undefined || pending === head?.stamp) return;
  if (pending === headStamp && isWhole) {
    try {
      await record.applyPending();
      return;
    } catch (error) {
      if (!hasCode(error, 'storage_corrupt')) throw error;
      await record.doubt();
    }
  }
  await record.discardPending();
}

async function isSame(record: ReplicaRecord, { opened }: ReplicaSession): Promise<boolean> {
  const { head, disks, isWhole } = record.state;
  if (!isWhole || head?.stamp !== opened.head?.stamp || disks.length !== opened.disks.length) return false;
  for (const { key, bytes, root } of opened.disks) {
    if (disks.find((disk) => disk.key === key)?.bytes !== bytes) return false;
    if ((await record.digests(key).root()) !== root) return false;
  }
  return true;
}

async function synchronise(
  record: ReplicaRecord,
  session: ReplicaSession,
  { baseline, signal }: SyncOptions,
): Promise<void> {
  const { opened } = session;
  const wasWhole = record.state.isWhole;
  await record.doubt();
  await record.setDisks(opened.disks);
  for (const [disk, { key, bytes, root }] of opened.disks.entries()) {
    const digests = record.digests(key);
    if (/^0+$/.test(root)) {
      await digests.clear();
    } else {
      if (!wasWhole) await digests.rebuild();
      const blocks = blockCount(bytes);
      if (/^0+$/.test(await digests.root())) await copyKnown(baseline, key, digests);
      const sync = new DiskSync({ session, disk, digests, signal });
      if ((await digests.root()) !== root) await sync.descend(rootLevel(blocks) - 1, 0, topCount(blocks));
    }
    await digests.datasync();
    if ((await digests.root()) !== root) {
      throw new Failure(
        'protocol_corrupt',
        `synchronise ${key}: the digests of the replica are not its root's`,
      );
    }
  }
  const state: RecordState = { replicaId: record.state.replicaId, disks: record.state.disks, isWhole: true };
  const head = opened.head;
  if (head !== undefined) {
    state.head = { sequence: head.sequence, stamp: head.stamp, momentMs: head.momentMs };
  }
  await record.save(state);
}

/** A record that is torn there is of no help: then all is fetched. */
async function copyKnown(
  baseline: ReplicaRecord | undefined,
  key: string,
  digests: DigestRecord,
): Promise<void> {
  const blocks = digests.blocks;
  if (baseline?.state.disks.some((disk) => disk.key === key && blockCount(disk.bytes) === blocks) !== true) {
    return;
  }
  await copyDigests(baseline.digests(key), digests);
}

function topCount(blocks: number): number {
  return Math.max(1, Math.ceil(blocks / TREE_FANOUT ** (rootLevel(blocks) - 1)));
}

class DiskSync {
  readonly #session: ReplicaSession;
  readonly #disk: number;
  readonly #digests: DigestRecord;
  readonly #signal: AbortSignal | undefined;

  constructor(options: {
    session: ReplicaSession;
    disk: number;
    digests: DigestRecord;
    signal: AbortSignal | undefined;
  }) {
    this.#session = options.session;
    this.#disk = options.disk;
    this.#digests = options.digests;
    this.#signal = options.signal;
  }

  /** Fetches nodes of a level whose parents differ, and goes on below those of them that differ too. */
  async descend(level: number, first: number, count: number): Promise<void> {
    for (let at = first; at < first + count; at += SYNC_NODES_MAX) {
      const part = Math.min(SYNC_NODES_MAX, first + count - at);
      const theirs = await this.#session.digests(this.#disk, level, at, part, this.#signal);
      if (theirs.length !== part * DIGEST_BYTES) {
        throw new Failure('protocol_corrupt', `synchronise: ${theirs.length} bytes for ${part} digests`);
      }
      if (level === 0) await this.#digests.writeGroups(at / GROUP_BLOCKS, theirs);
      else await this.#descendBelow(level, at, theirs);
    }
  }

  async #descendBelow(level: number, first: number, theirs: Uint8Array): Promise<void> {
    const count = theirs.length / DIGEST_BYTES;
    const ours = await this.#digests.nodes(level, first, count);
    let start = 0;
    for (let index = 0; index <= count; index++) {
      const at = index * DIGEST_BYTES;
      const differs =
        index < count && Buffer.compare(ours.subarray(at, at + 16), theirs.subarray(at, at + 16)) !== 0;
      if (differs) continue;
      if (index > start) await this.#below(level, first + start, index - start);
      start = index + 1;
    }
  }

  /** All children of nodes that follow each other. */
  async #below(level: number, first: number, count: number): Promise<void> {
    const width = TREE_FANOUT ** (level - 1);
    const below = Math.max(1, Math.ceil(this.#digests.blocks / width));
    const from = first * TREE_FANOUT;
    const until = Math.min((first + count) * TREE_FANOUT, below);
    await this.descend(level - 1, from, until - from);
  }
}
