/**
 * A FileSystem over the simulation's medium, for crash tests: before every operation that changes something it calls
 * back, and the test looks at what a power loss at that instant would leave.
 */
import { Failure } from '#/lib/failure.ts';
import type { File, FileSystem, OpenMode } from '#/disk/file-system.ts';
import { MediumDirectory, MediumFile, type Medium } from '#sim/medium.ts';

export type Operation =
  | 'create'
  | 'write'
  | 'datasync'
  | 'truncate'
  | 'punch'
  | 'rename'
  | 'remove'
  | 'makeDirectory'
  | 'removeDirectory'
  | 'syncDirectory';

export type CrashHooks = {
  /** Called before an operation takes effect; it may throw a Failure instead. */
  before?: (operation: Operation, path: string) => Promise<void> | void;
  /** Operations that are left out without a word: what a program forgets to do. */
  forgets?: (operation: Operation, path: string) => boolean;
};

export class CrashFileSystem implements FileSystem {
  readonly #medium: Medium;
  readonly #hooks: CrashHooks;

  constructor(medium: Medium, hooks: CrashHooks = {}) {
    this.#medium = medium;
    this.#hooks = hooks;
  }

  async open(path: string, mode: OpenMode): Promise<File> {
    const { directory, name } = this.#locate(path);
    const found = directory.current.get(name);
    if (found instanceof MediumFile) {
      if (mode === 'create-new') throw new Failure('already_exists', `create ${path}`);
      return this.#file(found, path);
    }
    if (mode === 'read' || mode === 'read-write') throw new Failure('not_found', `open ${path}`);
    const node = new MediumFile();
    await this.change('create', path, () => this.#medium.name(directory, { set: { name, node } }));
    return this.#file(node, path);
  }

  async rename(source: string, target: string): Promise<void> {
    const from = this.#locate(source);
    const to = this.#locate(target);
    const node = from.directory.current.get(from.name);
    if (node === undefined) throw new Failure('not_found', `rename ${source}`);
    await this.change('rename', target, () => {
      if (from.directory === to.directory) {
        this.#medium.name(to.directory, { drop: from.name, set: { name: to.name, node } });
        return;
      }
      this.#medium.name(to.directory, { set: { name: to.name, node } });
      this.#medium.name(from.directory, { drop: from.name });
    });
  }

  async remove(path: string): Promise<void> {
    const { directory, name } = this.#locate(path);
    if (!directory.current.has(name)) throw new Failure('not_found', `remove ${path}`);
    await this.change('remove', path, () => this.#medium.name(directory, { drop: name }));
  }

  async makeDirectory(path: string): Promise<void> {
    let at = this.#medium.root;
    for (const name of path.split('/').filter((each) => each !== '')) {
      const found = at.current.get(name);
      if (found instanceof MediumDirectory) {
        at = found;
        continue;
      }
      const node = new MediumDirectory();
      const parent = at;
      await this.change('makeDirectory', path, () => this.#medium.name(parent, { set: { name, node } }));
      at = node;
    }
  }

  async removeDirectory(path: string): Promise<void> {
    const { directory, name } = this.#locate(path);
    await this.change('removeDirectory', path, () => this.#medium.name(directory, { drop: name }));
  }

  async list(path: string): Promise<string[]> {
    return [...this.#directory(path).current.keys()].sort();
  }

  async syncDirectory(path: string): Promise<void> {
    const directory = this.#directory(path);
    const mark = this.#medium.mark();
    await this.change('syncDirectory', path, () => this.#medium.syncNames(directory, mark));
  }

  async freeBytes(): Promise<number> {
    return Math.max(0, this.#medium.capacityBytes - this.#medium.usedBytes());
  }

  async change(operation: Operation, path: string, effect: () => void): Promise<void> {
    await this.#hooks.before?.(operation, path);
    if (this.#hooks.forgets?.(operation, path) !== true) effect();
  }

  #file(node: MediumFile, path: string): File {
    const medium = this.#medium;
    return {
      read: async (offset, target) => node.current.read(offset, target),
      write: (offset, bytes) =>
        this.change('write', path, () => {
          if (medium.usedBytes() + bytes.length > medium.capacityBytes) {
            throw new Failure('storage_full', `write ${bytes.length} bytes to ${path}`);
          }
          medium.change(node, { kind: 'write', offset, bytes: bytes.slice() });
        }),
      datasync: () => {
        const mark = medium.mark();
        return this.change('datasync', path, () => medium.syncFile(node, mark));
      },
      truncate: (bytes) =>
        this.change('truncate', path, () => medium.change(node, { kind: 'truncate', bytes })),
      punch: (offset, length) =>
        this.change('punch', path, () => medium.change(node, { kind: 'punch', offset, length })),
      bytes: async () => node.current.bytes,
      [Symbol.asyncDispose]: async () => {},
    };
  }

  #directory(path: string): MediumDirectory {
    let at: MediumDirectory = this.#medium.root;
    for (const name of path.split('/').filter((each) => each !== '')) {
      const next = at.current.get(name);
      if (!(next instanceof MediumDirectory)) throw new Failure('not_found', `find directory ${path}`);
      at = next;
    }
    return at;
  }

  #locate(path: string): { directory: MediumDirectory; name: string } {
    const at = path.lastIndexOf('/');
    return { directory: this.#directory(path.slice(0, Math.max(0, at))), name: path.slice(at + 1) };
  }
}
