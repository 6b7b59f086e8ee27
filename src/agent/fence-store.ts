/**
 * The fence records of a host, one file for each VM, named by its UUID (docs/fencing.md, section 3).
 *
 * Invariant: after a crash at any step a VM's record is the one before or the one after, and never older than one that
 * `raise` has resolved for. A record is replaced only by a claim that supersedes it, and removed never.
 */
import type { FileSystem } from '#/disk/file-system.ts';
import { supersedes } from '#/lib/epoch-claim.ts';
import { Failure, failureIn, hasCode } from '#/lib/failure.ts';
import { Mutex } from '#/lib/mutex.ts';
import { decodeFence, encodeFence, FENCE_BYTES_MAX, VM_UUID, type FenceRecord } from './fence-record.ts';

/** More than the VMs of a site. */
const RECORDS_MAX = 20_000;
/** No site's id: of the record by which the start hook is seen at work. */
const CHECK_SITE = 'start-check';

export class FenceStore {
  readonly #files: FileSystem;
  readonly #directory: string;
  readonly #records = new Map<string, FenceRecord>();
  readonly #turn = new Mutex();

  constructor(files: FileSystem, directory: string) {
    this.#files = files;
    this.#directory = directory;
  }

  /**
   * Reads all of them. Returns what is wrong with those that cannot be read: they stay on disk, where the start hook
   * refuses by them, until an order of the manager replaces them.
   */
  async load(): Promise<Failure[]> {
    await this.#files.makeDirectory(this.#directory);
    await this.#files.syncDirectory('');
    const failures: Failure[] = [];
    for (const name of await this.#files.list(this.#directory)) {
      if (!VM_UUID.test(name)) {
        // A record that was being written when we died.
        if (name.endsWith('.new')) await this.#files.remove(`${this.#directory}/${name}`);
        continue;
      }
      try {
        const record = await this.#read(name);
        if (record.claim.site_id === CHECK_SITE) await this.#files.remove(`${this.#directory}/${name}`);
        else this.#records.set(name, record);
      } catch (error) {
        const failure = failureIn(error);
        if (failure === undefined) throw error;
        failures.push(new Failure(failure.code, `read the fence record of VM ${name}`, { cause: error }));
      }
    }
    // What was read is acted on, so it must outlive a power loss, also when its name was not synced before.
    await this.#files.syncDirectory(this.#directory);
    return failures;
  }

  records(): FenceRecord[] {
    return [...this.#records.values()];
  }

  get(vmUuid: string): FenceRecord | undefined {
    return this.#records.get(vmUuid);
  }

  /** Records the claim durably if it supersedes what is known. True when it did. Throws storage_full, storage_io. */
  async raise(record: FenceRecord): Promise<boolean> {
    const { vm_uuid: uuid } = record.claim;
    return await this.#turn.run(async () => {
      const known = this.#records.get(uuid);
      if (known !== undefined && !supersedes(record.claim, known.claim)) return false;
      if (known === undefined && this.#records.size >= RECORDS_MAX) {
        throw new Failure('limit_exceeded', `this host has fence records of ${RECORDS_MAX} VMs already`);
      }
      await this.#write(uuid, encodeFence(record));
      this.#records.set(uuid, record);
      return true;
    });
  }

  /** A record by which the start of a VM that does not exist is refused, for as long as it is held. */
  async check(vmUuid: string): Promise<AsyncDisposable> {
    const signature = 'A'.repeat(86);
    const claim = { vm_uuid: vmUuid, epoch: 2, site_id: CHECK_SITE, issued_ms: 1, signature };
    const name = 'antipode-start-check';
    await this.#turn.run(() => this.#write(vmUuid, encodeFence({ claim, siteName: name, vmName: name })));
    return { [Symbol.asyncDispose]: () => this.#files.remove(`${this.#directory}/${vmUuid}`) };
  }

  async #read(name: string): Promise<FenceRecord> {
    await using file = await this.#files.open(`${this.#directory}/${name}`, 'read');
    const bytes = new Uint8Array(Math.min(await file.bytes(), FENCE_BYTES_MAX + 1));
    const record = decodeFence(bytes.subarray(0, await file.read(0, bytes)));
    if (record.claim.vm_uuid === name) return record;
    throw new Failure('storage_corrupt', `it is the record of VM ${record.claim.vm_uuid}`);
  }

  /** Write beside, datasync, rename, sync the directory. */
  async #write(name: string, bytes: Uint8Array): Promise<void> {
    const path = `${this.#directory}/${name}`;
    const beside = `${path}.new`;
    try {
      await this.#files.remove(beside);
    } catch (error) {
      if (!hasCode(error, 'not_found')) throw error;
    }
    {
      await using file = await this.#files.open(beside, 'create-new');
      await file.write(0, bytes);
      await file.datasync();
    }
    await this.#files.rename(beside, path);
    await this.#files.syncDirectory(this.#directory);
  }
}
