/**
 * The log of recovery points as a file: append-only, each record durable before `append` resolves, written anew when
 * it has grown long (docs/storage-format.md, section 4).
 *
 * Invariant: the state in memory is never ahead of what is durable. When an append fails, the record is taken out of
 * the file again before anything else is appended, so that nobody can find a record that was refused.
 */
import type { File, FileSystem } from '#/disk/file-system.ts';
import { Failure } from '#/lib/failure.ts';
import { pathIn, readWhole, removeIfThere, writeFileDurably } from './files.ts';
import { LOG_GROWTH } from './limits.ts';
import {
  decodeLog,
  decodeLogHeader,
  encodeLogHeader,
  encodeRecord,
  LOG_HEADER_BYTES,
  type LogContent,
} from './log-frame.ts';
import type { LogRecord } from './log-record.ts';
import { applyRecord, EMPTY_STATE, type LogState } from './log-state.ts';

const NAME = 'points.log';
/** More would not have been written: the log is written anew long before. */
const LOG_BYTES_MAX: number = 1024 * 1024 * 1024;

export type LogPlace = { files: FileSystem; directory: string; tag: Uint8Array };

export class PointLog implements AsyncDisposable {
  readonly #place: LogPlace;
  /** A shorter log is not worth writing anew. */
  readonly #bytesMin: number;
  #file: File;
  #state: LogState;
  #generation: number;
  #count: number;
  #end: number;
  /** Set while the file may hold bytes behind `#end`. */
  #hasTail: boolean;
  #summaryBytes: number;
  #isNameSynced = true;
  #last: Promise<unknown> = Promise.resolve();

  static async create(place: LogPlace): Promise<void> {
    const where = { directory: place.directory, name: NAME };
    await writeFileDurably(place.files, where, encodeLogHeader(place.tag, 0));
  }

  /** Opens for appending. What it finds is made durable first: a program killed before us may not have synced it. */
  static async open(place: LogPlace, bytesMin: number): Promise<PointLog> {
    const file = await place.files.open(pathIn(place.directory, NAME), 'read-write');
    try {
      await file.datasync();
      const content = decodeLog(await readWhole(file, LOG_BYTES_MAX), place.tag);
      return new PointLog(place, file, { content, bytesMin });
    } catch (error) {
      await file[Symbol.asyncDispose]();
      throw error;
    }
  }

  private constructor(
    place: LogPlace,
    file: File,
    { content, bytesMin }: { content: LogContent; bytesMin: number },
  ) {
    this.#bytesMin = bytesMin;
    this.#place = place;
    this.#file = file;
    this.#state = content.records.reduce(applyRecord, EMPTY_STATE);
    this.#generation = content.generation;
    this.#count = content.records.length;
    this.#end = content.end;
    this.#hasTail = content.tornBytes > 0;
    this.#summaryBytes = 0;
  }

  get state(): LogState {
    return this.#state;
  }

  /** False while the file may hold a record that was refused: files it names have to stay. */
  get isSettled(): boolean {
    return !this.#hasTail;
  }

  /** Resolves when the record is durable; the state then includes it. */
  append(record: LogRecord): Promise<void> {
    const done = this.#last.then(() => this.#append(record));
    this.#last = done.catch(() => undefined);
    return done;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#last;
    await this.#file[Symbol.asyncDispose]();
  }

  async #append(record: LogRecord): Promise<void> {
    await this.#syncName();
    await this.#cutTail();
    const state = applyRecord(this.#state, record);
    const bytes = encodeRecord(record, this.#count);
    this.#hasTail = true;
    try {
      await this.#file.write(this.#end, bytes);
      await this.#file.datasync();
    } catch (error) {
      await this.#cutTail().catch(() => undefined);
      throw error;
    }
    this.#hasTail = false;
    this.#end += bytes.length;
    this.#count++;
    this.#state = state;
    if (this.#end > Math.max(this.#bytesMin, this.#summaryBytes * LOG_GROWTH)) {
      // The record is durable already: a log that cannot be shortened now is shortened with a later record.
      await this.#rewrite().catch(() => undefined);
    }
  }

  /** Takes away what stands behind the last record, durably. */
  async #cutTail(): Promise<void> {
    if (!this.#hasTail) return;
    try {
      await this.#file.truncate(this.#end);
      await this.#file.datasync();
    } catch (error) {
      throw new Failure('storage_io', `cut ${NAME} back to ${this.#end} bytes`, { cause: error });
    }
    this.#hasTail = false;
  }

  async #rewrite(): Promise<void> {
    const { files, directory, tag } = this.#place;
    const header = encodeLogHeader(tag, this.#generation + 1);
    const summary = encodeRecord({ kind: 'summary', ...this.#state }, 0);
    const bytes = new Uint8Array(header.length + summary.length);
    bytes.set(header);
    bytes.set(summary, header.length);
    decodeLog(bytes, tag);
    this.#summaryBytes = bytes.length;
    const temporary = pathIn(directory, `${NAME}.new`);
    await removeIfThere(files, temporary);
    const file = await files.open(temporary, 'create-new');
    try {
      await file.write(0, bytes);
      await file.datasync();
      await files.rename(temporary, pathIn(directory, NAME));
    } catch (error) {
      await file[Symbol.asyncDispose]();
      throw error;
    }
    const old = this.#file;
    this.#file = file;
    this.#generation++;
    this.#count = 1;
    this.#end = bytes.length;
    this.#isNameSynced = false;
    await old[Symbol.asyncDispose]();
    await this.#syncName();
  }

  /** Until the new log's name is durable, a power loss brings the old log back, so nothing is appended before. */
  async #syncName(): Promise<void> {
    if (this.#isNameSynced) return;
    await this.#place.files.syncDirectory(this.#place.directory);
    this.#isNameSynced = true;
  }
}

/** The log as one sees it who does not hold the replica's lock: read again when it has changed. */
export class LogReader {
  readonly #place: LogPlace;
  #seen: { generation: number; bytes: number; state: LogState } | undefined;

  constructor(place: LogPlace) {
    this.#place = place;
  }

  /** The state as the file says it now. */
  async refresh(): Promise<LogState> {
    await using file = await this.#place.files.open(pathIn(this.#place.directory, NAME), 'read');
    const bytes = await file.bytes();
    const header = new Uint8Array(LOG_HEADER_BYTES);
    const count = await file.read(0, header);
    const generation = decodeLogHeader(header.subarray(0, count), this.#place.tag);
    if (this.#seen?.generation === generation && this.#seen.bytes === bytes) return this.#seen.state;
    const content = decodeLog(await readWhole(file, LOG_BYTES_MAX), this.#place.tag);
    const state = content.records.reduce(applyRecord, EMPTY_STATE);
    // A torn tail may be a record that is being written: its length alone does not say that it was seen.
    this.#seen = content.tornBytes === 0 ? { generation, bytes: content.end, state } : undefined;
    return state;
  }
}
