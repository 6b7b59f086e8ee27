/** For tests: a file system in memory that can crash at any operation and keep any part of what was not synced. */
import { Failure } from '#/lib/failure.ts';
import { chance, SeededRandom, type Random } from '#/lib/random.ts';
import type { File, FileSystem, OpenMode } from '#/disk/file-system.ts';
import type { Clock } from '#/lib/clock.ts';

type Change = { offset: number; bytes: Uint8Array } | { truncate: number };
type Inode = { current: Uint8Array; durable: Uint8Array; unsynced: Change[] };

export class CrashingFileSystem implements FileSystem {
  operations = 0;
  /** The operation, counted from 0, at which everything stops. */
  crashAt: number = Infinity;
  #names = new Map<string, Inode>();
  #durableNames = new Map<string, Inode>();

  /** What a machine finds after the power came back. */
  afterCrash(random: Random = new SeededRandom(1)): CrashingFileSystem {
    const next = new CrashingFileSystem();
    for (const [path, inode] of this.#durableNames) {
      let bytes = inode.durable;
      for (const change of inode.unsynced) {
        if (chance(random, 0.5)) continue;
        const isTorn = !('truncate' in change) && chance(random, 0.3);
        bytes = apply(
          bytes,
          isTorn ? { ...change, bytes: change.bytes.subarray(0, change.bytes.length >> 1) } : change,
        );
      }
      const kept = { current: bytes, durable: bytes, unsynced: [] };
      next.#names.set(path, kept);
      next.#durableNames.set(path, kept);
    }
    return next;
  }

  /** Flips a bit of a file, durably, as a failing disk does. */
  corrupt(path: string, offset: number): void {
    const inode = this.#names.get(path)!;
    inode.current = Uint8Array.from(inode.current);
    inode.current[offset]! ^= 1;
    inode.durable = inode.current;
  }

  async open(path: string, mode: OpenMode): Promise<File> {
    this.#step();
    let inode = this.#names.get(path);
    if (inode === undefined && (mode === 'read' || mode === 'read-write'))
      throw new Failure('not_found', path);
    if (inode !== undefined && mode === 'create-new') throw new Failure('already_exists', path);
    if (inode === undefined) {
      inode = { current: new Uint8Array(0), durable: new Uint8Array(0), unsynced: [] };
      this.#names.set(path, inode);
    }
    return new MemoryFile(inode, () => this.#step());
  }

  async rename(source: string, target: string): Promise<void> {
    this.#step();
    const inode = this.#names.get(source);
    if (inode === undefined) throw new Failure('not_found', source);
    this.#names.delete(source);
    this.#names.set(target, inode);
  }

  async remove(path: string): Promise<void> {
    this.#step();
    if (!this.#names.delete(path)) throw new Failure('not_found', path);
  }

  async makeDirectory(): Promise<void> {
    this.#step();
  }

  async removeDirectory(): Promise<void> {
    this.#step();
  }

  async list(path: string): Promise<string[]> {
    const inside = [...this.#names.keys()].filter((name) => name.startsWith(`${path}/`));
    return inside.map((name) => name.slice(path.length + 1)).toSorted();
  }

  async syncDirectory(path: string): Promise<void> {
    this.#step();
    for (const name of this.#durableNames.keys()) {
      if (name.startsWith(`${path}/`) && !this.#names.has(name)) this.#durableNames.delete(name);
    }
    for (const [name, inode] of this.#names) {
      if (name.startsWith(`${path}/`)) this.#durableNames.set(name, inode);
    }
  }

  async freeBytes(): Promise<number> {
    return 2 ** 40;
  }

  #step(): void {
    if (this.operations++ >= this.crashAt) throw new Failure('storage_io', 'the machine is off');
  }
}

class MemoryFile implements File {
  readonly #inode: Inode;
  readonly #step: () => void;

  constructor(inode: Inode, step: () => void) {
    this.#inode = inode;
    this.#step = step;
  }

  async read(offset: number, target: Uint8Array): Promise<number> {
    const from = this.#inode.current.subarray(offset, offset + target.length);
    target.set(from);
    return from.length;
  }

  async write(offset: number, bytes: Uint8Array): Promise<void> {
    this.#change({ offset, bytes: Uint8Array.from(bytes) });
  }

  async truncate(bytes: number): Promise<void> {
    this.#change({ truncate: bytes });
  }

  async punch(offset: number, length: number): Promise<void> {
    const end = Math.min(offset + length, this.#inode.current.length);
    if (end > offset) this.#change({ offset, bytes: new Uint8Array(end - offset) });
  }

  async datasync(): Promise<void> {
    this.#step();
    this.#inode.durable = this.#inode.current;
    this.#inode.unsynced = [];
  }

  async bytes(): Promise<number> {
    return this.#inode.current.length;
  }

  async [Symbol.asyncDispose](): Promise<void> {}

  #change(change: Change): void {
    this.#step();
    this.#inode.current = apply(this.#inode.current, change);
    this.#inode.unsynced.push(change);
  }
}

function apply(bytes: Uint8Array, change: Change): Uint8Array {
  const length =
    'truncate' in change ? change.truncate : Math.max(bytes.length, change.offset + change.bytes.length);
  const next = new Uint8Array(length);
  next.set(bytes.subarray(0, length));
  if (!('truncate' in change)) next.set(change.bytes, change.offset);
  return next;
}

/**
 * A clock on which time passes only while everybody sleeps: once nothing else is left to do, it moves to the earliest
 * waking. Works as long as what it drives waits for nothing but promises in memory.
 */
export class VirtualClock implements Clock {
  nowMs = 1_000_000;
  readonly #sleepers = new Set<{ wakeMs: number; wake: () => void }>();
  #isPumping = false;

  now(): number {
    return this.nowMs;
  }

  monotonicMs(): number {
    return this.nowMs;
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) {
        reject(signal.reason as Error);
        return;
      }
      const stop = (): void => {
        this.#sleepers.delete(sleeper);
        reject(signal?.reason as Error);
      };
      const wake = (): void => {
        signal?.removeEventListener('abort', stop);
        resolve();
      };
      const sleeper = { wakeMs: this.nowMs + Math.max(0, ms), wake };
      this.#sleepers.add(sleeper);
      signal?.addEventListener('abort', stop, { once: true });
      this.#pump();
    });
  }

  /** Promises that are settled run before the next turn of the event loop. */
  #pump(): void {
    if (this.#isPumping) return;
    this.#isPumping = true;
    setImmediate(() => {
      this.#isPumping = false;
      const [next] = [...this.#sleepers].toSorted((a, b) => a.wakeMs - b.wakeMs);
      if (next === undefined) return;
      this.#sleepers.delete(next);
      this.nowMs = Math.max(this.nowMs, next.wakeMs);
      next.wake();
      this.#pump();
    });
  }
}
