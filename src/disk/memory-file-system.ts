/**
 * A FileSystem in memory, for tests: everything is durable at once and nothing ever fails but what callers do wrong.
 * Faults are the simulation's business, which has a file system of its own.
 */
import { Failure } from '#/lib/failure.ts';
import type { File, FileSystem, OpenMode } from './file-system.ts';
import { checkRelativePath } from './relative-path.ts';

type Content = { bytes: Uint8Array; length: number };

export class MemoryFileSystem implements FileSystem {
  readonly #files = new Map<string, Content>();
  readonly #directories = new Set<string>(['']);
  readonly #capacityBytes: number;

  constructor(capacityBytes: number = 2 ** 30) {
    this.#capacityBytes = capacityBytes;
  }

  async open(path: string, mode: OpenMode): Promise<File> {
    checkRelativePath(path, 'file');
    this.#needParent(path);
    if (this.#directories.has(path)) throw new Failure('storage_io', `open the directory ${path} as a file`);
    let content = this.#files.get(path);
    if (content !== undefined && mode === 'create-new') throw new Failure('already_exists', `create ${path}`);
    if (content === undefined) {
      if (mode === 'read' || mode === 'read-write') throw new Failure('not_found', `open ${path}`);
      content = { bytes: new Uint8Array(0), length: 0 };
      this.#files.set(path, content);
    }
    return new MemoryFile(content, { path, isReadOnly: mode === 'read', room: () => this.#room() });
  }

  async rename(source: string, target: string): Promise<void> {
    checkRelativePath(target, 'file');
    const content = this.#find(source);
    this.#needParent(target);
    if (this.#directories.has(target)) throw new Failure('storage_io', `rename ${source} over a directory`);
    this.#files.delete(source);
    this.#files.set(target, content);
  }

  async remove(path: string): Promise<void> {
    if (this.#directories.has(path))
      throw new Failure('storage_io', `remove the directory ${path} as a file`);
    this.#find(path);
    this.#files.delete(path);
  }

  async makeDirectory(path: string): Promise<void> {
    checkRelativePath(path, 'directory');
    const names = path.split('/');
    for (let depth = 1; depth <= names.length; depth++) {
      const directory = names.slice(0, depth).join('/');
      if (this.#files.has(directory)) throw new Failure('already_exists', `make the directory ${directory}`);
      this.#directories.add(directory);
    }
  }

  async removeDirectory(path: string): Promise<void> {
    checkRelativePath(path, 'file');
    if ((await this.list(path)).length > 0)
      throw new Failure('storage_io', `remove ${path}, which is not empty`);
    this.#directories.delete(path);
  }

  async list(path: string): Promise<string[]> {
    checkRelativePath(path, 'directory');
    if (!this.#directories.has(path)) throw new Failure('not_found', `list ${path}`);
    const names = [...this.#files.keys(), ...this.#directories].filter(
      (each) => each !== '' && parent(each) === path,
    );
    return names.map((each) => each.slice(path === '' ? 0 : path.length + 1)).toSorted();
  }

  async syncDirectory(path: string): Promise<void> {
    await this.list(path);
  }

  async freeBytes(): Promise<number> {
    return this.#room();
  }

  #room(): number {
    let used = 0;
    for (const content of this.#files.values()) used += content.length;
    return Math.max(0, this.#capacityBytes - used);
  }

  #find(path: string): Content {
    checkRelativePath(path, 'file');
    const content = this.#files.get(path);
    if (content === undefined) throw new Failure('not_found', `find ${path}`);
    return content;
  }

  #needParent(path: string): void {
    if (!this.#directories.has(parent(path))) throw new Failure('not_found', `find the directory of ${path}`);
  }
}

type Opened = { path: string; isReadOnly: boolean; room: () => number };

class MemoryFile implements File {
  readonly #content: Content;
  readonly #opened: Opened;

  constructor(content: Content, opened: Opened) {
    this.#content = content;
    this.#opened = opened;
  }

  async read(offset: number, target: Uint8Array): Promise<number> {
    const { bytes, length } = this.#content;
    const count = Math.max(0, Math.min(target.length, length - offset));
    target.set(bytes.subarray(offset, offset + count));
    return count;
  }

  async write(offset: number, bytes: Uint8Array): Promise<void> {
    this.#resize(Math.max(this.#content.length, offset + bytes.length));
    this.#content.bytes.set(bytes, offset);
  }

  async datasync(): Promise<void> {}

  async truncate(bytes: number): Promise<void> {
    this.#content.bytes.fill(0, Math.min(bytes, this.#content.length));
    this.#resize(bytes);
  }

  async punch(offset: number, length: number): Promise<void> {
    this.#resize(this.#content.length);
    this.#content.bytes.fill(0, offset, Math.min(offset + length, this.#content.length));
  }

  async bytes(): Promise<number> {
    return this.#content.length;
  }

  async [Symbol.asyncDispose](): Promise<void> {}

  #resize(length: number): void {
    const { path, isReadOnly, room } = this.#opened;
    if (isReadOnly) throw new Failure('storage_io', `write to ${path}, which is open for reading`);
    const content = this.#content;
    if (length > content.length && length - content.length > room()) {
      throw new Failure('storage_full', `grow ${path} to ${length} bytes`);
    }
    if (length > content.bytes.length) {
      const grown = new Uint8Array(Math.max(length, content.bytes.length * 2));
      grown.set(content.bytes.subarray(0, content.length));
      content.bytes = grown;
    }
    content.length = length;
  }
}

function parent(path: string): string {
  const at = path.lastIndexOf('/');
  return at < 0 ? '' : path.slice(0, at);
}
