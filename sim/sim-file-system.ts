/**
 * The FileSystem port of one program over a medium: takes time, fails and fills up by the site's conditions, and
 * stops with the program.
 *
 * A write reaches the medium at some instant between call and completion, so calls that are not awaited overtake
 * each other.
 */
import { Failure } from '#/lib/failure.ts';
import type { FailureCode } from '#/lib/failure.ts';
import type { File, FileSystem, OpenMode } from '#/disk/file-system.ts';
import { chance } from '#/lib/random.ts';
import type { Random } from '#/lib/random.ts';
import { waitMs } from './chance.ts';
import type { Fence } from './fence.ts';
import { MediumDirectory, MediumFile } from './medium.ts';
import type { Medium } from './medium.ts';
import type { Timeline } from './timeline.ts';

/** How a site's storage behaves at the moment. */
export type StorageConditions = { errorRate: number; operationMs: number };

export type FileSystemParts = {
  medium: Medium;
  timeline: Timeline;
  random: Random;
  fence: Fence;
  conditions: StorageConditions;
  /** Called before every operation takes effect: the place where a program dies between two of them. */
  onOperation?: (name: string, path: string) => void;
};

/** What the checkers watch. */
export type FileSystemGauges = { openFiles: number; openFilesMax: number; writtenBytes: number };

export class SimFileSystem implements FileSystem {
  readonly gauges: FileSystemGauges = { openFiles: 0, openFilesMax: 0, writtenBytes: 0 };
  readonly #parts: FileSystemParts;

  constructor(parts: FileSystemParts) {
    this.#parts = parts;
  }

  open(path: string, mode: OpenMode): Promise<File> {
    return this.#operate('open', path, () => {
      const { directory, name } = this.#locate(path);
      let node = directory.current.get(name);
      if (node instanceof MediumDirectory) throw failure('storage_io', `open ${path}: is a directory`);
      if (node && mode === 'create-new') throw failure('already_exists', `create ${path}`);
      if (!node) {
        if (mode === 'read' || mode === 'read-write') throw failure('not_found', `open ${path}`);
        node = new MediumFile();
        this.#parts.medium.name(directory, { set: { name, node } });
      }
      this.gauges.openFiles++;
      this.gauges.openFilesMax = Math.max(this.gauges.openFilesMax, this.gauges.openFiles);
      return new SimFile(this, node, path, mode === 'read');
    });
  }

  rename(source: string, target: string): Promise<void> {
    return this.#operate('rename', target, () => {
      const from = this.#locate(source);
      const to = this.#locate(target);
      const node = from.directory.current.get(from.name);
      if (!node) throw failure('not_found', `rename ${source}`);
      if (from.directory === to.directory) {
        this.#parts.medium.name(from.directory, { drop: from.name, set: { name: to.name, node } });
        return;
      }
      // Two directories are synced apart: until then a crash may show the file at both places or at the old one.
      this.#parts.medium.name(to.directory, { set: { name: to.name, node } });
      this.#parts.medium.name(from.directory, { drop: from.name });
    });
  }

  remove(path: string): Promise<void> {
    return this.#operate('remove', path, () => {
      const { directory, name } = this.#locate(path);
      if (!(directory.current.get(name) instanceof MediumFile)) throw failure('not_found', `remove ${path}`);
      this.#parts.medium.name(directory, { drop: name });
    });
  }

  makeDirectory(path: string): Promise<void> {
    return this.#operate('makeDirectory', path, () => {
      let at = this.#parts.medium.root;
      for (const name of components(path)) {
        let next = at.current.get(name);
        if (next instanceof MediumFile) throw failure('already_exists', `make directory ${path}`);
        if (!next) {
          next = new MediumDirectory();
          this.#parts.medium.name(at, { set: { name, node: next } });
        }
        at = next;
      }
    });
  }

  removeDirectory(path: string): Promise<void> {
    return this.#operate('removeDirectory', path, () => {
      const { directory, name } = this.#locate(path);
      const node = directory.current.get(name);
      if (!(node instanceof MediumDirectory)) throw failure('not_found', `remove directory ${path}`);
      if (node.current.size > 0) throw failure('storage_io', `remove directory ${path}: not empty`);
      this.#parts.medium.name(directory, { drop: name });
    });
  }

  list(path: string): Promise<string[]> {
    return this.#operate('list', path, () => [...this.#directory(path).current.keys()].sort());
  }

  syncDirectory(path: string): Promise<void> {
    const mark = this.#parts.medium.mark();
    return this.#operate('syncDirectory', path, () => {
      this.#parts.medium.syncNames(this.#directory(path), mark);
    });
  }

  freeBytes(): Promise<number> {
    return this.#operate('freeBytes', '', () => this.#free());
  }

  /** The operations of an open file; `effect` happens at an instant before the promise resolves. */
  async ofFile<T>(name: string, path: string, effect: () => T): Promise<T> {
    return this.#operate(name, path, effect);
  }

  write(file: MediumFile, path: string, offset: number, bytes: Uint8Array): Promise<void> {
    return this.#operate('write', path, () => {
      if (bytes.length > this.#free())
        throw failure('storage_full', `write ${bytes.length} bytes to ${path}`);
      this.gauges.writtenBytes += bytes.length;
      this.#parts.medium.change(file, { kind: 'write', offset, bytes: bytes.slice() });
    });
  }

  datasync(file: MediumFile, path: string): Promise<void> {
    const { medium, conditions, random } = this.#parts;
    const mark = medium.mark();
    return this.#operate('datasync', path, () => {
      if (chance(random, conditions.errorRate)) {
        medium.failSync(file, mark, random);
        throw failure('storage_io', `datasync ${path}`);
      }
      medium.syncFile(file, mark);
    });
  }

  change(file: MediumFile, change: Parameters<Medium['change']>[1]): void {
    this.#parts.medium.change(file, change);
  }

  #operate<T>(name: string, path: string, effect: () => T): Promise<T> {
    const { timeline, random, fence, conditions } = this.#parts;
    const totalMs = waitMs(random, conditions.operationMs);
    const effectMs = totalMs * random.next();
    return fence.guard(
      new Promise<T>((resolve, reject) => {
        timeline.after(effectMs, () => {
          if (fence.alive) this.#parts.onOperation?.(name, path);
          if (!fence.alive) return;
          try {
            if (chance(random, conditions.errorRate)) throw failure('storage_io', `${name} ${path}`);
            const result = effect();
            timeline.after(totalMs - effectMs, () => resolve(result));
          } catch (error) {
            timeline.after(totalMs - effectMs, () => reject(error as Error));
          }
        });
      }),
    );
  }

  #free(): number {
    return Math.max(0, this.#parts.medium.capacityBytes - this.#parts.medium.usedBytes());
  }

  #directory(path: string): MediumDirectory {
    let at: MediumDirectory = this.#parts.medium.root;
    for (const name of components(path)) {
      const next = at.current.get(name);
      if (!(next instanceof MediumDirectory)) throw failure('not_found', `find directory ${path}`);
      at = next;
    }
    return at;
  }

  #locate(path: string): { directory: MediumDirectory; name: string } {
    const names = components(path);
    const name = names.pop();
    if (name === undefined) throw failure('storage_io', 'operate on the root directory');
    return { directory: this.#directory(names.join('/')), name };
  }
}

