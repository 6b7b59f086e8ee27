/**
 * The baselines of this host's VMs: for each that was recovered here, the digests of the point that it was recovered
 * from, and the tracking since before its first write (docs/failback.md, section 6). Each is a record as of a replica
 * (replica-record.ts), in `baselines/UUID` of the agent's `data_directory`.
 *
 * Invariant: a record is whole only once every digest in it was proven by the root of the point's own tree. Only this
 * program writes them, so what was looked at once is known.
 */
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { PointDigests } from '#/control/point-digests.ts';
import { DIGEST_BYTES } from '#/disk/digest.ts';
import { NodeFileSystem } from '#/disk/node-file-system.ts';
import { Failure, failureIn } from '#/lib/failure.ts';
import { failureFields, type Log } from '#/lib/log.ts';
import type { Libvirt } from '#/libvirt/libvirt.ts';
import { hasLibvirtCode, LibvirtCode } from '#/libvirt/errors.ts';
import { NbdDisk } from '#/nbd/nbd-client.ts';
import type { BaselineStore } from '#/replication/baseline.ts';
import type { DigestRecord } from '#/replication/digest-record.ts';
import { GROUP_BLOCKS } from '#/replication/limits.ts';
import { readRecordState, ReplicaRecord, type RecordState } from '#/replication/replica-record.ts';
import { checkpointName } from '#/agent/checkpoint-names.ts';
import { dropCheckpoint } from '#/agent/own-tracking.ts';

/** Digests of 64 MiB of disk, read and written together. */
const PIECE_BYTES: number = 64 * GROUP_BLOCKS * DIGEST_BYTES;
/** Most of a row that one question about zeroes covers. */
const SPAN_BYTES: number = 256 * PIECE_BYTES;

export type BaselineParts = {
  dataDirectory: string;
  /** The connection as it is now. Throws `unreachable` while there is none. */
  libvirt: () => Libvirt;
  log: Log;
};

export type KeptPoint = {
  vmUuid: string;
  digests: PointDigests;
  tracking: string;
  /** Of the disks that are tracked, by their keys. */
  imageIds: ReadonlyMap<string, string>;
};

export class Baselines {
  readonly #parts: BaselineParts;
  readonly #directory: string;
  readonly #fs: NodeFileSystem;
  readonly #known = new Map<string, RecordState | undefined>();

  constructor(parts: BaselineParts) {
    this.#parts = parts;
    this.#directory = join(parts.dataDirectory, 'baselines');
    this.#fs = new NodeFileSystem(this.#directory);
  }

