/**
 * Open files of a replica, shared and bounded: a replica may have thousands of delta files, a process far more
 * replicas than it may open files. A file in use is never closed. Pure.
 */
import type { File, FileSystem, OpenMode } from '#/disk/file-system.ts';

type Handle = { file: Promise<File>; users: number };

export class HandlePool implements AsyncDisposable {
  readonly files: FileSystem;
  readonly #mode: OpenMode;
  readonly #countMax: number;
  /** In order of last use. */
  readonly #handles = new Map<string, Handle>();

  constructor(files: FileSystem, mode: OpenMode, countMax: number) {
    this.files = files;
    this.#mode = mode;
    this.#countMax = countMax;
  }

  /** Calls `action` with the open file. Throws not_found when there is none. */
  async use<T>(path: string, action: (file: File) => Promise<T>): Promise<T> {
    const handle = this.#handles.get(path) ?? { file: this.files.open(path, this.#mode), users: 0 };
    this.#handles.delete(path);
    this.#handles.set(path, handle);
    handle.users++;
    try {
      return await action(await handle.file);
    } catch (error) {
      if (await isRejected(handle.file)) this.#forget(path, handle);
      throw error;
    } finally {
      handle.users--;
      await this.#trim();
    }
  }

  /** Closes the file at `path` when it is open and idle: before its name is removed. */
  async close(path: string): Promise<void> {
    const handle = this.#handles.get(path);
    if (handle === undefined || handle.users > 0) return;
    this.#forget(path, handle);
    await (await handle.file)[Symbol.asyncDispose]();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const handles = [...this.#handles.values()];
    this.#handles.clear();
    for (const { file } of handles) {
      if (!(await isRejected(file))) await (await file)[Symbol.asyncDispose]();
    }
  }

  #forget(path: string, handle: Handle): void {
    if (this.#handles.get(path) === handle) this.#handles.delete(path);
  }

  async #trim(): Promise<void> {
    for (const [path, handle] of this.#handles) {
      if (this.#handles.size <= this.#countMax) return;
      if (handle.users === 0) await this.close(path);
    }
  }
}

function isRejected(file: Promise<File>): Promise<boolean> {
  return file.then(
    () => false,
    () => true,
  );
}
