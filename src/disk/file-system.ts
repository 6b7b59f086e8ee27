/**
 * The file operations that durable state is built on, as a dependency: the real one, and the simulation's, which
 * loses unsynced writes at a crash, tears them, fills up and fails.
 *
 * Paths are relative to the root that the implementation was made for, with `/` between components.
 * Rules that callers rely on:
 * - A write is durable after `datasync` of the same file resolved; a crash before may keep any part of it.
 * - A created, renamed or removed name is durable after `syncDirectory` of its directory resolved.
 * - A file that is open stays readable after its name was removed or replaced.
 * All methods throw Failure: `not_found`, `already_exists`, `storage_full`, `storage_io`.
 */

export interface File extends AsyncDisposable {
  /** Reads up to `target.length` bytes; the count is short only at the end of the file. */
  read(offset: number, target: Uint8Array): Promise<number>;
  /** Writes all of `bytes`, growing the file when needed; a gap between the old end and `offset` reads as zeroes. */
  write(offset: number, bytes: Uint8Array): Promise<void>;
  datasync(): Promise<void>;
  truncate(bytes: number): Promise<void>;
  /** Makes a range read as zeroes and gives its space back where the file system can. */
  punch(offset: number, length: number): Promise<void>;
  /** Length of the file in bytes. */
  bytes(): Promise<number>;
  /** Bytes it takes on disk, without its holes; left out where that cannot be told. */
  allocatedBytes?(): Promise<number>;
}

export type OpenMode = 'read' | 'read-write' | 'create' | 'create-new';

export interface FileSystem {
  /** `create` opens or makes the file for reading and writing; `create-new` refuses one that exists. */
  open(path: string, mode: OpenMode): Promise<File>;
  /** Replaces `target` atomically. */
  rename(source: string, target: string): Promise<void>;
  remove(path: string): Promise<void>;
  /** Makes the directory and its parents; no error when it exists. */
  makeDirectory(path: string): Promise<void>;
  removeDirectory(path: string): Promise<void>;
  /** Names in a directory, sorted; `not_found` when there is none. */
  list(path: string): Promise<string[]>;
  syncDirectory(path: string): Promise<void>;
  /** Bytes that can still be written. */
  freeBytes(): Promise<number>;
}
