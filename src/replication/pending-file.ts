/**
 * What a cycle found, written beside the digest record before `commit` is sent: the redo journal of one point.
 *
 *   offset  bytes  field
 *        0      4  magic "APPJ"
 *        4      2  version
 *        6     10  reserved, zero
 *       16      .  entries, one for each changed group
 *        .      J  the record's state once the point is acknowledged, as JSON
 *        .     16  trailer: magic "APPE", length J (4), crc32 of the JSON, crc32 of the 12 bytes before
 *
 *   entry: disk (2), group (6), changed bitmap (32), level-1 node (16), crc32 of the entry without this field (4),
 *          16 bytes for each set bit: the new digests
 *
 * A file without its trailer belongs to a point whose `commit` was never sent. Integers are big-endian. Pure.
 */
import assert from 'node:assert/strict';
import { crc32 } from 'node:zlib';
import { DIGEST_BYTES } from '#/disk/digest.ts';
import type { File, FileSystem } from '#/disk/file-system.ts';
import { blocksIn, type Run } from '#/wire/segment.ts';
import { extendRuns, type GroupChange } from './block-codec.ts';
import { GROUP_BLOCKS } from './limits.ts';

const MAGIC = 0x4150504a;
const END_MAGIC = 0x41505045;
const VERSION = 1;
const HEAD_BYTES = 16;
const TRAILER_BYTES = 16;
const BITMAP_BYTES = GROUP_BLOCKS / 8;
const ENTRY_HEAD_BYTES = 8 + BITMAP_BYTES + DIGEST_BYTES + 4;
const CRC_AT = ENTRY_HEAD_BYTES - 4;
const ENTRY_BYTES_MAX = ENTRY_HEAD_BYTES + GROUP_BLOCKS * DIGEST_BYTES;
/** Entries gather up to this many bytes before they are written. */
const BUFFER_BYTES = 64 * 1024;
/** Nothing that we write is longer: 64 disks, each with its ranges to compare again. */
const STATE_BYTES_MAX = 8 * 2 ** 20;

export type PendingEntry = {
  disk: number;
  group: number;
  changed: Uint8Array;
  node: Uint8Array;
  /** Of the changed blocks, in order. */
  digests: Uint8Array;
};

/** Appends entries; `finish` makes the journal complete and durable. */
export class PendingWriter implements AsyncDisposable {
  readonly #file: File;
  /** What is to be written next, at `#offset`; long only once there is an entry. */
  #buffer: Uint8Array<ArrayBuffer> = head();
  #buffered: number = HEAD_BYTES;
  #offset = 0;
  #isEmpty = true;
  #finished: { state: string; isEmpty: boolean } | undefined;

  /** `isNamed`: the file's name is durable already. */
  static async create(fs: FileSystem, directory: string, isNamed: boolean): Promise<PendingWriter> {
    const file = await fs.open(pathIn(directory), 'create');
    try {
      if (!isNamed) await fs.syncDirectory(directory);
      await file.truncate(0);
      return new PendingWriter(file);
    } catch (error) {
      await file[Symbol.asyncDispose]();
      throw error;
    }
  }

  private constructor(file: File) {
    this.#file = file;
  }

  /** What the file says, once it is complete and durable. */
  get finished(): { state: string; isEmpty: boolean } | undefined {
    return this.#finished;
  }

