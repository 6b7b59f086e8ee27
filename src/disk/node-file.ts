/**
 * An open file of this machine.
 *
 * Node has no call to punch a hole, so a long range is punched by util-linux's `fallocate`, which is given this very
 * file as descriptor 3: it works also after the name is gone. Where that cannot be done the range is overwritten with
 * zeroes; the promise of reading zeroes holds either way.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { FileHandle } from 'node:fs/promises';
import { DirectWrites } from './direct-writes.ts';
import { BLOCK_BYTES } from './disk.ts';
import type { File } from './file-system.ts';
import { asStorage } from './storage-failure.ts';

/** A shorter hole is overwritten: starting a program costs more than writing this much. */
const PUNCH_BYTES_MIN = 64 * 1024;
const ZEROES = new Uint8Array(256 * 1024);

export class NodeFile implements File {
  readonly #handle: FileHandle;
  readonly #path: string;
  readonly #direct: DirectWrites;

  constructor(handle: FileHandle, path: string) {
    this.#handle = handle;
    this.#path = path;
    this.#direct = new DirectWrites(handle.fd);
  }

  read(offset: number, target: Uint8Array): Promise<number> {
    return asStorage(`read ${target.length} bytes at ${offset} of ${this.#path}`, async () => {
      let count = 0;
      while (count < target.length) {
        const { bytesRead } = await this.#handle.read(target, count, target.length - count, offset + count);
        if (bytesRead === 0) break;
        count += bytesRead;
      }
      return count;
    });
  }

  write(offset: number, bytes: Uint8Array): Promise<void> {
    return asStorage(`write ${bytes.length} bytes at ${offset} of ${this.#path}`, () =>
      this.#write(offset, bytes),
    );
  }

  datasync(): Promise<void> {
    return asStorage(`sync ${this.#path}`, () => this.#handle.datasync());
  }

  truncate(bytes: number): Promise<void> {
    return asStorage(`truncate ${this.#path} to ${bytes} bytes`, () => this.#handle.truncate(bytes));
  }

  punch(offset: number, length: number): Promise<void> {
    return asStorage(`punch ${length} bytes at ${offset} of ${this.#path}`, async () => {
      const end = Math.min(offset + length, await this.bytes());
      const first = Math.ceil(offset / BLOCK_BYTES) * BLOCK_BYTES;
      const last = Math.floor(end / BLOCK_BYTES) * BLOCK_BYTES;
      if (last - first < PUNCH_BYTES_MIN || !(await this.#fallocate(first, last - first))) {
        await this.#overwrite(offset, end);
        return;
      }
      await this.#overwrite(offset, first);
      await this.#overwrite(last, end);
    });
  }

  async bytes(): Promise<number> {
    return asStorage(`ask for the length of ${this.#path}`, async () => (await this.#handle.stat()).size);
  }

  async allocatedBytes(): Promise<number> {
    return asStorage(
      `ask for the blocks of ${this.#path}`,
      async () => (await this.#handle.stat()).blocks * 512,
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await asStorage(`close ${this.#path}`, async () => {
      await this.#direct[Symbol.asyncDispose]();
      await this.#handle.close();
    });
  }

  async #write(offset: number, bytes: Uint8Array): Promise<void> {
    if (await this.#direct.tryWrite(offset, bytes)) return;
    for (let done = 0; done < bytes.length;) {
      const { bytesWritten } = await this.#handle.write(bytes, done, bytes.length - done, offset + done);
      done += bytesWritten;
    }
  }

  async #overwrite(offset: number, end: number): Promise<void> {
    for (let at = offset; at < end; at += ZEROES.length) {
      await this.#write(at, ZEROES.subarray(0, Math.min(ZEROES.length, end - at)));
    }
  }

  /** False when the program is missing or the file system has no holes. */
  async #fallocate(offset: number, length: number): Promise<boolean> {
    const argv = ['--punch-hole', '--offset', String(offset), '--length', String(length), '/proc/self/fd/3'];
    const child = spawn('fallocate', argv, { stdio: ['ignore', 'ignore', 'ignore', this.#handle.fd] });
    try {
      const [code] = (await once(child, 'exit')) as [number | null];
      return code === 0;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
      throw error;
    }
  }
}
