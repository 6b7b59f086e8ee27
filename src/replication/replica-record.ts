/**
 * All that the protected side keeps about one replica, durable: which point the replica holds as far as we know, what
 * tracks the changes since, and a digest record for each disk.
 *
 * Files of the directory: `state` (one line "antipode-record 1 CRC32", then JSON; replaced by rename), `pending`
 * (pending-file.ts), and two for each disk (digest-record.ts).
 *
 * The order at an acknowledged point (I2, I4): journal written and synced; `commit` sent; acknowledged; digests
 * written and synced; state replaced, after which the journal says nothing new. A crash anywhere leaves either the
 * older state with a journal that is redone when the replica's head has its stamp, or the newer state. Nothing here
 * is believed without the replica's own roots being equal (record-sync.ts), so losing or doubting the record costs a
 * local read and no more. Pure.
 */
import assert from 'node:assert/strict';
import { crc32 } from 'node:zlib';
import { DIGEST_BYTES } from '#/disk/digest.ts';
import { blockCount } from '#/disk/disk.ts';
import type { FileSystem } from '#/disk/file-system.ts';
import { Failure } from '#/lib/failure.ts';
import { DigestRecord, groupLength } from './digest-record.ts';
import { DISKS_MAX, GROUP_BLOCKS } from './limits.ts';
import { clearPending, PendingReader, PendingWriter, setRuns } from './pending-file.ts';
import type { Range } from './ranges.ts';

export type RecordDisk = {
  key: string;
  bytes: number;
  /** The image that the tracking was about. */
  imageId: string;
  /**
   * What travelled from powered-off moments since the tracking began. The bitmap of an image that is restored from
   * an older copy does not tell of it, so the next moment compares it again.
   */
  compareAgain: Range[];
};

export type RecordState = {
  replicaId: string;
  /** The point that the digest records are of; absent before the first one, and while they are in doubt. */
  head?: { sequence: number; stamp: string; momentMs: number };
  /** The secret of the replica that the digests are keyed with, to compare with them when its site is away. */
  digestKey?: string;
  /** Tells what changed since the head, but for `compareAgain`; absent when everything has to be compared. */
  tracking?: string;
  disks: RecordDisk[];
  /** False from before the records are changed otherwise than through the journal until that is durable. */
  isWhole: boolean;
};

export class ReplicaRecord implements AsyncDisposable {
  readonly #fs: FileSystem;
  readonly #directory: string;
  readonly #digests = new Map<string, DigestRecord>();
  #state: RecordState;
  #isPendingNamed = false;
  /** Of the journal that was begun last. */
  #journal: PendingWriter | undefined;
  /** What the journal's file says, as long as that is known without looking. */
  #pending: { stamp: string | undefined } | undefined;

