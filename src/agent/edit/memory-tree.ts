/** A guest's files in memory, for tests; it keeps the contract of `GuestTree` without a file system. */
import assert from 'node:assert/strict';
import type { FileKind, GuestTree } from './guest-tree.ts';

export class MemoryTree implements GuestTree {
  readonly files = new Map<string, { content: string; mode: number }>();
  readonly links = new Set<string>();
  /** Called before each change; throws to cut the work there. */
  beforeChange: () => void = () => undefined;

  constructor(files: Readonly<Record<string, string>>) {
    for (const [path, content] of Object.entries(files)) this.files.set(path, { content, mode: 0o644 });
  }

  get texts(): Record<string, string> {
    return Object.fromEntries([...this.files].map(([path, { content }]) => [path, content]));
  }

  async kind(path: string): Promise<FileKind> {
    if (this.links.has(path)) return 'link';
    if (this.files.has(path)) return 'file';
    return this.#below(path).length > 0 ? 'directory' : 'none';
  }

  async read(path: string): Promise<string> {
    const file = this.files.get(path);
    assert.ok(file, `${path} is read and is not there`);
    return file.content;
  }

  async list(directory: string): Promise<string[]> {
    const names = this.#below(directory).map((path) => path.slice(directory.length + 1).split('/')[0]!);
    return [...new Set(names)].toSorted();
  }

  async write(path: string, content: string, { mode }: { mode: number }): Promise<void> {
    this.beforeChange();
    this.files.set(path, { content, mode });
  }

  async copy(from: string, to: string): Promise<void> {
    this.beforeChange();
    const file = this.files.get(from);
    assert.ok(file, `${from} is copied and is not there`);
    this.files.set(to, { ...file });
  }

  async move(from: string, to: string): Promise<void> {
    this.beforeChange();
    for (const path of [from, ...this.#below(from)]) {
      const file = this.files.get(path);
      if (file === undefined) continue;
      this.files.delete(path);
      this.files.set(to + path.slice(from.length), file);
    }
  }

  async makeDirectory(): Promise<void> {
    this.beforeChange();
  }

  async remove(path: string): Promise<void> {
    this.beforeChange();
    for (const each of [path, ...this.#below(path)]) this.files.delete(each);
  }

  async sync(): Promise<void> {}

  #below(directory: string): string[] {
    return [...this.files.keys(), ...this.links].filter((path) => path.startsWith(`${directory}/`));
  }
}