class SimFile implements File {
  readonly #fileSystem: SimFileSystem;
  readonly #file: MediumFile;
  readonly #path: string;
  readonly #isReadOnly: boolean;
  #isOpen = true;

  constructor(fileSystem: SimFileSystem, file: MediumFile, path: string, isReadOnly: boolean) {
    this.#fileSystem = fileSystem;
    this.#file = file;
    this.#path = path;
    this.#isReadOnly = isReadOnly;
  }

  read(offset: number, target: Uint8Array): Promise<number> {
    this.#check(false);
    return this.#fileSystem.ofFile('read', this.#path, () => this.#file.current.read(offset, target));
  }

  write(offset: number, bytes: Uint8Array): Promise<void> {
    this.#check(true);
    return this.#fileSystem.write(this.#file, this.#path, offset, bytes);
  }

  datasync(): Promise<void> {
    this.#check(false);
    return this.#fileSystem.datasync(this.#file, this.#path);
  }

  truncate(bytes: number): Promise<void> {
    this.#check(true);
    return this.#fileSystem.ofFile('truncate', this.#path, () => {
      this.#fileSystem.change(this.#file, { kind: 'truncate', bytes });
    });
  }

  punch(offset: number, length: number): Promise<void> {
    this.#check(true);
    return this.#fileSystem.ofFile('punch', this.#path, () => {
      this.#fileSystem.change(this.#file, { kind: 'punch', offset, length });
    });
  }

  bytes(): Promise<number> {
    this.#check(false);
    return this.#fileSystem.ofFile('bytes', this.#path, () => this.#file.current.bytes);
  }

  [Symbol.asyncDispose](): Promise<void> {
    if (this.#isOpen) this.#fileSystem.gauges.openFiles--;
    this.#isOpen = false;
    return Promise.resolve();
  }

  /** Using a closed file, or writing to one opened for reading, is a bug of the program, not of the world. */
  #check(isWrite: boolean): void {
    if (!this.#isOpen) throw new Error(`simulated program uses ${this.#path} after closing it`);
    if (isWrite && this.#isReadOnly)
      throw new Error(`simulated program writes to ${this.#path} opened for reading`);
  }
}

function components(path: string): string[] {
  return path.split('/').filter((name) => name !== '' && name !== '.');
}

function failure(code: FailureCode, what: string): Failure {
  return new Failure(code, `simulated storage: ${what}`);
}