  async add(disk: number, group: number, change: GroupChange): Promise<void> {
    if (this.#isEmpty) this.#makeRoom();
    if (this.#buffered + ENTRY_BYTES_MAX > BUFFER_BYTES) await this.#flush();
    const at = this.#buffered;
    const view = new DataView(this.#buffer.buffer, at);
    view.setUint16(0, disk);
    view.setUint16(2, Math.floor(group / 2 ** 32));
    view.setUint32(4, group >>> 0);
    this.#buffer.set(change.changed, at + 8);
    this.#buffer.set(change.node, at + 8 + BITMAP_BYTES);
    let end = at + ENTRY_HEAD_BYTES;
    for (const { first, count } of setRuns(change.changed)) {
      const digests = change.digests.subarray(first * DIGEST_BYTES, (first + count) * DIGEST_BYTES);
      this.#buffer.set(digests, end);
      end += digests.length;
    }
    view.setUint32(CRC_AT, entryChecksum(this.#buffer.subarray(at, end)));
    this.#buffered = end;
  }

  /** After this the journal stands whatever happens; `state` is the record's once the point is acknowledged. */
  async finish(state: string): Promise<void> {
    const text = new TextEncoder().encode(state);
    assert(text.length <= STATE_BYTES_MAX, 'state in a journal is too long');
    const trailerAt = this.#buffered + text.length;
    const end = new Uint8Array(trailerAt + TRAILER_BYTES);
    end.set(this.#buffer.subarray(0, this.#buffered));
    end.set(text, this.#buffered);
    const trailer = end.subarray(trailerAt);
    const view = new DataView(end.buffer, trailerAt);
    view.setUint32(0, END_MAGIC);
    view.setUint32(4, text.length);
    view.setUint32(8, crc32(text));
    view.setUint32(12, crc32(trailer.subarray(0, 12)));
    await this.#file.write(this.#offset, end);
    await this.#file.datasync();
    this.#finished = { state, isEmpty: this.#isEmpty };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file[Symbol.asyncDispose]();
  }

  #makeRoom(): void {
    const buffer = new Uint8Array(BUFFER_BYTES);
    buffer.set(this.#buffer);
    this.#buffer = buffer;
    this.#isEmpty = false;
  }

  async #flush(): Promise<void> {
    await this.#file.write(this.#offset, this.#buffer.subarray(0, this.#buffered));
    this.#offset += this.#buffered;
    this.#buffered = 0;
  }
}

/** A complete journal. */
export class PendingReader implements AsyncDisposable {
  readonly state: string;
  readonly #file: File;
  readonly #end: number;

  /** Undefined when there is none, or one that was never finished. */
  static async open(fs: FileSystem, directory: string): Promise<PendingReader | undefined> {
    if (!(await fs.list(directory)).includes(NAME)) return undefined;
    const file = await fs.open(pathIn(directory), 'read');
    const reader = await read(file);
    if (reader === undefined) await file[Symbol.asyncDispose]();
    return reader;
  }

  constructor(file: File, parts: { state: string; end: number }) {
    this.#file = file;
    this.state = parts.state;
    this.#end = parts.end;
  }

  /** Throws nothing of its own: an entry that does not hold ends the iteration with `false` returned. */
  async *entries(): AsyncGenerator<PendingEntry, boolean> {
    const buffer = new Uint8Array(BUFFER_BYTES);
    let filled = 0;
    for (let next = HEAD_BYTES; next < this.#end || filled > 0;) {
      const wanted = Math.min(BUFFER_BYTES - filled, this.#end - next);
      const count = await this.#file.read(next, buffer.subarray(filled, filled + wanted));
      next += count;
      filled += count;
      let at = 0;
      for (;;) {
        const entry = decodeEntry(buffer.subarray(at, filled));
        if (entry === undefined) break;
        yield entry;
        at += ENTRY_HEAD_BYTES + entry.digests.length;
      }
      if (at === 0) return false;
      buffer.copyWithin(0, at, filled);
      filled -= at;
    }
    return true;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file[Symbol.asyncDispose]();
  }
}

/** Makes the journal one that was never finished. The file stays, so that its name need not be synced again. */
export async function clearPending(fs: FileSystem, directory: string): Promise<void> {
  if (!(await fs.list(directory)).includes(NAME)) return;
  await using file = await fs.open(pathIn(directory), 'read-write');
  if ((await file.bytes()) === 0) return;
  await file.truncate(0);
  await file.datasync();
}

function head(): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(HEAD_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, MAGIC);
  view.setUint16(4, VERSION);
  return bytes;
}

const NAME = 'pending';

function pathIn(directory: string): string {
  return `${directory}/${NAME}`;
}

/** Runs of set bits, ascending, none touching another: of a first copy there is one. */
export function setRuns(bitmap: Uint8Array): Run[] {
  const runs: Run[] = [];
  for (let byte = 0; byte < bitmap.length; byte++) {
    if (bitmap[byte] === 0xff) {
      extendRuns(runs, byte * 8, 8);
      continue;
    }
    for (let bits = bitmap[byte]!; bits !== 0; bits &= bits - 1) {
      extendRuns(runs, byte * 8 + (31 - Math.clz32(bits & -bits)));
    }
  }
  return runs;
}

async function read(file: File): Promise<PendingReader | undefined> {
  const head = await bytesAt(file, 0, HEAD_BYTES);
  if (head === undefined) return undefined;
  const view = new DataView(head.buffer);
  if (view.getUint32(0) !== MAGIC || view.getUint16(4) !== VERSION) return undefined;
  const trailerAt = (await file.bytes()) - TRAILER_BYTES;
  if (trailerAt < HEAD_BYTES) return undefined;
  const trailer = await bytesAt(file, trailerAt, TRAILER_BYTES);
  if (trailer === undefined) return undefined;
  const end = new DataView(trailer.buffer);
  if (end.getUint32(0) !== END_MAGIC || end.getUint32(12) !== crc32(trailer.subarray(0, 12)))
    return undefined;
  const stateBytes = end.getUint32(4);
  if (stateBytes > Math.min(STATE_BYTES_MAX, trailerAt - HEAD_BYTES)) return undefined;
  const text = await bytesAt(file, trailerAt - stateBytes, stateBytes);
  if (text === undefined || crc32(text) !== end.getUint32(8)) return undefined;
  return new PendingReader(file, { state: new TextDecoder().decode(text), end: trailerAt - stateBytes });
}

async function bytesAt(
  file: File,
  offset: number,
  length: number,
): Promise<Uint8Array<ArrayBuffer> | undefined> {
  const bytes = new Uint8Array(length);
  return (await file.read(offset, bytes)) === length ? bytes : undefined;
}

function decodeEntry(bytes: Uint8Array): PendingEntry | undefined {
  if (bytes.length < ENTRY_HEAD_BYTES) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const changed = bytes.slice(8, 8 + BITMAP_BYTES);
  const length = ENTRY_HEAD_BYTES + blocksIn(setRuns(changed)) * DIGEST_BYTES;
  if (bytes.length < length) return undefined;
  const entry = bytes.subarray(0, length);
  if (view.getUint32(CRC_AT) !== entryChecksum(entry)) return undefined;
  return {
    disk: view.getUint16(0),
    group: view.getUint16(2) * 2 ** 32 + view.getUint32(4),
    changed,
    node: bytes.slice(8 + BITMAP_BYTES, CRC_AT),
    digests: bytes.slice(ENTRY_HEAD_BYTES, length),
  };
}

/** The checksum skips its own four bytes. */
function entryChecksum(entry: Uint8Array): number {
  return crc32(entry.subarray(ENTRY_HEAD_BYTES), crc32(entry.subarray(0, CRC_AT)));
}
