/**
 * Files that belong to recovery points, kept by the hash of what they hold: definitions, firmware variables, TPM
 * state (docs/storage-format.md, section 2). Pure.
 */
import { hash } from 'node:crypto';
import type { FileSystem } from '#/disk/file-system.ts';
import { Failure, hasCode } from '#/lib/failure.ts';
import { ATTACHMENT_BYTES_MAX } from '#/wire/limits.ts';
import { corrupt } from './bytes.ts';
import { openIfThere, pathIn, readWhole, removeIfThere, writeFileDurably } from './files.ts';

const SHA256 = /^[0-9a-f]{64}$/;

export class AttachmentStore {
  readonly #files: FileSystem;
  readonly #directory: string;
  readonly #removals = new Map<string, Promise<void>>();

  constructor(files: FileSystem, directory: string) {
    this.#files = files;
    this.#directory = pathIn(directory, 'attachments');
  }

  async has(sha256: string): Promise<boolean> {
    await this.#removals.get(sha256);
    const file = await openIfThere(this.#files, this.#path(sha256), 'read');
    await file?.[Symbol.asyncDispose]();
    return file !== undefined;
  }

  /** Resolves when the bytes are durable. Throws protocol_corrupt when they are not what the hash says. */
  async put(sha256: string, bytes: Uint8Array): Promise<void> {
    this.#path(sha256);
    if (bytes.length > ATTACHMENT_BYTES_MAX || hash('sha256', bytes) !== sha256) {
      throw new Failure(
        'protocol_corrupt',
        `keep attachment ${sha256}: ${bytes.length} bytes of another hash`,
      );
    }
    if (await this.has(sha256)) return;
    await writeFileDurably(this.#files, { directory: this.#directory, name: sha256 }, bytes);
  }

  /** Throws not_found, storage_corrupt. */
  async get(sha256: string): Promise<Uint8Array> {
    const path = this.#path(sha256);
    try {
      await using file = await this.#files.open(path, 'read');
      const bytes = await readWhole(file, ATTACHMENT_BYTES_MAX + 1);
      if (hash('sha256', bytes) !== sha256) throw corrupt(path, 'hash');
      return bytes;
    } catch (error) {
      if (!hasCode(error, 'not_found')) throw error;
      throw new Failure('not_found', `read attachment ${sha256}: the replica does not hold it`, {
        cause: error,
      });
    }
  }

  /** Whoever asks for it meanwhile is answered when it is gone. */
  async remove(sha256: string): Promise<void> {
    const removal = removeIfThere(this.#files, this.#path(sha256));
    this.#removals.set(
      sha256,
      removal.catch(() => undefined),
    );
    try {
      await removal;
    } finally {
      this.#removals.delete(sha256);
    }
  }

  #path(sha256: string): string {
    if (!SHA256.test(sha256))
      throw new Failure('usage_invalid', `attachment ${sha256}: not a SHA-256 in hex`);
    return pathIn(this.#directory, sha256);
  }
}
