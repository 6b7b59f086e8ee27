/**
 * Long writes of an open file past the page cache, where that can be: to copy a gigabyte into the cache costs more
 * processor time than all else that receiving it costs a disk, and throws out what others have in it.
 *
 * The kernel wants memory, offset and length at borders of blocks; a file system without direct writes refuses the
 * first one, and no more are tried. Invariant: `tryWrite` that is false has written nothing that counts. Both ways may
 * be mixed: the kernel keeps them coherent, and a `datasync` of the file covers both.
 */
import { constants } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { beginsAtPage } from './digest-memory.ts';
import { BLOCK_BYTES } from './disk.ts';

/** Shorter writes are better gathered by the cache. */
const DIRECT_BYTES_MIN = 512 * 1024;
/**
 * A direct write holds one of libuv's four threads for as long as the disk takes. Further ones go through the cache:
 * a slow disk is no reason for other files to wait.
 */
const DIRECT_IN_FLIGHT = 2;
/** What a file system answers that has no direct writes, or not of these lengths. */
const REFUSALS = new Set(['EINVAL', 'EOPNOTSUPP', 'ENOTSUP']);

export class DirectWrites implements AsyncDisposable {
  readonly #descriptor: number;
  /** Undefined when there are none to be had. */
  #handle: Promise<FileHandle | undefined> | undefined;
  #inFlight = 0;

  /** `descriptor` stays open as long as this. */
  constructor(descriptor: number) {
    this.#descriptor = descriptor;
  }

  /** False when the bytes have to be written another way. */
  async tryWrite(offset: number, bytes: Uint8Array): Promise<boolean> {
    const isAligned = offset % BLOCK_BYTES === 0 && bytes.length % BLOCK_BYTES === 0 && beginsAtPage(bytes);
    if (!isAligned || bytes.length < DIRECT_BYTES_MIN || this.#inFlight === DIRECT_IN_FLIGHT) return false;
    this.#inFlight++;
    try {
      this.#handle ??= this.#open();
      const handle = await this.#handle;
      if (handle === undefined) return false;
      const { bytesWritten } = await handle.write(bytes, 0, bytes.length, offset);
      // A short one says that something is the matter, which the other way will be told.
      return bytesWritten === bytes.length;
    } catch (error) {
      if (!isRefusal(error)) throw error;
      await this.#giveUp();
      return false;
    } finally {
      this.#inFlight--;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#giveUp();
  }

  async #open(): Promise<FileHandle | undefined> {
    try {
      // The very file, whatever has become of its name.
      return await open(`/proc/self/fd/${this.#descriptor}`, constants.O_WRONLY | constants.O_DIRECT);
    } catch {
      // Whatever the reason is: the other way is as good, or fails and says why.
      return undefined;
    }
  }

  async #giveUp(): Promise<void> {
    const handle = await this.#handle;
    this.#handle = Promise.resolve(undefined);
    await handle?.close();
  }
}

function isRefusal(error: unknown): boolean {
  return error instanceof Error && 'code' in error && REFUSALS.has(String(error.code));
}