  static async open(fs: FileSystem, directory: string, replicaId: string): Promise<ReplicaRecord> {
    await fs.makeDirectory(directory);
    const state = await readRecordState(fs, directory, replicaId);
    const record = new ReplicaRecord(fs, directory, state ?? emptyState(replicaId));
    try {
      if (state === undefined) {
        await clearPending(fs, directory);
        await record.save(record.state);
      }
      for (const disk of record.#state.disks) await record.#openDigests(disk.key, disk.bytes);
      return record;
    } catch (error) {
      await record[Symbol.asyncDispose]();
      throw error;
    }
  }

  private constructor(fs: FileSystem, directory: string, state: RecordState) {
    this.#fs = fs;
    this.#directory = directory;
    this.#state = state;
  }

  get state(): RecordState {
    return this.#state;
  }

  /** The digests of a disk that the state names. */
  digests(key: string): DigestRecord {
    const digests = this.#digests.get(key);
    assert(digests !== undefined, `no digest record of ${key}`);
    return digests;
  }

  /** Makes the state durable. */
  async save(state: RecordState): Promise<void> {
    const json = JSON.stringify(state);
    const bytes = new TextEncoder().encode(`${MAGIC} ${checksum(json)}\n${json}`);
    const path = `${this.#directory}/state`;
    {
      await using file = await this.#fs.open(`${path}.new`, 'create');
      await file.truncate(0);
      await file.write(0, bytes);
      await file.datasync();
    }
    await this.#fs.rename(`${path}.new`, path);
    await this.#fs.syncDirectory(this.#directory);
    this.#state = state;
  }

  /** Drops all trust: until the next `save`, records change freely. */
  async doubt(): Promise<void> {
    const { head, tracking, ...rest } = this.#state;
    if (head === undefined && tracking === undefined && !rest.isWhole) return;
    await this.save({ ...rest, isWhole: false });
  }

  /** Gives the state these disks, with records of the right length. Only while in doubt. */
  async setDisks(disks: { key: string; bytes: number }[]): Promise<void> {
    assert(!this.#state.isWhole, 'disks are set while the record is trusted');
    const known = new Map(this.#state.disks.map((disk) => [disk.key, disk]));
    await this.save({
      ...this.#state,
      disks: disks.map(({ key, bytes }) => ({
        key,
        bytes,
        imageId: known.get(key)?.imageId ?? '',
        compareAgain: [],
      })),
    });
    await this.#fitDigests();
  }

  /** Makes an empty record for a disk that no point has had yet. */
  async addDisk(key: string, bytes: number): Promise<void> {
    if (!this.#digests.has(key)) await this.#openDigests(key, bytes);
    const digests = this.digests(key);
    await digests.clear();
    await digests.datasync();
  }

  /** Begins the journal of a point; an older one is gone. */
  async startPoint(): Promise<PendingWriter> {
    this.#journal = this.#pending = undefined;
    const writer = await PendingWriter.create(this.#fs, this.#directory, this.#isPendingNamed);
    this.#isPendingNamed = true;
    this.#journal = writer;
    return writer;
  }

  /** The stamp of the point whose journal was finished last; the head's own when it was applied. */
  async pendingStamp(): Promise<string | undefined> {
    this.#pending ??= { stamp: await this.#readPendingStamp() };
    return this.#pending.stamp;
  }

  /** The pending point is acknowledged: makes the record one of it. Redone from its start after a crash. */
  async applyPending(): Promise<void> {
    const finished = this.#journal?.finished;
    // A journal of no entries that we wrote and synced ourselves has nothing to read back.
    if (finished?.isEmpty === true) {
      await this.#advance(finished.state, undefined);
      return;
    }
    await using pending = await PendingReader.open(this.#fs, this.#directory);
    assert(pending !== undefined, 'no journal to apply');
    await this.#advance(pending.state, pending);
  }

  /** The pending point did not come to be. */
  async discardPending(): Promise<void> {
    this.#journal = this.#pending = undefined;
    await clearPending(this.#fs, this.#directory);
    this.#pending = { stamp: undefined };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const digests of this.#digests.values()) await digests[Symbol.asyncDispose]();
    this.#digests.clear();
  }

  async #readPendingStamp(): Promise<string | undefined> {
    await using pending = await PendingReader.open(this.#fs, this.#directory);
    return pending === undefined ? undefined : parseState(pending.state)?.head?.stamp;
  }

  async #advance(text: string, pending: PendingReader | undefined): Promise<void> {
    const next = parseState(text);
    assert(next !== undefined, 'journal without a state');
    const before = this.#state;
    this.#state = next;
    const touched = new Set<string>();
    try {
      await this.#fitDigests();
      for (const { key, bytes } of next.disks) {
        if (before.disks.find((disk) => disk.key === key)?.bytes !== bytes) touched.add(key);
      }
      const applied = pending === undefined ? [] : await this.#applyEntries(pending, next);
      for (const key of applied) touched.add(key);
      for (const key of touched) await this.digests(key).datasync();
    } catch (error) {
      this.#state = before;
      throw error;
    }
    await this.save(next);
    this.#pending = { stamp: next.head?.stamp };
  }

  async #applyEntries(pending: PendingReader, next: RecordState): Promise<Set<string>> {
    const touched = new Set<string>();
    const entries = pending.entries();
    for (;;) {
      const step = await entries.next();
      if (step.done === true) {
        if (step.value) return touched;
        throw new Failure('storage_corrupt', `read the journal of ${next.replicaId}: an entry does not hold`);
      }
      const { disk, group, changed, node, digests } = step.value;
      const key = next.disks[disk]?.key;
      if (key === undefined)
        throw new Failure('storage_corrupt', `journal of ${next.replicaId}: disk ${disk}`);
      const record = this.digests(key);
      // Whatever a crash left of an earlier try: blocks that did not change were written as they were, the others
      // are laid over it, and the node proves the result.
      const nodes = await record.nodes(0, group * GROUP_BLOCKS, groupLength(group, record.blocks));
      let at = 0;
      for (const { first, count } of setRuns(changed)) {
        nodes.set(digests.subarray(at, at + count * DIGEST_BYTES), first * DIGEST_BYTES);
        at += count * DIGEST_BYTES;
      }
      await record.writeGroups(group, nodes);
      if (Buffer.compare(await record.node(group), node) !== 0) {
        throw new Failure('storage_corrupt', `apply the journal of ${next.replicaId}: ${key} group ${group}`);
      }
      touched.add(key);
    }
  }

  /** Opens, resizes and removes digest records until they are those of the state's disks. */
  async #fitDigests(): Promise<void> {
    const wanted = new Map(this.#state.disks.map((disk) => [disk.key, disk.bytes]));
    for (const [key, digests] of this.#digests) {
      if (wanted.has(key)) continue;
      await digests[Symbol.asyncDispose]();
      this.#digests.delete(key);
      for (const suffix of ['digests', 'tree']) await this.#fs.remove(`${this.#path(key)}.${suffix}`);
    }
    for (const [key, bytes] of wanted) {
      const digests = this.#digests.get(key);
      if (digests === undefined) {
        await this.#openDigests(key, bytes);
      } else if (digests.blocks !== blockCount(bytes)) {
        // A doubted record may be torn where it is cut or grown, and would refuse to be read there for ever.
        if (!this.#state.isWhole) await digests.rebuild();
        await digests.resize(blockCount(bytes));
      }
    }
  }

  async #openDigests(key: string, bytes: number): Promise<void> {
    const identity = `${this.#state.replicaId} ${key}`;
    const blocks = blockCount(bytes);
    this.#digests.set(
      key,
      await DigestRecord.open({ fs: this.#fs, path: this.#path(key), identity, blocks }),
    );
  }

  #path(key: string): string {
    return `${this.#directory}/disk-${key}`;
  }
}

const MAGIC = 'antipode-record 1';
const STATE_BYTES_MAX = 8 * 2 ** 20;

function emptyState(replicaId: string): RecordState {
  return { replicaId, disks: [], isWhole: true };
}

function checksum(json: string): string {
  return crc32(json).toString(16).padStart(8, '0');
}

/** Undefined when there is no state, or one that cannot be believed: then the replica tells what is there. */
export async function readRecordState(
  fs: FileSystem,
  directory: string,
  replicaId: string,
): Promise<RecordState | undefined> {
  if (!(await fs.list(directory)).includes('state')) return undefined;
  await using file = await fs.open(`${directory}/state`, 'read');
  const bytes = new Uint8Array(Math.min(await file.bytes(), STATE_BYTES_MAX));
  const count = await file.read(0, bytes);
  const text = new TextDecoder().decode(bytes.subarray(0, count));
  const at = text.indexOf('\n');
  const json = text.slice(at + 1);
  if (text.slice(0, at) !== `${MAGIC} ${checksum(json)}`) return undefined;
  const state = parseState(json);
  return state?.replicaId === replicaId ? state : undefined;
}

/** What stands behind a checksum of ours was written by this module; its shape is still looked at. */
function parseState(json: string): RecordState | undefined {
  let state: Partial<RecordState>;
  try {
    state = JSON.parse(json) as Partial<RecordState>;
  } catch {
    return undefined;
  }
  const isState =
    typeof state.replicaId === 'string' &&
    typeof state.isWhole === 'boolean' &&
    Array.isArray(state.disks) &&
    state.disks.length <= DISKS_MAX &&
    state.disks.every((disk) => typeof disk.key === 'string' && Number.isSafeInteger(disk.bytes));
  return isState ? (state as RecordState) : undefined;
}