  /** As the cycles of a VM see it. */
  of(vmUuid: string): BaselineStore {
    return {
      digestKey: async () => (await this.#state(vmUuid))?.digestKey,
      open: () => this.#open(vmUuid),
      drop: (tracking) => this.#drop(vmUuid, tracking),
    };
  }

  /** The tracking of a VM's baseline; undefined when it has none. */
  async tracking(vmUuid: string): Promise<string | undefined> {
    return (await this.#state(vmUuid))?.tracking;
  }

  /** Copies the digests of a served point. Throws storage_corrupt when they are not that, and what NBD throws. */
  async keep(point: KeptPoint, onProgress: (bytes: number) => void, signal: AbortSignal): Promise<void> {
    const { vmUuid, digests: said, tracking, imageIds } = point;
    await this.remove(vmUuid);
    await this.#prepare();
    await using record = await ReplicaRecord.open(this.#fs, vmUuid, nameOf(vmUuid));
    await record.doubt();
    const tracked = said.disks.filter(({ key }) => imageIds.has(key));
    await record.setDisks(tracked.map(({ key, bytes }) => ({ key, bytes })));
    for (const { key, root } of tracked) {
      const digests = record.digests(key);
      await copyRow({ socketPath: said.socket_path, key, digests, onProgress }, signal);
      await digests.datasync();
      if ((await digests.root()) === root) continue;
      throw new Failure('storage_corrupt', `keep the digests of ${key}: they are not those of its point`);
    }
    const head = { sequence: said.sequence, stamp: said.stamp, momentMs: said.moment_ms };
    const disks = record.state.disks.map((disk) => ({ ...disk, imageId: imageIds.get(disk.key) ?? '' }));
    const { replicaId } = record.state;
    const state = { replicaId, head, digestKey: said.digest_key, tracking, disks, isWhole: true };
    await record.save(state);
    this.#known.set(vmUuid, state);
  }

  /** Removes what is kept, and nothing in libvirt. */
  async remove(vmUuid: string): Promise<void> {
    this.#known.set(vmUuid, undefined);
    await rm(join(this.#directory, vmUuid), { recursive: true, force: true });
  }

  /** The keys of digests are in it: nobody else reads there. */
  async #prepare(): Promise<void> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
  }

  /** The state of a whole baseline. */
  async #state(vmUuid: string): Promise<RecordState | undefined> {
    if (this.#known.has(vmUuid)) return this.#known.get(vmUuid);
    await this.#prepare();
    const isThere = (await this.#fs.list('')).includes(vmUuid);
    const found = isThere ? await readRecordState(this.#fs, vmUuid, nameOf(vmUuid)) : undefined;
    const state = found?.isWhole === true && found.tracking !== undefined ? found : undefined;
    this.#known.set(vmUuid, state);
    return state;
  }

  async #open(vmUuid: string): Promise<ReplicaRecord | undefined> {
    if ((await this.#state(vmUuid)) === undefined) return undefined;
    return await ReplicaRecord.open(this.#fs, vmUuid, nameOf(vmUuid));
  }

  /** The checkpoint first: while the files are there, a later try knows its name. */
  async #drop(vmUuid: string, kept: string | undefined): Promise<void> {
    const state = await this.#state(vmUuid);
    if (state === undefined) return;
    try {
      if (state.tracking !== undefined && state.tracking !== kept) {
        await this.#dropTracking(vmUuid, state.tracking);
      }
      await this.remove(vmUuid);
    } catch (error) {
      if (failureIn(error) === undefined) throw error;
      // Nothing depends on it: the next cycle finds it again.
      this.#known.set(vmUuid, state);
      this.#parts.log.warning('baseline.remains', { vm: vmUuid, ...failureFields(error) });
    }
  }

  async #dropTracking(vmUuid: string, tracking: string): Promise<void> {
    try {
      const domain = await this.#parts.libvirt().lookupDomainByUuid(vmUuid);
      await dropCheckpoint(await domain.checkpoints.lookup(checkpointName('', tracking)));
    } catch (error) {
      if (!hasLibvirtCode(error, LibvirtCode.noDomain, LibvirtCode.noCheckpoint)) throw error;
    }
  }
}

function nameOf(vmUuid: string): string {
  return `baseline-${vmUuid}`;
}

async function copyRow(
  from: { socketPath: string; key: string; digests: DigestRecord; onProgress: (bytes: number) => void },
  signal: AbortSignal,
): Promise<void> {
  const { socketPath, key, digests, onProgress } = from;
  const address = { kind: 'unix', path: socketPath } as const;
  await using row = await NbdDisk.connect({ address, exportName: key }, signal);
  const rowBytes = digests.blocks * DIGEST_BYTES;
  if (row.bytes < rowBytes) {
    throw new Failure('storage_corrupt', `keep the digests of ${key}: ${row.bytes} bytes, not ${rowBytes}`);
  }
  for (let at = 0; at < rowBytes;) {
    const span = Math.min(SPAN_BYTES, row.bytes - at);
    for (const { offset, length, kind } of await row.extents(at, span, signal)) {
      at = offset + length;
      if (kind === 'data')
        await copyPieces(row, digests, { from: offset, until: Math.min(at, rowBytes) }, signal);
      onProgress(Math.min(at, rowBytes));
    }
  }
}

/** Groups are whole from the first one on: pieces begin where one of them does. */
async function copyPieces(
  row: NbdDisk,
  digests: DigestRecord,
  { from, until }: { from: number; until: number },
  signal: AbortSignal,
): Promise<void> {
  const groupBytes = GROUP_BLOCKS * DIGEST_BYTES;
  const end = Math.min(Math.ceil(until / groupBytes) * groupBytes, digests.blocks * DIGEST_BYTES);
  for (let at = from - (from % groupBytes); at < end; at += PIECE_BYTES) {
    const piece = new Uint8Array(Math.min(PIECE_BYTES, end - at));
    await row.read(at, piece, signal);
    await digests.writeGroups(at / groupBytes, piece);
  }
}
